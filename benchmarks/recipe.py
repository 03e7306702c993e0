"""What the parts of the head and the first weights bring, over seeds.

    python -m benchmarks.recipe --data ../shared/data --output runs/recipe

Trains the small network of configs/table1.py in each of four forms, once for each
seed, and prints the errors of one pass on people whom it did not learn from, mean ±
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
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax import Array

from benchmarks import network as measures
from configs import table1
from mdvit_jax.cli import startup
from mdvit_jax.data import conform_cohort
from mdvit_jax.models import blocks, mdvit
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
    configs = [
        (row, configuration(row, seed, options))
        for seed in range(options.seeds)
        for row in ROWS
    ]
    conform_cohort.conform_cohort(configs[0][1])
    for _, config in configs:
        if code := loop.train(config):
            return code
    measure = create_measure(options)
    results: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    for row, config in configs:
        results[row].append(
            measure(pretrained.trained_network(config.workdir, newest=True))
        )
    for row, runs in results.items():
        cells = []
        for name in runs[0]:
            values = [run[name] for run in runs]
            error = np.std(values, ddof=1) / len(values) ** 0.5 if runs[1:] else np.nan
            cells.append(f"{name} {np.mean(values):.3f} ± {error:.3f}")
        print(f"{row:10}", "; ".join(cells))
    return 0


def configuration(row: str, seed: int, options) -> ml_collections.ConfigDict:
    """Of one training."""
    config = table1.get_config()
    config.data.root = str(options.data / "ds002748")
    config.data.cache = str(options.output / "cache")
    config.workdir = str(options.output / row / f"seed-{seed}")
    config.seed = seed
    config.optim.steps = options.steps
    config.model.update(ROWS[row])
    return config


def create_measure(options) -> Callable[[pretrained.Trained], dict[str, float]]:
    """trained → errors in mm, and Dice."""
    people = measures.CHOOSE
    answers = measures.Answers(options.answers)
    names = people["oasis1_malf"]
    labelled = measures.read_labelled(options.data / "oasis1_malf", names)

    def measure(trained: pretrained.Trained) -> dict[str, float]:
        folder = options.data / "ds002748"
        cases = measures.people_cases(folder, people["ds002748"], trained, answers)

        @jax.jit
        def estimate(fixed: Array, moving: Array) -> list[Array]:
            answer = trained.network.from_centres(trained.params, fixed, moving)
            return [answer.matrix]

        field = trained.field_of_view
        result = {
            name: measures.landmark_errors(estimate, cases[name], field)[0]
            for name in ("same20", "inter20", "inter0", "inter90")
        }
        overlaps = measures.overlaps(estimate, names, labelled, trained, answers)
        brains, regions = overlaps.values()
        return {**result, "Dice": brains[0], "regions": regions[0]}

    return measure


if __name__ == "__main__":
    sys.exit(main())
