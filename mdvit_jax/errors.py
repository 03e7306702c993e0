"""The one error that people see: a sentence that says what is wrong and what to do."""

import contextlib
import errno
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# A full disk, missing permissions, a file in a folder's place, a failing device.
_UNWRITABLE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EIO),
}


class UserError(Exception):
    """Wrong input, configuration or environment; printed without a traceback.

    The message is one clear sentence: it names the file or the value, says what
    is wrong with it and what to do. Entry points print it as ``error: …`` and
    exit with code 2. Anything else that is raised is a bug and keeps its traceback.
    """

    exit_code = 2


def handle_user_errors(main: Callable[..., int]) -> Callable[..., int]:
    """Wrap an entry point: a `UserError` is printed to stderr and is its exit code.

    Ctrl-C is told in a word, too, and is exit code 130.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print("\nInterrupted.", file=sys.stderr)
            return 130

    return wrapped


@contextlib.contextmanager
def unwritable_told(folder: str | Path) -> Iterator[None]:
    """Tell that a folder cannot be written to as a `UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        where = f": {error.filename}" if error.filename else ""  # an open file has none
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}{where}); free space, see "
            "to the permissions or name another folder. What was saved before is "
            "intact, and the same command goes on from there."
        ) from error
