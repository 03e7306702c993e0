"""What Orbax and TensorStore raise when they save and load, in a few words and once."""

import functools
import logging
import os
import re
import sys


def number(error: Exception) -> int | None:
    """The operating system's, which TensorStore writes into its message."""
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return int(found[1]) if found else getattr(error, "errno", None)


def reason(error: Exception) -> str:
    """What the operating system says, if it is at fault, or the error."""
    if found := number(error):
        return os.strerror(found)
    line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {line[:200]}"


@functools.cache
def tell_once() -> None:
    """From now on a save that failed is told by what it raises, and not besides.

    Orbax logs each error several times, in tracebacks. It closes the event loop at the
    first one, and each of TensorStore's threads that comes to its end after that has a
    traceback that the loop is closed.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    hook = sys.unraisablehook

    def told(found: "sys.UnraisableHookArgs") -> None:
        if repr(found.exc_value) != "RuntimeError('Event loop is closed')":
            hook(found)

    sys.unraisablehook = told
