"""Cubes of voxels: interpolated under a matrix, and summed around each voxel.

A cube is [n, n, n]; positions are in voxels from its centre; matrices are [3, 4].
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

REACH = 3  # voxels, of the neighbourhood of a voxel in each direction

SPARSE = 96  # size of the cubes that are sampled at few points, between the voxels
# Steps along x, y and z of a sequence that fills a cube evenly (Roberts' R3).
_EVEN = np.array([[0.81917251], [0.67104361], [0.54970048]], np.float32)
_PERIOD = 4093  # points; more of them would round their products
_POLE = np.sqrt(3) - 2  # of the cubic spline's filter (Unser, 1999)
_FAR = 6  # voxels, beyond which its response is below 0.001


def positions(points: Array, size: int) -> Array:
    """Homogeneous positions [4, k] of flat voxel indices [k] of a cube [size]³.

    Of the finest cubes they are not the centres, but spread over the voxels: only on
    centres does interpolation leave noise as it is, so that noise pushes images on
    grids alike off each other (Pluim et al., 2000; Tsao, 2003).
    """
    indices = [points // size**2, points // size % size, points % size]
    at = jnp.stack(indices).astype(jnp.float32) - (size - 1) / 2
    if size == SPARSE:
        at += _EVEN * (points % _PERIOD) % 1 - 0.5
    return jnp.concatenate([at, jnp.ones((1, len(points)))])


def sample(channels: Array, cells: Array, matrix: Array, x: Array):
    """Sample cubes at matrix · x.

    Args:
        channels: [c, n, n, n], interpolated linearly.
        cells: [c, n, n, n], one value for each cell of eight voxels.
        matrix: [3, 4], in voxels from the centre.
        x: [4, k], see `positions`.

    Returns:
        Values [c, k] and slopes [3, c, k] of the channels, values [c, k] of the cells;
        zero outside the outermost voxel centres.
    """
    size = channels.shape[-1]
    at = product(matrix, x.T) + (size - 1) / 2
    within = ((at >= 0) & (at <= size - 1)).all(0)
    at = jnp.clip(at, 0, size - 1)
    low = jnp.minimum(jnp.floor(at), size - 2)
    (u, v, w), low = at - low, low.astype(jnp.int32)

    def corner(volumes, i=0, j=0, k=0):
        index = ((low[0] + i) * size + low[1] + j) * size + low[2] + k
        flat = volumes.reshape(len(volumes), -1)
        return jnp.take(flat, index, axis=1, mode="clip")

    # Along z first, then y, then x; differences give the slopes on the way.
    lines = [
        (corner(channels, i, j), corner(channels, i, j, 1) - corner(channels, i, j))
        for i in (0, 1)
        for j in (0, 1)
    ]
    c00, c01, c10, c11 = (value + w * slope for value, slope in lines)
    z00, z01, z10, z11 = (slope for _, slope in lines)
    y0, y1 = c01 - c00, c11 - c10
    c0, c1 = c00 + v * y0, c10 + v * y1
    z0, z1 = z00 + v * (z01 - z00), z10 + v * (z11 - z10)
    slopes = jnp.stack([c1 - c0, y0 + u * (y1 - y0), z0 + u * (z1 - z0)])
    values = c0 + u * (c1 - c0)
    return values * within, slopes * within, corner(cells) * within


def sample_cubic(volume: Array, x: Array) -> Array:
    """A volume [n, n, n] at positions x [4, k], by its cubic spline: [k].

    Linear interpolation blurs most in the middle of a voxel. Where both images were
    blurred so, they would look alike where their voxels coincide.
    """
    size = volume.shape[-1]
    response = -6 * _POLE / (1 - _POLE**2) * _POLE ** np.abs(np.arange(-_FAR, _FAR + 1))
    coefficients = _convolve(volume, response)
    at = x[:3] + (size - 1) / 2
    low = jnp.clip(jnp.floor(at), 1, size - 3)
    t, low = at - low, low.astype(jnp.int32) - 1
    shares = jnp.stack(
        [(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * (t + t**2 - t**3), t**3]
    )
    shares /= 6  # [4, 3, k]
    total = jnp.zeros(x.shape[1])
    for i, j, k in np.ndindex(4, 4, 4):
        index = ((low[0] + i) * size + low[1] + j) * size + low[2] + k
        share = shares[i, 0] * shares[j, 1] * shares[k, 2]
        total += share * jnp.take(coefficients.reshape(-1), index, mode="clip")
    return total


def lowest_corner(volumes: Array) -> Array:
    """The lowest value of each cell of 2×2×2 voxels, at its first voxel.

    So one look-up says whether all eight voxels around a position count.
    """
    for axis in (-3, -2, -1):
        volumes = jnp.minimum(volumes, jnp.roll(volumes, -1, axis))
    return volumes


def smooth(volumes: Array) -> Array:
    """Gaussian blur (σ = 1 voxel) of volumes [*any, n, n, n]; zeros outside."""
    taps = np.exp(-0.5 * np.arange(-REACH, REACH + 1) ** 2)
    return _convolve(volumes, taps / taps.sum())


def _convolve(volumes: Array, taps: np.ndarray) -> Array:
    """Volumes [*any, n, n, n] filtered along x, y and z; zeros outside."""
    reach = len(taps) // 2
    for axis in (-3, -2, -1):
        # Shifted copies are summed in one pass, five times as fast as a product with
        # a band matrix. The barrier keeps XLA from doing one axis anew for each tap
        # of the next.
        margin = [(0, 0)] * volumes.ndim
        margin[axis] = reach, reach
        padded = jax.lax.optimization_barrier(jnp.pad(volumes, margin))
        length = volumes.shape[axis]
        volumes = sum(
            tap * jax.lax.slice_in_dim(padded, shift, shift + length, axis=axis)
            for shift, tap in enumerate(taps.tolist())
        )
    return volumes


def product(a: Array, b: Array) -> Array:
    """a · bᵀ of [m, …] and [n, …], summed over all voxels, in full float32."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return jnp.matmul(a, b.T, precision="highest")
