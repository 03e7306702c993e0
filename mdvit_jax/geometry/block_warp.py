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

However far an affine spreads a block, as many boxes are visited as it touches. A volume
that fits into fast memory lies there as a whole. Blocks are small along all three axes,
as their boxes are smallest then, but a register holds 128 voxels of one row: eight
blocks along z are exchanged among the registers before they are written.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
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
_ROW = 128  # voxels in a register: those of eight blocks along z
_BOX = (12, 24)  # voxels of the moving volume along x and y; along z it is whole
_TILE = 8  # rows that are brought together: boxes begin at multiples of it along y
_FITS = 10 * 2**20  # bytes of a volume that fast memory holds
_FAST = 32 * 2**20  # bytes of fast memory that the kernel may use


def interpolate(
    moving: Float[Array, "x y z"], positions: Float[Array, "3 4"], *, slopes: bool
) -> list[Float[Array, "x y z"]]:
    """Values, and slopes if asked for, at an affine function of the voxel's index.

    Args:
        moving: float32, finite.
        positions: voxel (i, j, k) lands at (p₀ i + p₃) + (p₁ j + p₂ k) along each
            axis, in voxels of `moving`.
        slopes: whether the slopes along x, y and z come after the values.

    Returns:
        One volume or four; beyond the outermost voxels they fade to zero.
    """
    volumes = _interpolate_all(4 if slopes else 1)(moving[None], positions[None])
    return [volume[0] for volume in volumes]


@functools.cache
def _interpolate_all(rows: int) -> Callable[[Array, Array], list[Array]]:
    """The function of [n, x, y, z] and [n, 3, 4] for one number of results.

    A `vmap` makes n larger; that of the kernel itself would be a loop of kernels.
    """

    @jax.custom_batching.custom_vmap
    def interpolate_all(moving, positions):
        return _run(rows, moving, positions)

    @interpolate_all.def_vmap
    def merge(size, batched, *inputs):
        each = [
            x if has else jnp.broadcast_to(x, (size, *x.shape))
            for x, has in zip(inputs, batched, strict=True)
        ]
        merged = interpolate_all(*(x.reshape(-1, *x.shape[2:]) for x in each))
        return [x.reshape(size, -1, *x.shape[1:]) for x in merged], [True] * rows

    return interpolate_all


def _run(rows: int, moving: Array, positions: Array) -> list[Array]:
    """The kernel on every block of every volume."""
    volumes, *shape = moving.shape
    # A box must fit into the volume, in whole tiles.
    sizes = max(shape[0], _BOX[0]), max(-(-shape[1] // _TILE) * _TILE, _BOX[1])
    widths = [(0, size - n) for size, n in zip(sizes, shape, strict=False)]
    moving = jnp.pad(moving, [(0, 0), *widths, (0, 0)])
    fits = moving.size // volumes * 4 <= _FITS
    block = (*_BLOCK[:2], _ROW)
    grid = (volumes, *(-(-n // of) for n, of in zip(shape, block, strict=True)))
    whole = [n * of for n, of in zip(grid, (1, *block), strict=True)]
    box = (*_BOX, shape[2])
    once = pl.BlockSpec(
        (1, *moving.shape[1:]),
        lambda volume, i, j, k, _: (volume, 0, 0, 0),
        pipeline_mode=pl.Buffered(1),
    )
    scratch = [pltpu.VMEM((rows, *block), jnp.float32)]
    if not fits:
        scratch += [pltpu.VMEM(box, jnp.float32), pltpu.SemaphoreType.DMA(())]
    # One box for each block, unless the affine spreads it.
    blocks = [-(-n // of) for n, of in zip(shape, _BLOCK, strict=True)]
    boxes = volumes * math.prod(blocks)
    read = moving.size if fits else boxes * math.prod(box)
    call = pl.pallas_call(
        functools.partial(_kernel, tuple(shape), rows),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=grid,
            in_specs=[once if fits else pl.BlockSpec(memory_space=pl.ANY)],
            out_specs=[pl.BlockSpec((1, *block), lambda *at: at[:4])] * rows,
            scratch_shapes=scratch,
        ),
        out_shape=[jax.ShapeDtypeStruct(whole, jnp.float32)] * rows,
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_FAST),
        cost_estimate=pl.CostEstimate(
            flops=2 * boxes * 3 * math.prod(box) * 2 * math.prod(_BLOCK),
            bytes_accessed=4 * (read + rows * math.prod(whole)),
            transcendentals=0,
        ),
        interpret=forms.platform() != "tpu",
    )
    results = forms.on_each_device(call, positions.reshape(-1), moving)
    return [x[:, : shape[0], : shape[1], : shape[2]] for x in results]


def _kernel(shape, rows: int, positions, moving, *references):
    """A row of blocks along z, one after the other."""
    outputs, (blocks, *memory) = references[:rows], references[rows:]
    volume, *first = (pl.program_id(axis) for axis in range(4))
    first = [low * of for low, of in zip(first, (*_BLOCK[:2], _ROW), strict=True)]

    def add_block(number, _):
        begin = [*first[:2], first[2] + number * _BLOCK[2]]
        affine = [positions[12 * volume + k] for k in range(12)]
        results = _interpolate_block(
            shape, rows, affine, begin, moving.at[0 if not memory else volume], *memory
        )
        for x in range(_BLOCK[0]):
            part = results[:, x * _ROW : (x + 1) * _ROW]
            blocks[:, x, pl.ds(number, 1), :] = part[:, None]
        return 0

    # A short row has fewer blocks; what lies beyond it is cut off.
    lax.fori_loop(0, -(-min(_ROW, shape[2]) // _BLOCK[2]), add_block, 0)
    for row, output in enumerate(outputs):
        for x in range(_BLOCK[0]):
            output[0, x] = _exchange(blocks[row, x])


def _exchange(blocks: Array) -> Array:
    """[block, (y, z)] → [y, (block, z)], eight blocks with eight rows of 16 voxels.

    One bit of both numbers after the other.
    """
    block = lax.broadcasted_iota(jnp.int32, blocks.shape, 0)
    y = lax.broadcasted_iota(jnp.int32, blocks.shape, 1) >> 4
    for bit in (1, 2, 4):
        # Where one of the two has the bit, both are changed in it.
        from_above = pltpu.roll(pltpu.roll(blocks, 8 - bit, 0), 16 * bit, 1)
        from_below = pltpu.roll(pltpu.roll(blocks, bit, 0), _ROW - 16 * bit, 1)
        moved = jnp.where((y & bit) > 0, from_above, from_below)
        blocks = jnp.where((block & bit) == (y & bit), blocks, moved)
    return blocks


def _interpolate_block(shape, rows: int, positions, first, moving, *memory) -> Array:
    """One block: visit the boxes that it touches, and add up what they give.

    Args:
        shape: of the volume without its padding.
        rows: 1, values, or 4, values and slopes.
        positions: the affine, 12 numbers.
        first: the block's first voxel along each axis.
        moving: the padded volume, in fast memory if there is no `memory`.
        memory: a box in fast memory, and a semaphore that says when it has arrived.

    Returns:
        [rows, voxels].
    """
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

    lines = shape[2]
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
        if memory:
            copy = pltpu.make_async_copy(part, *memory)
            copy.start()
        x = x_low + lax.broadcasted_iota(jnp.int32, (_BOX[0], 1, count), 0)
        y = y_low + lax.broadcasted_iota(jnp.int32, (1, _BOX[1], count), 1)
        x_value, x_slope = (w[:, 0] for w in weights(0, x, x >= x_begin))
        y_value, y_slope = weights(1, y, y >= y_begin)
        if memory:
            copy.wait()
            part = memory[0]
        rest, terms = part[...].reshape(-1, lines), []
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
        if rows > 1:
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

    start = jnp.zeros((rows, count), jnp.float32)
    return lax.fori_loop(0, x_count * y_count, one_more, start)
