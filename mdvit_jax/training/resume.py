"""Go on with a run: its folder, held by one run at a time, and its newest state."""

import contextlib
import logging
from collections.abc import Iterator

import jax
import ml_collections
import numpy as np
from etils import epath

from mdvit_jax import errors
from mdvit_jax.config import describe_changes, read_config
from mdvit_jax.io import bucket, lock
from mdvit_jax.training import checkpoint, distributed, pretrained, setup, step

_logger = logging.getLogger(__name__)

# What may differ when a run is resumed: where files lie, whether scans may be missing,
# how the work is shared out, and how long it goes on.
_MAY_DIFFER = (
    *("workdir", "data.root", "data.cache", "data.workers", "data.skip_unreadable"),
    *("data.in_memory", "synthesis.heads"),
    *("optim.steps", "optim.cooldown", "optim.accumulate", "stall_after"),
)
_GROUPS_THAT_MAY_DIFFER = ("checkpoint.", "evaluation.", "mesh.")


@contextlib.contextmanager
def hold_folder(workdir: epath.Path) -> Iterator[None]:
    """Make the folder of a run, and keep a second run out of it while the block runs.

    In all processes a UserError says that another run is in it, or that they do not
    share it. A bucket has no locks: nothing keeps a second run out of one.
    """
    message = (
        f"another run is training in {workdir}; wait for its end, or name another "
        "folder with --config.workdir."
    )
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        taken = None
        if jax.process_index() == 0 and not bucket.in_bucket(workdir):
            try:
                stack.enter_context(lock.hold(workdir, message))
            except lock.Taken as error:
                taken = error
        if distributed.broadcast(taken is not None):
            raise lock.Taken(message) from taken
        if jax.process_count() > 1:
            _check_shared(workdir)
        yield


def _check_shared(workdir: epath.Path) -> None:
    """Raise a UserError, in all processes, if they do not see the same folder."""
    # A new name each time: machines remember names that they have looked up in vain.
    number = distributed.broadcast(int(np.random.default_rng().integers(2**31)))
    path = workdir / f".shared-{number}"
    if jax.process_index() == 0:
        path.write_text("")
    distributed.wait_for_all("process 0 has written a file")
    seen = distributed.all_agree(path.exists())
    if jax.process_index() == 0:
        path.unlink()
    if not seen:
        raise errors.UserError(
            f"The {jax.process_count()} processes do not see the same files in "
            f"{workdir}; name a folder that all machines share with --config.workdir."
        )


def check_same_run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
    """Raise a UserError if the folder holds a run under another configuration."""
    if not (workdir / "config.json").exists():
        return
    changes = describe_changes(
        read_config(workdir),
        config,
        lambda name: (
            name not in _MAY_DIFFER and not name.startswith(_GROUPS_THAT_MAY_DIFFER)
        ),
    )
    if changes:
        raise errors.UserError(
            f"{workdir} holds a run with {changes}; go on with its configuration, or "
            "name another folder with --config.workdir."
        )


def restore_or_create(
    config: ml_collections.ConfigDict,
    run: setup.Setup,
    saved: checkpoint.Checkpoints,
) -> tuple[step.TrainState, int]:
    """The state to go on from, and the number of steps behind it.

    In this order: the run's own newest checkpoint that can be used; the best
    parameters of what `optim.start_from` names; those drawn from the seed.
    """
    state = step.create_state(config, run.network, run.optimizer, run.mesh)
    if (restored := saved.restore(state)) is not None:
        _logger.info("Going on after step %d of %s.", restored[1], config.workdir)
        return restored
    if config.optim.start_from:
        params = pretrained.load_start(config.optim.start_from, state.params)
        _logger.info("Starting from the parameters of %s.", config.optim.start_from)
        state = state._replace(params=params)
    return state, 0
