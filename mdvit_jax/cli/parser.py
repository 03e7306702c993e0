"""A parser whose errors are one sentence, and that suggests the word that was meant."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from mdvit_jax import errors


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` that raises a `UserError` where argparse would exit."""

    def add_config(self) -> None:
        """Add `--config FILE`, and take `--config.GROUP.NAME=VALUE` as overrides."""
        self.add_argument(
            "--config",
            metavar="FILE",
            required=True,
            help="a configuration such as configs/quickstart.py; change any of its "
            "values with --config.GROUP.NAME=VALUE, for example "
            "--config.optim.steps=500; configs/default.py explains them all",
        )

    def parse_args(self, args=None, namespace=None):
        """Parse all words; `overrides` is the list of those that are --config's."""
        options, rest = self.parse_known_args(args, namespace)
        if rest and "config" not in options:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        options.overrides = rest
        return options

    def parse_known_args(self, args=None, namespace=None):
        """Parse; a mistyped option is reported before a required one that is missing.

        In a parser with commands, each of them does this for its own options.
        """
        words = list(sys.argv[1:] if args is None else args)
        if self._subparsers is None:
            self._check_options(words)
        return super().parse_known_args(words, namespace)

    def _check_options(self, words: Sequence[str]) -> None:
        known = list(self._option_string_actions)
        for word in words:
            flag, _, key = word.partition("=")[0].partition(".")
            if flag == "--config" and key and flag in known:
                continue
            if flag.startswith("--") and not any(k.startswith(flag) for k in known):
                self.error(f"there is no option {flag}{_suggest(flag, known)}")

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError` that ends with the way to the help."""
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        if choice:
            message += _suggest(choice[1], re.findall(r"[\w.-]+", choice[2]))
        raise errors.UserError(f"{message}; see {self.prog} --help.")


def _suggest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
