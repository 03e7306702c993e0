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

from mdvit_jax import errors, last_words
from mdvit_jax.io import lock

_ADDRESS, _COUNT, _INDEX = NAMES = (
    "JAX_COORDINATOR_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
)
_WAIT = 300  # seconds for all processes to meet: queues and pulled images take a while
_SHUTDOWN = 60  # seconds that a process which is done waits for the others
_GOES_ON = "What was saved before is intact; the same command goes on from there."


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
    given = [name for name in NAMES if environ.get(name)]
    if given:
        if missing := [name for name in NAMES if name not in given]:
            raise errors.UserError(
                f"The environment has {' and '.join(given)} but not "
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
    found = settings(os.environ)
    if found is None:
        return
    # JAX ends the program by a C++ abort when it waited in vain; a little before that:
    patience = threading.Timer(_WAIT, _give_up, [found])
    patience.daemon = True
    patience.start()
    try:
        jax.distributed.initialize(
            found.address,
            found.processes,
            found.process,
            cluster_detection_method=found.method,
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
    # JAX ends a process by a C++ abort when process 0 is gone, at once, and when it has
    # heard nothing of another for 100 s.
    last_words.leave(
        f"error: {_name()} was killed, or JAX ended it because another is gone (see "
        f"above, and what the others say). {_GOES_ON}"
    )
    if jax.process_index() != 0:
        logging.getLogger("mdvit_jax").setLevel(logging.ERROR)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A block in which one of several processes may be lost: the others are told.

    Anything else that is raised in it is a bug, which ends its process at once.

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
            f"{_name()} cannot go on ({reason}); see whether the others say why one "
            f"was lost. {_GOES_ON}"
        ) from error


def lost(error: BaseException | None) -> bool:
    """Whether JAX, or Orbax, failed as they do when another process is gone."""
    if jax.process_count() == 1:
        return False
    if isinstance(error, TimeoutError):
        return error.errno is None  # Orbax's, not the operating system's
    # An error of the runtime, "UNAVAILABLE: …", is a ValueError where the result of a
    # step that failed is read. What a single process may meet, too, is its own fault.
    told = "(?!RESOURCE_EXHAUSTED|INVALID_ARGUMENT|UNIMPLEMENTED)[A-Z_]+: "
    return isinstance(error, RuntimeError | ValueError) and bool(
        re.match(told, str(error))
    )


def alone(program: str) -> None:
    """Raise a UserError if this process is one of several."""
    found = settings(os.environ)
    if found is not None and found.processes is not None:
        raise errors.UserError(
            f"{program} computes in one process, but {found.processes} were started; "
            "start one (with Slurm: srun --ntasks=1)."
        )


def leave(code: int) -> NoReturn:
    """End the program; an error that was told ends it at once, whatever the others do.

    They are told by JAX that a process is lost. It would wait for them otherwise, and
    they for it.
    """
    told = (errors.UserError.exit_code, lock.Taken.exit_code, Lost.exit_code)
    if code in told and jax.distributed.is_initialized():
        _end(code)
    sys.exit(code)


def _name() -> str:
    return f"Process {jax.process_index()} of {jax.process_count()}"


def _end(code: int) -> NoReturn:
    last_words.take_back()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _give_up(found: Settings) -> None:
    where = f" at {found.address}" if found.address else ""
    every = f"The {found.processes} processes" if found.processes else "The processes"
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
