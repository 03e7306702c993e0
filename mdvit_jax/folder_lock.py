"""A folder that one program at a time writes to."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mdvit_jax import errors

try:
    import fcntl
except ImportError:  # on Windows two programs in one folder are not told
    fcntl = None  # type: ignore[assignment]


class Taken(errors.UserError):
    """Another program is in the folder; it may be gone when this one is tried again."""

    exit_code = 75  # sysexits.h: EX_TEMPFAIL


@contextlib.contextmanager
def hold(folder: str | Path, otherwise: str) -> Iterator[None]:
    """Keep others that ask for it out of a folder while the block runs.

    The system ends that however the process ends, so nothing is left behind by a kill.
    Some file systems of several machines have no such locks: there nobody is kept out.

    Args:
        folder: it is there.
        otherwise: what a second one is told.

    Raises:
        Taken: another program is in the folder.
    """
    if fcntl is None:
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Taken(otherwise) from error
        yield
    finally:
        os.close(opened)
