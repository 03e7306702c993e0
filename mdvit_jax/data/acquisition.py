"""What a scanner does to a signal: bias, slices, resolution, noise, field of view.

Slice profile, blur and resolution act along one axis at a time, so each is a small
matrix per axis, whatever the spacing that was drawn: shapes stay the same.
"""

import jax
import jax.numpy as jnp
from jax import Array


def axis_positions(size: int, voxel: float) -> Array:
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


def apply_along_axes(volume: Array, matrices: tuple[Array, Array, Array]) -> Array:
    """[x, y, z] under a matrix [new, old] along each of its axes."""
    for matrix in matrices:
        # Contracts the first axis and appends the new one as the last.
        volume = jnp.tensordot(volume, matrix, axes=(0, 1), precision="highest")
    return volume


def add_rician_noise(key: Array, signal: Array, deviation: Array) -> Array:
    """Magnitude of a signal with Gaussian noise in its real and imaginary part."""
    real, imaginary = deviation * jax.random.normal(key, (2, *signal.shape))
    return jnp.hypot(signal + real, imaginary)


def block_mean(volume: Array, block: tuple[int, int, int]) -> Array:
    """Mean of blocks of voxels, [x, y, z] → [x/a, y/b, z/c] for blocks of a×b×c."""
    if block == (1, 1, 1):
        return volume
    shape = [
        n for size, b in zip(volume.shape, block, strict=True) for n in (size // b, b)
    ]
    return volume.reshape(shape).mean(axis=(1, 3, 5))


def normalise(image: Array, *, brightest: float = 0.999) -> Array:
    """Divide by a quantile of the voxels above 0 and clip to [0, 1], as `conform` does.

    The quantile is that of every second, third, … voxel where there are many.
    """
    steps = [max(1, round(size / 64)) for size in image.shape]
    values = jnp.sort(image[:: steps[0], :: steps[1], :: steps[2]].ravel())
    above = (values > 0).sum()
    index = len(values) - 1 - ((1 - brightest) * above).astype(int)
    largest = values[index]
    return jnp.clip(image / jnp.where(largest > 0, largest, 1), 0, 1)
