"""Options of a command line; of a mistyped one, what it was meant to be."""

import argparse
import difflib
from collections.abc import Sequence

from mdvit_jax import errors


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """What argparse makes of the words.

    Raises:
        UserError: one of them is no option. argparse would rather tell of the option
            that is missing then.
    """
    known = list(parser._option_string_actions)
    for word in words:
        flag = word.partition("=")[0]
        if flag.startswith("--") and not any(k.startswith(flag) for k in known):
            near = difflib.get_close_matches(flag, known, n=1)
            cure = f"did you mean {near[0]}?" if near else "see --help."
            raise errors.UserError(f"there is no option {flag}; {cure}")
    return parser.parse_args(words)
