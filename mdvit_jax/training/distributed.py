"""One run in several processes: how they meet, agree and part."""

import contextlib
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from mdvit_jax import errors

_WAIT = 300  # seconds for all processes to meet: queues and pulled images take a while
_SHUTDOWN = 60  # seconds that a process which is done waits for the others


class Lost(errors.UserError):
    """Another process is gone, or never came; the same command may well succeed."""

    exit_code = 128 + signal.SIGABRT  # as when JAX itself ends a process for this


def join(place: Mapping[str, Any] | None) -> None:
    """Meet the other processes of the run, before JAX computes anything.

    `place` holds arguments of `jax.distributed.initialize` (`cli.cluster.find_place`);
    it is None for the only process. A UserError says that they cannot meet; if they do
    not in time, the program ends with the exit code of `Lost`.
    """
    if place is None:
        return
    # JAX would end the program by a C++ abort when its time is over: end it before.
    patience = threading.Timer(_WAIT, _give_up, [place])
    patience.daemon = True
    patience.start()
    try:
        jax.distributed.initialize(
            **place,
            initialization_timeout=_WAIT + 60,
            shutdown_timeout_seconds=_SHUTDOWN,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise errors.UserError(
            f"The processes of the run cannot meet ({first_line(error)}); see that "
            "each has its place in the environment."
        ) from error
    finally:
        patience.cancel()
    if jax.process_index() != 0:
        logging.getLogger("mdvit_jax").setLevel(logging.ERROR)


def _give_up(place: Mapping[str, Any]) -> None:
    address, count = place.get("coordinator_address"), place.get("num_processes", "")
    where = f" at {address}" if address else ""
    print(
        f"error: The {count} processes of the run did not all meet{where} within "
        f"{_WAIT} s; see whether process 0 runs there and the others reach it, and "
        "whether so many were started.",
        file=sys.stderr,
    )
    _end(Lost.exit_code)


def wait_for_all(what: str) -> None:
    """Wait until all processes have come here."""
    multihost_utils.sync_global_devices(f"mdvit_jax: {what}")


def broadcast(number: int) -> int:
    """The number that process 0 calls this with; to be called by all together."""
    return int(multihost_utils.broadcast_one_to_all(np.array(number)))


def all_agree(value: bool) -> bool:
    """Whether a value is true in all processes; to be called by all together."""
    return bool(multihost_utils.process_allgather(np.array(value)).all())


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


@contextlib.contextmanager
def handle_lost_process() -> Iterator[None]:
    """Raise `Lost` where JAX fails in the block as another process is gone.

    Whatever else is raised in one of several processes is a bug, and ends it at once.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1 or isinstance(error, errors.UserError):
            raise
        if not lost(error):
            traceback.print_exc()
            _end(1)
        raise Lost(
            f"Process {jax.process_index()} of {jax.process_count()} cannot go on "
            f"({first_line(error)}); see whether the others say why one was lost. "
            "What was saved before is intact; the same command goes on from there."
        ) from error


def leave(code: int) -> NoReturn:
    """End the program; one of several that failed ends at once, whatever others do.

    Otherwise they would wait for each other. JAX lets the others know that it is gone.
    """
    failed = 0 < code < 128 or code == Lost.exit_code
    if failed and jax.distributed.is_initialized():
        _end(code)
    sys.exit(code)


def _end(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


def first_line(error: Exception) -> str:
    """The type and the first line of an error."""
    line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {line[:200]}"
