"""What the parts of the head and the first weights bring, over seeds.

    python -m benchmarks.recipe --data ../shared/data --output runs/recipe

Trains the small network of configs/table1.py in each of four forms, once for each
seed, and prints the errors of one pass on people whom it did not learn from, mean and
standard error over the seeds (benchmarks/network.py explains the columns). The first
seed of all comes before the second of any; stopped, the same command goes on.

paper      mean → linear → ReLU → linear, without biases; weights drawn with 0.02
fan_in     all linear maps of the network drawn with 1/√inputs
gelu       and biases, twice as many hidden units, and a GELU in place of the ReLU
moments    and the tokens' first moments beside their mean: the recipe
"""

import argparse
import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pandas as pd
from jax import Array

from benchmarks import network as measures
from configs import table1
from mdvit_jax.cli import startup
from mdvit_jax.data import conform_cohort
from mdvit_jax.models import blocks, mdvit
from mdvit_jax.studies import table1_training
from mdvit_jax.training import loop, pretrained

ROWS = {
    "paper": {"head": "paper", "linear_weights": "paper"},
    "fan_in": {"head": "paper", "linear_weights": "fan_in"},
    "gelu": {"head": "gelu", "linear_weights": "fan_in"},
    "moments": {"head": "moments", "linear_weights": "fan_in"},
}


class GeluHead(nn.Module):
    """`blocks.MomentHead` without the moments."""

    @nn.compact
    def __call__(self, features: Array) -> tuple[Array, Array]:
        """As `blocks.Head`."""
        mean = features.mean((1, 2, 3), dtype=jnp.float32)
        exact = functools.partial(nn.Dense, precision="highest")
        hidden = exact(features.shape[-1], name="hidden")(mean)
        twelve = exact(12, name="parameters")(blocks.gelu(hidden))
        return jnp.tanh(twelve), hidden > -jnp.inf


def main() -> int:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000, help="of four pairs each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--answers", type=Path, default=Path("cache/answers.json"))
    options = parser.parse_args()
    startup.start()
    # A step between the two heads of the package, for this comparison alone.
    mdvit.HEADS["gelu"] = GeluHead
    config = table1.get_config()
    config.data.root = str(options.data / "ds002748")
    config.data.cache = str(options.output / "cache")
    steps = dict.fromkeys(ROWS, options.steps)
    runs = list(
        table1_training.run_configs(config, options.output, steps, options.seeds, ROWS)
    )
    conform_cohort.conform_cohort(config)
    for run in runs:
        if code := loop.train(run):
            return code
    trained = [pretrained.trained_network(run.workdir, newest=True) for run in runs]
    values = pd.DataFrame(measure(trained, options))
    values["row"] = [Path(run.workdir).parent.name for run in runs]
    print(values.groupby("row", sort=False).agg(["mean", "sem"]).round(3).to_string())
    return 0


def measure(
    trained: Sequence[pretrained.Trained], options
) -> Iterator[dict[str, float]]:
    """Errors in mm, and Dice, of each network."""
    people, first = measures.CHOOSE, trained[0]  # all have the same grid
    answers = measures.Answers(options.answers)
    cases = measures.people_cases(
        options.data / "ds002748", people["ds002748"], first, answers
    )
    names = people["oasis1_malf"]
    labelled = measures.read_labelled(options.data / "oasis1_malf", names)
    for one in trained:

        @jax.jit
        def estimate(fixed: Array, moving: Array, one=one) -> list[Array]:
            return [one.network.from_centres(one.params, fixed, moving).matrix]

        result = {
            name: measures.landmark_errors(estimate, cases[name], one.field_of_view)[0]
            for name in ("same20", "inter20", "inter0", "inter90")
        }
        overlaps = measures.overlaps(estimate, names, labelled, one, answers)
        brains, regions = overlaps.values()
        yield {**result, "Dice": brains[0], "regions": regions[0]}


if __name__ == "__main__":
    sys.exit(main())
