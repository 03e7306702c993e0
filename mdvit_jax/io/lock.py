"""A folder that one program at a time writes to."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mdvit_jax import errors

try:
    import fcntl
except ImportError:  # Windows: two programs in one folder are not noticed
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"  # a file in the folder, which is empty and stays


class Taken(errors.UserError):
    """Another program is in the folder; it may be gone when this one is tried again."""

    exit_code = 75  # sysexits.h: EX_TEMPFAIL


@contextlib.contextmanager
def hold(folder: str | Path, otherwise: str) -> Iterator[None]:
    """Keep others that ask for it out of a folder while the block runs.

    What is locked is the file `NAME` in it. The system ends that however the process
    ends, so nothing that matters is left behind by a kill. Nobody is kept out where
    that file cannot be made, or the file system of several machines has no locks.

    Args:
        folder: it is there.
        otherwise: the message of the error for a second program.

    Raises:
        Taken: another program is in the folder.
    """
    if fcntl is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            # The file stays: removed at the end, it might be one that a second program
            # has opened and locks next, while a third one makes and locks another.
            opened = _open(Path(folder) / NAME)
            stack.callback(os.close, opened)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Taken(otherwise) from error
        yield


def _open(path: Path) -> int:
    """Open the file, which no child inherits; it is made if it is not there.

    NFS locks among machines only what is open for writing, and no folder.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # somebody else's; a local file system locks it like this
        return os.open(path, os.O_RDONLY)
