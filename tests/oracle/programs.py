"""The parts of a traced program."""

import jax


def equations(program):
    """All equations of a jaxpr and of the jaxprs within it."""
    for equation in program.eqns:
        yield equation
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")
        ):
            if hasattr(value, "eqns"):
                yield from equations(value)
