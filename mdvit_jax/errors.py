"""One sentence for a mistake, and output that may fail without ending the work."""

import contextlib
import errno
import functools
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

# A full disk, missing permissions, a file in a folder's place, a failing device.
_UNWRITABLE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EIO),
}
_LISTED = 5  # words of a list in a sentence


class UserError(Exception):
    """Wrong input, configuration or environment; printed without a traceback.

    The message is one clear sentence: it names the file or the value, says what
    is wrong with it and what to do. Entry points print it as ``error: …`` and
    exit with code 2. Anything else that is raised is a bug and keeps its traceback.
    """

    exit_code = 2


def list_briefly(words: Iterable[str]) -> str:
    """Words with commas, the first ones of many."""
    listed = list(words)
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return ", ".join(listed[:_LISTED]) + more


def handle_user_errors(main: Callable[..., int]) -> Callable[..., int]:
    """Wrap an entry point: a `UserError` is printed to stderr and is its exit code.

    So is Ctrl-C, with exit code 130. While the entry point runs, what cannot be printed
    is dropped, so that the exit code is always that of the work.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> int:
        with _unfailing_output():
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
def explain_write_errors(folder: str | Path) -> Iterator[None]:
    """Raise a `UserError` where the block cannot write to the folder."""
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


@contextlib.contextmanager
def _unfailing_output() -> Iterator[None]:
    """Replace `sys.stdout` and `sys.stderr` by streams whose writes never raise."""
    before = sys.stdout, sys.stderr
    unfailing = [_Unfailing(stream) for stream in before]
    sys.stdout, sys.stderr = unfailing
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in unfailing:
            stream.finish()


class _Unfailing:
    """A text stream; what its encoding lacks is escaped, what cannot be written lost.

    Its reader may have seen enough (`mdvit … | head`), its terminal may be closed, its
    disk full: no reason to end hours of work.
    """

    def __init__(self, stream: Any):
        if stream is None:  # the program was started without one (>&-)
            stream = open(os.devnull, "w")  # noqa: SIM115
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def finish(self) -> None:
        """Write what is buffered, which Python would try, and fail, at its end."""
        try:
            self._stream.flush()
        except OSError:
            self._discard()

    def _attempt(self, action: Callable, *values: str) -> None:
        try:
            action(*values)
        except (BlockingIOError, RuntimeError):
            pass  # no room now, or a signal's handler prints in the middle of a write
        except OSError:
            self._discard()

    def _discard(self) -> None:
        """Send this and all that follows, also what is buffered, to nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
