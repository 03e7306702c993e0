"""`mdvit compare`: train and evaluate the networks of the paper's Table 1."""

import argparse
import shlex
from pathlib import Path


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "compare",
        help="train and evaluate the five networks of the paper's Table 1",
        description="Train DLIR, PASTA, KeyMorph, C2FViT and MDViT alike and for equal "
        "seconds of a core, and evaluate them beside the centres of mass, register, "
        "ANTs and Elastix, against the template and between people (paper, Table 1). "
        "Interrupted, it goes on where it was.",
    )
    parser.add_config()
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=float,
        default=600.0,
        help="of one core for the steps of each run (default: 600)",
    )
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=int,
        default=3,
        help="runs of each network (default: 3)",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="for the runs and their evaluation; default: the configuration's workdir",
    )
    parser.set_defaults(run=compare_networks)


def compare_networks(options: argparse.Namespace) -> int:
    """Run the command with its options; return its exit code."""
    from mdvit_jax.config import load_config

    settings = load_config(options.config, options.overrides)
    from mdvit_jax.cli import startup
    from mdvit_jax.studies import table1_training

    startup.start()
    return table1_training.train_and_evaluate(
        settings,
        options.output or Path(settings.workdir),
        seconds=options.seconds,
        seeds=options.seeds,
        command=shlex.join(options.command_line),
    )
