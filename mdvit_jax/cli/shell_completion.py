"""`mdvit completion`: what a shell needs to complete commands, options and files."""

import argparse
from typing import Any

from mdvit_jax import errors

_DESCRIPTION = """\
Print a script that lets a shell complete the commands, options and files of mdvit.

  mdvit completion bash > ~/.local/share/bash-completion/completions/mdvit
  mdvit completion zsh > "${fpath[1]}/_mdvit"

Then open a new shell. Make it again after an update.
"""


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "completion",
        help="print a script for the completion of bash, zsh or tcsh",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    parser.set_defaults(run=_print_script)


def _print_script(options: argparse.Namespace) -> int:
    from mdvit_jax.cli import main

    try:
        import shtab
    except ImportError as error:
        raise errors.UserError(
            "mdvit completion needs the package shtab: pip install shtab."
        ) from error
    parser = main.create_parser()
    _complete_files(parser, shtab.FILE)
    print(shtab.complete(parser, shell=options.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser, files: Any) -> None:
    """Let all options that take words of no list complete the names of files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, files)
        elif action.nargs != 0 and action.choices is None and action.option_strings:
            action.complete = files  # type: ignore[attr-defined]
