"""A parser whose errors are one sentence and suggest the word that was meant."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterable
from typing import NoReturn

from mdvit_jax import errors


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` that raises a `UserError` where argparse would exit."""

    def add_config(self) -> None:
        """Add `--config FILE`, and take `--config.GROUP.NAME=VALUE` as `overrides`."""
        self.add_argument(
            "--config",
            metavar="FILE",
            required=True,
            help="a configuration such as configs/quickstart.py; change any of its "
            "values with --config.GROUP.NAME=VALUE, for example "
            "--config.optim.steps=500; configs/default.py explains them all",
        )
        self.set_defaults(overrides=())

    def parse_known_args(self, args=None, namespace=None):
        """Parse; a mistyped option is reported before a required one that is missing.

        A parser with commands leaves all this to theirs.
        """
        words = list(sys.argv[1:] if args is None else args)
        if self._subparsers is not None:
            return super().parse_known_args(words, namespace)
        known = list(self._option_string_actions)
        overrides = []
        if "--config" in known:
            overrides = [word for word in words if word.startswith("--config.")]
            words = [word for word in words if not word.startswith("--config.")]
        for word in words:
            flag = re.split("[.=]", word)[0]
            if flag.startswith("--") and not any(k.startswith(flag) for k in known):
                self.error(f"there is no option {flag}{_suggest(flag, known)}")
        options, rest = super().parse_known_args(words, namespace)
        if overrides:
            options.overrides = overrides
        return options, rest

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError` that ends with the way to the help."""
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        if choice:
            message += _suggest(choice[1], re.findall(r"[\w.-]+", choice[2]))
        raise errors.UserError(f"{message}; see {self.prog} --help.")


def _suggest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
