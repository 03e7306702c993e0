"""Standard output and error of a program that outlives whatever shows them.

A terminal goes away, `head` has seen enough, the disk of a log file is full: writing
raises then, wherever something is said, and would end hours of work for a line of text.
"""

import errno
import io
import sys

_without_reader: set[int] = set()


def outlast() -> None:
    """Have `sys.stdout` and `sys.stderr` drop what cannot be written.

    To be called before anything keeps them, as logging does.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # started without one (>&-)
            continue
        stream.flush()
        # No buffer in between: a signal's handler that prints in the middle of a write
        # of the main program would find it locked, and raise.
        lasting = io.TextIOWrapper(
            _Lasting(stream.fileno(), "wb", closefd=False),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=True,
        )
        setattr(sys, name, lasting)


def reader_gone() -> bool:
    """Whether a stream was a pipe, or a connection, whose other end turned out closed.

    False before `outlast`.
    """
    return bool(_without_reader)


class _Lasting(io.FileIO):
    """A file that takes everything, whether or not it can be written."""

    def write(self, data) -> int:
        left = memoryview(data)
        try:
            # None: the file does not wait, and has no room now.
            while left and (count := super().write(left)) is not None:
                left = left[count:]
        except OSError as error:
            # Any other error is no reason to stop. A full disk is the log's (ENOSPC):
            # a run keeps its record elsewhere, and the log goes on where there is room
            # again. A terminal that is gone (EIO) has sent SIGHUP to whom it concerns.
            if error.errno == errno.EPIPE:
                _without_reader.add(self.fileno())
        return len(data)
