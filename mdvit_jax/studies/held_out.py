"""Whether a network is tested on people that it did not learn from."""

from pathlib import Path

import ml_collections

from mdvit_jax import errors
from mdvit_jax.config import describe_changes, read_config

# Settings that decide which people of a cohort train and which test; and the seed,
# where it draws them.
_DECIDE_THE_SPLIT = ("data.split", "data.person", "data.same_person")


def check_run(config: ml_collections.ConfigDict, run: str | Path) -> None:
    """Raise a UserError if the cohort that trained a run is now split differently.

    People that the network learned from would be among those that test it.

    Args:
        config: the configuration of the evaluation.
        run: folder that training wrote.
    """
    before = read_config(run)
    if any(before.data[name] != config.data[name] for name in ("layout", "root")):
        return
    names = set(_DECIDE_THE_SPLIT)
    if _seed_draws_people(config):
        names.add("seed")
    changes = describe_changes(
        before,
        config,
        lambda name: name in names or name.startswith("data.synthetic."),
    )
    if changes:
        raise errors.UserError(
            f"{run} was trained with {changes}, so that people it learned from may be "
            "among those to be tested; evaluate it with the values it was trained with."
        )


def check_seeds(config: ml_collections.ConfigDict, seeds: int) -> None:
    """Raise a UserError if runs with so many seeds cannot be tested on the same people.

    Args:
        config: the configuration of the evaluation.
        seeds: how many runs of each network.
    """
    if seeds < 1:
        raise errors.UserError(f"{seeds} seeds are nothing to train; give more.")
    if seeds > 1 and _seed_draws_people(config):
        raise errors.UserError(
            f"data.split is {config.data.split}, so that each seed would test other "
            "people; give patterns of names as configs/table1.py does, or --seeds 1."
        )


def _seed_draws_people(config: ml_collections.ConfigDict) -> bool:
    """Whether the seed makes or chooses people; patterns of names choose the same."""
    patterns = all(isinstance(part, str) for part in config.data.split)
    return config.data.layout == "synthetic" or not patterns
