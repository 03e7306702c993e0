"""A sentence that is said for a process which was ended before it could say why.

A signal such as SIGKILL, or an abort of a library in C++, leaves a program no moment of
its own. A second process, which does nothing but wait for the end of the first, has it.
"""

import atexit
import subprocess
import sys

_WAIT = "import sys; sys.stdin.read() or print(sys.argv[1], file=sys.stderr)"
_waiting: list[subprocess.Popen] = []


def leave(sentence: str) -> None:
    """Have it printed to stderr when this process ends, unless it is taken back.

    A program that comes to its end by itself takes it back.
    """
    program = [sys.executable, "-I", "-S", "-c", _WAIT, sentence]
    _waiting.append(
        subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is not for it
        )
    )
    atexit.register(take_back)


def take_back() -> None:
    """Nothing is said then; to be called before `os._exit`."""
    while _waiting:
        _waiting.pop().communicate("No.")
