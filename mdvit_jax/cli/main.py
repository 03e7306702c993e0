"""`mdvit COMMAND`, also `python -m mdvit_jax COMMAND`.

Each command is a module with `add_parser`, which adds its options and help and sets
`run`, the function that is called with them. What a command computes with is imported
when it runs, so that its help appears at once.
"""

import sys
from collections.abc import Sequence

import mdvit_jax
from mdvit_jax import errors
from mdvit_jax.cli import (
    apply_transform,
    bids_app,
    compare_networks,
    convert_transform,
    export_network,
    parser,
    prepare_cohort,
    run_ablation,
    shell_completion,
)
from mdvit_jax.cli.batch import batch_options
from mdvit_jax.cli.register import register_options
from mdvit_jax.cli.template import template_options

_COMMANDS = (
    register_options,
    batch_options,
    template_options,
    apply_transform,
    convert_transform,
    prepare_cohort,
    run_ablation,
    compare_networks,
    export_network,
    bids_app,
    shell_completion,
)


@errors.handle_user_errors
def main(words: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; None is the process's command line."""
    words = list(sys.argv[1:] if words is None else words)
    if set(words) == {"--version", "--json"}:
        from mdvit_jax.cli import version_report

        print(version_report.describe_versions())
        return 0
    options = create_parser().parse_args(words)
    options.command_line = ["mdvit", *words]
    return options.run(options)


def create_parser() -> parser.Parser:
    """The parser of all commands."""
    result = parser.Parser(
        prog="mdvit",
        description="Affine brain-MRI registration with MDViT and the 3D Normalized "
        "Total Gradient. Training and evaluation are train.py and eval.py.",
        epilog="Help on a command: mdvit COMMAND --help",
    )
    result.add_argument(
        "--version",
        action="version",
        version=mdvit_jax.__version__,
        help="print the version and stop; with --json, those of Python, the machine "
        "and the libraries, too",
    )
    subparsers = result.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True
    )
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return result
