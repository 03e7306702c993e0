"""The parts of a traced program, and the programs that are compiled."""

import contextlib
import logging

import jax


@contextlib.contextmanager
def compiled_programs():
    """A list that gets a line for each program that JAX compiles in the block."""
    programs, logger, handler = [], logging.getLogger("jax"), logging.Handler()

    def emit(record):
        if (text := record.getMessage()).startswith("Compiling "):
            programs.append(text)

    handler.emit, level = emit, logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    try:
        with jax.log_compiles():
            yield programs
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def equations(program):
    """All equations of a jaxpr and of the jaxprs within it."""
    for equation in program.eqns:
        yield equation
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")
        ):
            if hasattr(value, "eqns"):
                yield from equations(value)
