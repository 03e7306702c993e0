"""`warp_affine` and `map_coordinates`, with their gradients to matrix and image.

python -m benchmarks.warp [--size 128] [--batch 1] [--output warp.json]
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy import ndimage

from benchmarks import timing
from mdvit_jax import geometry


def by_map_coordinates(moving: Array, fixed_to_moving: Array) -> Array:
    """The warp with all coordinates written out, as JAX and SciPy have it."""
    size = jnp.asarray(moving.shape)
    axes = [geometry.voxel_centres(n) for n in moving.shape]
    centres = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
    landed = centres @ fixed_to_moving[:3, :3].T + fixed_to_moving[:3, 3]
    positions = ((landed + 1) * size - 1) / 2
    return ndimage.map_coordinates(
        moving, list(jnp.moveaxis(positions, -1, 0)), order=1, mode="constant"
    )


def main() -> None:
    """Compare both, value alone and with the gradients of a squared difference."""
    options = timing.arguments(__doc__).parse_args()
    shape = (2, options.batch, *[options.size] * 3)
    pair = jax.random.uniform(jax.random.key(0), shape)
    spread = jnp.linspace(0.1, 0.2, options.batch)[:, None]
    matrix = geometry.affine_matrix(spread * jnp.linspace(-1, 1, 12))
    inputs = [pair[0], matrix, pair[1]]
    warps: dict[str, Callable] = {
        "map_coordinates": jax.vmap(by_map_coordinates),
        "warp_affine": geometry.warp_affine,
    }

    def forward(warp):
        return lambda moving, matrix, fixed: warp(moving, matrix)

    def gradient(warp, to):
        def squared(moving, matrix, fixed):
            return ((warp(moving, matrix) - fixed) ** 2).sum()

        return jax.value_and_grad(squared, argnums=to)

    rate = timing.copy_rate(options.repeats)
    print(f"limit: inputs and outputs once, copies {rate / 1e9:.1f} GB/s")
    timing.print_header()
    rows = []
    for what, form in {
        "warp": forward,
        "warp, gradient to the matrix": lambda warp: gradient(warp, 1),
        "warp, gradient to the image": lambda warp: gradient(warp, 0),
    }.items():
        forms = {name: form(warp) for name, warp in warps.items()}
        limit = timing.least_seconds(forms["warp_affine"], inputs, rate)
        if form is forward:
            limit *= 2 / 3  # the third volume is not looked at
        rows += timing.compare(what, forms, inputs, options.repeats, limit=limit)
    timing.report(rows, options.output)


if __name__ == "__main__":
    main()
