"""`mdvit prepare`: conform a cohort once into the cache that training reads."""

import argparse


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "prepare",
        help="conform a cohort once into a cache that training reads",
        description="Conform every scan of a cohort once, in parallel, into the folder "
        "data.cache of the configuration, from which training reads them at once. "
        "Where the network is to learn from the affines between people (loss.people), "
        "each scan for training is aligned with MNI152, too. Interrupted, it goes on "
        "where it was. A scan that cannot be read is named, left out and counted; the "
        "exit code is then 1.",
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
    bad = conform_cohort.conform_cohort(settings)
    if settings.loss.people:
        from mdvit_jax.training import template_affines

        template_affines.prepare(settings)
    return 1 if bad else 0
