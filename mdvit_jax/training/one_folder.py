"""What several processes see of a run's folder, which one run at a time has.

Machines that share it by NFS remember for a while which files a folder has, and which
it has not: what process 0 has just written may be seen late by the others.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from mdvit_jax import errors
from mdvit_jax.io import lock
from mdvit_jax.training import folders

_WAIT = 60.0  # seconds; acdirmax, the longest that NFS remembers if not told otherwise
_POLL = 1.0  # seconds


@contextlib.contextmanager
def only_run_in(workdir: Path) -> Iterator[None]:
    """Make the folder of a run, and keep a second run out of it while the block runs.

    Raises:
        Taken: in all processes alike, another run is in it.
    """
    told = (
        f"another run is training in {workdir}; wait for its end, or name another "
        "folder with --config.workdir."
    )
    with contextlib.ExitStack() as stack:
        taken = None
        if jax.process_index() == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(lock.hold(workdir, told))
            except lock.Taken as error:
                taken = error
        if multihost_utils.broadcast_one_to_all(np.array(taken is not None)):
            raise lock.Taken(told) from taken
        yield


def check_one_folder(workdir: Path, first: int) -> None:
    """Raise a UserError, in all processes, if they do not share the folder of the run.

    Each waits for a while until it sees the configuration.

    Args:
        workdir: the run's folder, in which process 0 has saved the configuration.
        first: the steps behind the run, as this process sees it.
    """
    if jax.process_count() == 1:
        return
    multihost_utils.sync_global_devices("the configuration is saved")
    _check_all_see(workdir, (workdir / "config.json").exists, first)


def agreed_steps(saved: folders.Folders) -> list[int]:
    """The steps of a run's checkpoints as process 0 finds them, in rising order.

    Each process waits for a while until it sees all of them.

    Args:
        saved: those checkpoints, as this process sees them.

    Raises:
        UserError: in all processes, one of them does not see them.
    """
    steps = saved.steps()
    if jax.process_count() == 1:
        return steps
    # All processes broadcast the same shape, which only process 0 knows: that first.
    count = int(multihost_utils.broadcast_one_to_all(np.array(len(steps))))
    mine = np.resize(np.array(steps, np.int32), count)
    steps = multihost_utils.broadcast_one_to_all(mine).tolist()
    _check_all_see(saved.root.parent, lambda: set(steps) <= set(saved.steps()))
    return steps


def _check_all_see(workdir: Path, seen: Callable[[], bool], first: int = 0) -> None:
    """Wait until it is seen; a UserError, in all processes, if one waits in vain.

    Or if they have not the same number of steps behind them.
    """
    deadline = time.monotonic() + _WAIT
    while not (sees := seen()) and time.monotonic() < deadline:
        time.sleep(_POLL)
    of_all = multihost_utils.process_allgather(np.array([sees, first]))
    if not of_all[:, 0].all() or (of_all[:, 1] != first).any():
        raise errors.UserError(
            f"The {jax.process_count()} processes do not see the same files in "
            f"{workdir}; name a folder that all machines share with --config.workdir."
        )
