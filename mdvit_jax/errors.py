"""The one error that people see: a sentence that says what is wrong and what to do."""

import functools
import sys
from collections.abc import Callable


class UserError(Exception):
    """Wrong input, configuration or environment; printed without a traceback.

    The message is one clear sentence: it names the file or the value, says what
    is wrong with it and what to do. Entry points print it as ``error: …`` and
    exit with code 2. Anything else that is raised is a bug and keeps its traceback.
    """


def told_in_a_sentence(main: Callable[..., int]) -> Callable[..., int]:
    """Wrap an entry point: a `UserError` is printed to stderr and is exit code 2.

    Ctrl-C is told in a word, too, and is exit code 130.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("\nInterrupted.", file=sys.stderr)
            return 130

    return wrapped
