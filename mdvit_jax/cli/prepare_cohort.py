"""`mdvit prepare`: conform a cohort once into the cache that training reads."""

import argparse


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "prepare",
        help="conform a cohort once into a cache that training reads",
        description="Conform every scan of a cohort once, in parallel, into the folder "
        "data.cache of the configuration, from which training reads them at once. "
        "Interrupted, it goes on where it was. A scan that cannot be read is named, "
        "left out and counted; the exit code is then 1.",
    )
    parser.add_config()
    parser.set_defaults(run=prepare_cohort)


def prepare_cohort(options: argparse.Namespace) -> int:
    """Run the command with its options; return its exit code."""
    from mdvit_jax.config import load_config

    settings = load_config(options.config, options.overrides)
    from mdvit_jax.cli import startup
    from mdvit_jax.data import conform_cohort

    startup.start()
    return 1 if conform_cohort.conform_cohort(settings) else 0
