"""The forms of `warp_affine`, with their gradients to matrix and image.

python -m benchmarks.warp [--size 128] [--batch 1] [--output warp.json]
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks import timing
from mdvit_jax import geometry
from mdvit_jax.geometry import forms, warp


def main() -> None:
    """Compare both, value alone and with the gradients of a squared difference."""
    options = timing.arguments(__doc__).parse_args()
    shape = (2, options.batch, *[options.size] * 3)
    pair = jax.random.uniform(jax.random.key(0), shape)
    spread = jnp.linspace(0.1, 0.2, options.batch)[:, None]
    matrix = geometry.affine_matrix(spread * jnp.linspace(-1, 1, 12))
    inputs = [pair[0], matrix, pair[1]]
    warps: dict[str, Callable] = {
        form: functools.partial(geometry.warp_affine, form=form)
        for form in warp.FORMS
        if form != "blocks" or forms.platform() == "tpu"  # elsewhere it is emulated
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
        kinds = {name: form(form_warp) for name, form_warp in warps.items()}
        limit = timing.least_seconds(kinds["gather"], inputs, rate)
        if form is forward:
            limit *= 2 / 3  # the third volume is not looked at
        rows += timing.compare(what, kinds, inputs, options.repeats, limit=limit)
    timing.report(rows, options.output)


if __name__ == "__main__":
    main()
