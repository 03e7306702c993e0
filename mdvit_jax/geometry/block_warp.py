"""Trilinear interpolation by matrix products, block by block, for TPUs.

A TPU reads single voxels as slowly as whole tiles of 1,024. But an affine takes a block
of the fixed grid to a small box of the moving volume; that box is brought into fast
memory as it lies, and what a voxel n of the block sees is

    Σ_x w_x(n) Σ_y w_y(n) Σ_z w_z(n) · box[x, y, z],

where a weight w is 1 − fraction at the voxel below the place, the fraction at the voxel
above it, and 0 elsewhere. Slopes along an axis are the same sums with −1 and 1 as the
two weights of that axis. The sum over z, for all x and y of the box and all n, is a
product of two matrices, which is what a TPU does best: value + fraction · slope, with
the weights 0, 1 and −1 alone. These are exact in bfloat16, and so is the box as a sum
of three terms; the products are not rounded, at half the cost of float32's.

However far an affine spreads a block, as many boxes are visited as it touches.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from mdvit_jax.geometry import forms

if TYPE_CHECKING:
    from jaxtyping import Float

_BLOCK = (4, 8, 16)  # voxels of the output
_SHIFTS = (7, 4, 0)  # index within a block >> this: its place along each axis
_BOX = (12, 24)  # voxels of the moving volume along x and y; along z it is whole
_TILE = 8  # rows that are brought together: boxes begin at multiples of it along y


def interpolate(
    moving: Float[Array, "x y z"], positions: Float[Array, "3 4"], *, slopes: bool
) -> Float[Array, "rows x y z"]:
    """Values, and slopes if asked for, at an affine function of the voxel's index.

    Args:
        moving: float32, finite.
        positions: voxel (i, j, k) lands at (p₀ i + p₃) + (p₁ j + p₂ k) along each
            axis, in voxels of `moving`.
        slopes: whether the slopes along x, y and z come after the values.

    Returns:
        One row or four; beyond the outermost voxels it fades to zero.
    """
    shape, rows, count = moving.shape, 4 if slopes else 1, math.prod(_BLOCK)
    # A box must fit into the volume, in whole tiles.
    sizes = max(shape[0], _BOX[0]), max(-(-shape[1] // _TILE) * _TILE, _BOX[1])
    widths = [(0, size - n) for size, n in zip(sizes, shape, strict=False)]
    moving = jnp.pad(moving, [*widths, (0, 0)])
    grid = tuple(-(-n // of) for n, of in zip(shape, _BLOCK, strict=True))
    box = (*_BOX, shape[2])
    boxes = math.prod(grid)  # one for each block, unless the affine spreads it
    call = pl.pallas_call(
        functools.partial(_kernel, shape, slopes),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=grid,
            in_specs=[pl.BlockSpec(memory_space=pl.ANY)],
            out_specs=pl.BlockSpec(
                (1, 1, 1, rows, count), lambda i, j, k, _: (i, j, k, 0, 0)
            ),
            scratch_shapes=[pltpu.VMEM(box, jnp.float32), pltpu.SemaphoreType.DMA(())],
        ),
        out_shape=jax.ShapeDtypeStruct((*grid, rows, count), jnp.float32),
        cost_estimate=pl.CostEstimate(
            flops=2 * boxes * 3 * math.prod(box) * 2 * count,
            bytes_accessed=4 * boxes * (math.prod(box) + rows * count),
            transcendentals=0,
        ),
        interpret=forms.platform() != "tpu",
    )
    blocks = forms.on_each_device(call, positions.reshape(12), moving)
    blocks = blocks.reshape(*grid, rows, *_BLOCK).transpose(3, 0, 4, 1, 5, 2, 6)
    whole = blocks.reshape(rows, *[n * of for n, of in zip(grid, _BLOCK, strict=True)])
    return whole[:, : shape[0], : shape[1], : shape[2]]


def _kernel(shape, slopes: bool, positions, moving, output, box, arrived):
    """One block: visit the boxes that it touches, and add up what they give."""
    first = [pl.program_id(axis) * _BLOCK[axis] for axis in range(3)]
    count = math.prod(_BLOCK)

    def affine(axis: int, index):
        p = [positions[4 * axis + k] for k in range(4)]
        at = (p[0] * index[0] + p[3]) + (p[1] * index[1] + p[2] * index[2])
        return jnp.clip(at, -1.5, shape[axis] + 0.5)

    n = lax.broadcasted_iota(jnp.int32, (1, 1, count), 2)
    within = [
        (n >> shift) & (size - 1) for shift, size in zip(_SHIFTS, _BLOCK, strict=True)
    ]
    index = [
        (low + i).astype(jnp.float32) for low, i in zip(first, within, strict=True)
    ]
    places = [affine(axis, index) for axis in range(3)]
    below = [jnp.floor(place).astype(jnp.int32) for place in places]
    fractions = [p - jnp.floor(p) for p in places]

    def corners(axis: int, at, counts=True):
        """Which of the voxels `at` along an axis are below and above the place."""
        return [(at == below[axis] + up) & counts for up in (0, 1)]

    def weights(axis: int, at, counts):
        """Of the voxels `at` along an axis: those of the value, and of the slope."""
        lower, upper = corners(axis, at, counts)
        fraction = fractions[axis]
        value = jnp.where(lower, 1 - fraction, jnp.where(upper, fraction, 0.0))
        return value, jnp.where(upper, 1.0, jnp.where(lower, -1.0, 0.0))

    lines = box.shape[-1]
    lower, upper = corners(2, lax.broadcasted_iota(jnp.int32, (1, lines, count), 1))
    one = jnp.where(lower, 1.0, 0.0)
    steps = jnp.concatenate([one, jnp.where(upper, 1.0, 0.0) - one], axis=2)[0]
    steps = jnp.concatenate([steps.astype(jnp.bfloat16)] * 3)  # [3 z, value and slope]

    def visit(x_begin, y_begin, total):
        """Add what the box that begins there gives; it may have to begin earlier."""
        x_low = jnp.minimum(x_begin, moving.shape[0] - _BOX[0])
        y_low = jnp.minimum(y_begin, moving.shape[1] - _BOX[1])
        y_low = pl.multiple_of(y_low, _TILE)
        part = moving.at[pl.ds(x_low, _BOX[0]), pl.ds(y_low, _BOX[1])]
        copy = pltpu.make_async_copy(part, box, arrived)
        copy.start()
        x = x_low + lax.broadcasted_iota(jnp.int32, (_BOX[0], 1, count), 0)
        y = y_low + lax.broadcasted_iota(jnp.int32, (1, _BOX[1], count), 1)
        x_value, x_slope = (w[:, 0] for w in weights(0, x, x >= x_begin))
        y_value, y_slope = weights(1, y, y >= y_begin)
        copy.wait()
        rest, terms = box[...].reshape(-1, lines), []
        for _ in range(3):
            terms.append(rest.astype(jnp.bfloat16))
            rest -= terms[-1].astype(jnp.float32)
        along_z = lax.dot_general(
            jnp.concatenate(terms, axis=1),
            steps,
            (((1,), (0,)), ((), ())),
            preferred_element_type=jnp.float32,
        )
        z_slopes = along_z[:, count:].reshape(*_BOX, count)
        values = along_z[:, :count].reshape(*_BOX, count) + fractions[2] * z_slopes
        seen = [(x_value, (y_value * values).sum(1))]
        if slopes:
            seen = [
                *seen,
                (x_slope, seen[0][1]),
                (x_value, (y_slope * values).sum(1)),
                (x_value, (y_value * z_slopes).sum(1)),
            ]
        sums = [(weight * row).sum(0, keepdims=True) for weight, row in seen]
        return total + jnp.concatenate(sums)

    def reach(axis: int) -> tuple[Array, Array]:
        """The lowest and highest voxel that the block touches along an axis."""
        ends = [jnp.min(below[axis]), jnp.max(below[axis]) + 1]
        return jnp.maximum(ends[0], 0), jnp.minimum(ends[1], shape[axis] - 1)

    (x_first, x_last), (y_first, y_last) = reach(0), reach(1)
    y_first = lax.div(y_first, _TILE) * _TILE
    x_count, y_count = (
        lax.div(jnp.maximum(last - first + width, 0), width)
        for first, last, width in (
            (x_first, x_last, _BOX[0]),
            (y_first, y_last, _BOX[1]),
        )
    )

    def one_more(number, total):
        along_x, along_y = lax.div(number, y_count), lax.rem(number, y_count)
        return visit(x_first + along_x * _BOX[0], y_first + along_y * _BOX[1], total)

    start = jnp.zeros(output.shape[-2:], jnp.float32)
    total = lax.fori_loop(0, x_count * y_count, one_more, start)
    output[0, 0, 0] = total
