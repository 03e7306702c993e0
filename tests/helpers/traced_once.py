"""Training runs of a module share their programs.

A run traces and lowers for seconds what a run before it, in this process and of the
same network, has compiled already. Commands make their own programs.
"""

import contextlib
import gc

import pytest

from mdvit_jax.config import leaves
from mdvit_jax.training import pretrained, step, validation

# Neither a program nor a shape depends on these, as long as no schedule of the learning
# rate ends with the steps.
_FREE = {
    "workdir",
    "data.workers",
    "data.skip_unreadable",
    "optim.steps",
    "optim.start_from",
    "validation.every",
    "checkpoint.every",
    "checkpoint.keep",
    "stall_after",
}


@contextlib.contextmanager
def shared_programs():
    """Make a network's shapes, its step and its validation once in the block.

    Yields:
        What is made; when it is cleared, the next run makes its own.
    """
    made: dict = {}

    def once(module, name):
        create = getattr(module, name)

        def create_once(config, *more):
            assert config.optim.schedule == "staircase"
            values = sorted(item for item in leaves(config) if item[0] not in _FREE)
            key = name, module, repr(values)
            if key not in made:
                made[key] = create(config, *more)
            return made[key]

        patch.setattr(module, name, create_once)

    with pytest.MonkeyPatch.context() as patch:
        once(pretrained, "parameter_shapes")
        once(step, "create_step")
        once(validation, "create")
        gc.freeze()  # or each validation would search all that earlier tests left
        yield made
        gc.unfreeze()
