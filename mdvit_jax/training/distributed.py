"""One run in several processes: who they are, how they meet, and how they part.

Launchers tell each process its place through the environment. A process that was
started by itself finds nothing there, and neither waits nor prints.
"""

import contextlib
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from mdvit_jax import errors
from mdvit_jax.io import lock

_ADDRESS, _COUNT, _INDEX = NAMES = (
    "JAX_COORDINATOR_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
)
_WAIT = 300  # seconds for all processes to meet: queues and pulled images take a while
_SHUTDOWN = 60  # seconds that a process which is done waits for the others


class Lost(errors.UserError):
    """Another process is gone, or never came: nobody's mistake, to be started again."""

    exit_code = 128 + signal.SIGABRT  # as of a process that JAX ends for this


class Settings(NamedTuple):
    """How the processes of a run find each other; None is for JAX to find out."""

    address: str | None  # HOST:PORT of process 0
    processes: int | None
    process: int | None  # which of them this is
    method: str | None  # of `jax.distributed.initialize` to find out the rest


def settings(environ: Mapping[str, str]) -> Settings | None:
    """What the environment says, or None if this process is the only one.

    In this order: the three variables of `NAMES`, a step of several tasks that Slurm's
    srun started, a Cloud TPU machine, GKE's too.

    Raises:
        UserError: variables that are missing, or contradict one another.
    """
    # In a batch script, before srun, Slurm tells of tasks that it has not started.
    in_step = "SLURM_STEP_NODELIST" in environ and "SLURM_PROCID" in environ
    tasks = _number(environ, "SLURM_NTASKS") if in_step else 1
    present = [name for name in NAMES if environ.get(name)]
    if present:
        if missing := [name for name in NAMES if name not in present]:
            raise errors.UserError(
                f"The environment has {' and '.join(present)} but not "
                f"{' and '.join(missing)}; set all three, or none for one process."
            )
        count, index = _number(environ, _COUNT), _number(environ, _INDEX)
        if not 0 <= index < count:
            raise errors.UserError(
                f"{_INDEX} is {index} and {_COUNT} is {count}; processes are numbered "
                f"from 0 to {_COUNT} - 1."
            )
        if tasks not in (1, count):
            raise errors.UserError(
                f"{_COUNT} is {count}, but srun started {tasks} tasks; set it to "
                f"{tasks}, or unset {', '.join(NAMES)}, as Slurm says it all."
            )
        host, _, port = environ[_ADDRESS].rpartition(":")
        if not host or not port.isdecimal():
            raise errors.UserError(
                f"{_ADDRESS} is {environ[_ADDRESS]!r}; it is HOST:PORT of process 0."
            )
        if count == 1:
            return None
        return Settings(environ[_ADDRESS], count, index, "deactivate")
    if tasks > 1:
        return Settings(None, tasks, _number(environ, "SLURM_PROCID"), "slurm")
    workers = environ.get("TPU_PROCESS_ADDRESSES") or environ.get(
        "TPU_WORKER_HOSTNAMES", ""
    )
    # JAX, imported, sets the first variable where there are TPUs; the second where
    # there are none, or somebody who wants one machine of many by itself.
    if "TPU_ML_PLATFORM" in environ and (
        workers or "TPU_SKIP_MDS_QUERY" not in environ
    ):
        return Settings(None, None, None, None)
    return None


def join() -> None:
    """Meet the other processes, if there are any; to be called before JAX computes.

    Raises:
        UserError: the environment contradicts itself, or JAX cannot make sense of it.
    """
    place = settings(os.environ)
    if place is None:
        return
    # JAX ends the program by a C++ abort when it waited in vain; a little before that:
    patience = threading.Timer(_WAIT, _give_up, [place])
    patience.daemon = True
    patience.start()
    try:
        jax.distributed.initialize(
            place.address,
            place.processes,
            place.process,
            cluster_detection_method=place.method,
            initialization_timeout=_WAIT + 60,
            shutdown_timeout_seconds=_SHUTDOWN,
        )
    except (ValueError, RuntimeError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), "")[:200]
        raise errors.UserError(
            f"The processes of the run cannot meet ({type(error).__name__}: {reason}); "
            f"set {', '.join(NAMES)} in each of them."
        ) from error
    finally:
        patience.cancel()
    if jax.process_index() != 0:
        logging.getLogger("mdvit_jax").setLevel(logging.ERROR)


@contextlib.contextmanager
def handle_lost_process() -> Iterator[None]:
    """Turn what JAX raises when another process is gone into one sentence.

    Anything else that is raised in the block of one of several processes is a bug,
    which ends its process at once.

    Raises:
        Lost: JAX failed, as it does when it waits for a process that is gone.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1 or isinstance(error, errors.UserError):
            raise
        if not lost(error):
            traceback.print_exc()
            _end(1)
        reason = next(iter(str(error).strip().splitlines()), "")[:200]
        raise Lost(
            f"Process {jax.process_index()} of {jax.process_count()} cannot go on "
            f"({reason}); see whether the others say why one was lost. What was saved "
            "before is intact; the same command goes on from there."
        ) from error


def lost(error: BaseException | None) -> bool:
    """Whether JAX, or Orbax, failed as they do when another process is gone."""
    if jax.process_count() == 1:
        return False
    if isinstance(error, TimeoutError):
        return error.errno is None  # Orbax's, not the operating system's
    # An error of the runtime, "UNAVAILABLE: …", is a ValueError where the result of a
    # step that failed is read. What a single process may meet, too, is its own fault.
    status = "(?!RESOURCE_EXHAUSTED|INVALID_ARGUMENT|UNIMPLEMENTED)[A-Z_]+: "
    return isinstance(error, RuntimeError | ValueError) and bool(
        re.match(status, str(error))
    )


def require_one_process(program: str) -> None:
    """Raise a UserError if this process is one of several."""
    place = settings(os.environ)
    if place is not None and place.processes is not None:
        raise errors.UserError(
            f"{program} computes in one process, but {place.processes} were started; "
            "start one (with Slurm: srun --ntasks=1)."
        )


def leave(code: int) -> NoReturn:
    """End the program; one of several that failed ends at once, whatever others do.

    JAX says to them that a process is lost. It would wait for them otherwise, and they
    for it.
    """
    failed = (errors.UserError.exit_code, lock.Taken.exit_code, Lost.exit_code)
    if code in failed and jax.distributed.is_initialized():
        _end(code)
    sys.exit(code)


def wait_for_all(what: str) -> None:
    """Wait until all processes have come here."""
    multihost_utils.sync_global_devices(f"mdvit_jax: {what}")


def broadcast(number: int) -> int:
    """The number that process 0 calls this with; to be called by all together."""
    if jax.process_count() == 1:
        return int(number)
    return int(multihost_utils.broadcast_one_to_all(np.array(number)))


def all_agree(value: bool) -> bool:
    """Whether it is true in all processes; to be called by all together."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.array(value)).all())


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _give_up(place: Settings) -> None:
    where = f" at {place.address}" if place.address else ""
    every = f"The {place.processes} processes" if place.processes else "The processes"
    print(
        f"error: {every} of the run did not all meet{where} within {_WAIT} s; see "
        f"whether process 0 runs there and the others reach it, and whether {_COUNT} "
        "is how many were started.",
        file=sys.stderr,
    )
    _end(Lost.exit_code)


def _number(environ: Mapping[str, str], name: str) -> Any:
    text = environ.get(name, "")
    if not text.isdecimal():
        raise errors.UserError(f"{name} is {text!r}; it is a whole number.")
    return int(text)
