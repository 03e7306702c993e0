"""MDViT: forward pass and training step, beside the machine's rate of matrix products.

    python -m benchmarks.model [--size 128] [--repeats 5] [--remat] [--output FILE]

The default network, batch 1; the step is value and gradient of the NTG pyramid with
respect to all parameters. The last row of each table is the time that its dense
arithmetic takes in products of large matrices: the limit to hold the others against.
On 2 cores at 128³: forward 2.8 s, the limit 1.9; step 11.0 s, 5.5; a process of 2.8 GB.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from benchmarks import timing
from configs import default
from mdvit_jax import losses, models

EDGE = 2048  # of the square matrices


def main() -> None:
    """Time both, each in turn with as many products as it has arithmetic."""
    parser = timing.arguments(__doc__)
    parser.add_argument("--remat", action="store_true", help="recompute the blocks")
    options = parser.parse_args()
    config = default.get_config().model
    config.remat = options.remat
    network = models.create(config)
    pair = jax.random.uniform(jax.random.key(0), (2, 1, *[options.size] * 3))
    fixed, moving = pair[0], pair[1]
    params = network.init(jax.random.key(1), fixed, moving)
    ntg = functools.partial(losses.ntg, stride=4)

    def forward(fixed, moving, params):
        return network.apply(params, fixed, moving)

    def loss(params, fixed, moving):
        warped = network.apply(params, fixed, moving).warped
        return losses.similarity_pyramid(ntg, fixed, warped).mean()

    def step(fixed, moving, params):
        return jax.value_and_grad(loss)(params, fixed, moving)

    inputs: list[Any] = [fixed, moving, params]
    arithmetic = gflop(config, options.size)
    rows = []
    timing.print_header()
    for what, function, times in (("forward", forward, 1), ("step", step, 3)):
        count = max(1, round(times * arithmetic * 1e9 / (2 * EDGE**3)))
        forms = {"network": function, "matrix products": products(count)}
        label = f"{what}, {times * arithmetic:.0f} Gflop"
        rows += timing.compare(label, forms, inputs, options.repeats)
    timing.report(rows, options.output)


def products(count: int):
    """A function of (fixed, moving, params) that multiplies matrices `count` times."""

    def run(fixed: Array, moving: Array, params) -> Array:
        del moving, params
        factor = jnp.full((EDGE, EDGE), fixed.ravel()[0] / EDGE)
        return lax.fori_loop(0, count, lambda _, product: product @ factor, factor)

    return run


def gflop(config, size: int) -> float:
    """Dense arithmetic of one forward pass; a gradient takes twice as much again."""
    c, tokens = config.embedding, (size // config.strides[-1]) ** 3
    attention = 4 * c * c + 2 * tokens * c  # per token: four maps, scores and values
    block = attention + 2 * config.mlp_ratio * c * c
    compress = len(config.dilations) * c * c if config.dilated_form == "channels" else 0
    stages = len(config.patches)
    patches = sum(2 * patch**3 * c for patch in config.patches)
    squeezes = (stages - 1) * 27 * c * c
    per_token = stages * (config.depth * block + compress) + patches + squeezes
    return 2 * tokens * per_token / 1e9


if __name__ == "__main__":
    main()
