"""A folder that one program at a time writes to."""

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import filelock

from mdvit_jax import errors

NAME = ".lock"  # a file in the folder, which is empty and stays

_logger = logging.getLogger(__name__)


class Taken(errors.UserError):
    """Another program is in the folder; it may be gone when this one is tried again."""

    exit_code = 75  # sysexits.h: EX_TEMPFAIL


@contextlib.contextmanager
def hold(
    folder: str | Path, message: str, *, name: str = NAME, wait: float = 0.0
) -> Iterator[None]:
    """Keep others that ask for it out of a folder while the block runs.

    The system unlocks it however the process ends, so a kill leaves nothing behind.

    Args:
        folder: an existing one.
        message: of the error that a second program gets.
        name: of the file that is locked, where a folder has parts.
        wait: seconds for another program to go.

    Raises:
        Taken: another program is in the folder.
        OSError: the file cannot be made in it.
    """
    lock = filelock.FileLock(Path(folder) / name)
    try:
        lock.acquire(timeout=wait)
    except filelock.Timeout as error:
        raise Taken(message) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        _logger.warning(
            "%s is on a file system without locks; make sure that no other program "
            "writes to it.",
            folder,
        )
    try:
        yield
    finally:
        lock.release()
