"""The effects of a scanner on a signal: slices, resolution, noise, intensities.

Slice profile, blur and resolution act along one axis at a time, so each is a small
matrix per axis, whatever the spacing that was drawn: shapes stay the same.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

_BRIGHTEST = 0.999  # quantile of the voxels that becomes 1


def axis_positions(size: int, voxel: Array | float) -> Array:
    """Voxel centres along one axis in mm from the middle of the grid, [size]."""
    return (jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2) * voxel


def slice_profile(
    source: Array, target: Array, *, thickness: Array, blur: Array
) -> Array:
    """Mean of the source samples within each slice, [target, source].

    The profile is a box of the slice's thickness under a Gaussian; it is at least as
    wide as the source samples lie apart. Beyond the source there is nothing (zeros).

    Args:
        source, target: positions in mm along the axis, evenly spaced.
        thickness: full width in mm.
        blur: standard deviation of the Gaussian, mm.
    """
    step = source[1] - source[0]
    half = jnp.maximum(thickness, step) / 2
    # Not less than a fifth of a step, so that a box which moves along the samples
    # changes their weights smoothly.
    width = jnp.maximum(blur, 0.2 * step)

    def weights(distance):
        rise = jax.scipy.stats.norm.cdf((distance + half) / width)
        return rise - jax.scipy.stats.norm.cdf((distance - half) / width)

    distance = source - target[:, None]
    # What the profile would collect if the source went on beyond its ends.
    steps = jnp.arange(-64, 65) * step
    nearest = jnp.round((target - source[0]) / step) * step + source[0]
    whole = weights((nearest - target)[:, None] + steps).sum(axis=1, keepdims=True)
    return weights(distance) / whole


def interpolate_slices(source: Array, target: Array, spacing: Array) -> Array:
    """Linear interpolation between slices `spacing` mm apart, [target, source]."""
    return jnp.maximum(0, 1 - jnp.abs(target[:, None] - source) / spacing)


def interpolate(
    volumes: Sequence[Array], positions: Sequence[Array], outside: Sequence[float]
) -> list[Array]:
    """Trilinear interpolation of several volumes at the same positions.

    Args:
        volumes: [x, y, z] each, all of one shape.
        positions: in voxels along x, y, z; three arrays of any one shape.
        outside: the value beyond each of the volumes; between it and the outermost
            voxels is interpolated, too.

    Returns:
        The values of each volume, of the positions' shape.
    """
    below, fraction = [], []
    for position, size in zip(positions, volumes[0].shape, strict=True):
        position = jnp.clip(position, -1, size - 1e-3)
        floor = jnp.floor(position)
        below.append(floor.astype(jnp.int32) + 1)  # in the padded volume
        fraction.append(position - floor)
    fx, fy, fz = fraction
    _, ny, nz = (size + 2 for size in volumes[0].shape)
    first = (below[0] * ny + below[1]) * nz + below[2]

    def one(volume: Array, value: float) -> Array:
        flat = jnp.pad(volume, 1, constant_values=value).reshape(-1)

        def along(step: int, axes) -> Array:
            if not axes:
                return flat.at[first + step].get(mode="promise_in_bounds")
            (stride, weight), *rest = axes
            low = along(step, rest)
            return low + weight * (along(step + stride, rest) - low)

        return along(0, [(ny * nz, fx), (nz, fy), (1, fz)])

    return [one(v, value) for v, value in zip(volumes, outside, strict=True)]


def apply_along_axes(volume: Array, matrices: Sequence[Array]) -> Array:
    """A volume [x, y, z] multiplied along each axis with a matrix [new, old]."""
    for matrix in matrices:
        # Contracts the first axis and appends the new one as the last.
        volume = jnp.tensordot(volume, matrix, axes=(0, 1), precision="highest")
    return volume


def add_rician_noise(key: Array, signal: Array, deviation: Array) -> Array:
    """Magnitude of a signal with Gaussian noise in its real and imaginary part.

    The noise is drawn as radius and angle (Box & Muller 1958) with 16 bits each, since
    most of the time goes into drawing bits.

    Args:
        key: of `jax.random.key`.
        signal: [*any], ≥ 0.
        deviation: standard deviation of the noise, in units of the signal.

    Returns:
        [*any], ≥ 0.
    """
    bits = jax.random.bits(key, signal.shape)
    uniform = ((bits >> 16).astype(jnp.float32) + 0.5) / 2**16
    angle = (bits & 0xFFFF).astype(jnp.float32) * (2 * jnp.pi / 2**16)
    radius = deviation * jnp.sqrt(-2 * jnp.log(uniform))
    real = signal + radius * jnp.cos(angle)
    return jnp.sqrt(real**2 + (radius * jnp.sin(angle)) ** 2)


def block_mean(volume: Array, block: tuple[int, int, int]) -> Array:
    """Mean of blocks of voxels, [x, y, z] → [x/a, y/b, z/c] for blocks of a×b×c."""
    if block == (1, 1, 1):
        return volume
    shape = [
        n for size, b in zip(volume.shape, block, strict=True) for n in (size // b, b)
    ]
    return volume.reshape(shape).mean(axis=(1, 3, 5))


def normalise(image: Array) -> Array:
    """Divide by a quantile of the voxels above 0 and clip to [0, 1], as `conform` does.

    Of a large volume the quantile is that of a regular sample; it is computed by
    bisection, which is faster than sorting.

    Args:
        image: [x, y, z], ≥ 0.
    """
    steps = [max(1, round(size / 64)) for size in image.shape]
    values = image[:: steps[0], :: steps[1], :: steps[2]]
    above = (1 - _BRIGHTEST) * (values > 0).sum()

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        beyond = (values > middle).sum() > above
        return jnp.where(beyond, middle, low), jnp.where(beyond, high, middle)

    _, largest = jax.lax.fori_loop(0, 20, halve, (0.0, values.max()))
    return jnp.clip(image / jnp.where(largest > 0, largest, 1), 0, 1)
