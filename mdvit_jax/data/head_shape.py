"""The shape of a person's head: a label map, mirrored or not, smoothly deformed.

The person's point p shows the map's point side · (p + u(p)), where u has no affine part
over the brain: else the known affine between two scans would not be the one that a
registration should find. All in mm, with the brain's centre of mass as origin.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax.data import label_maps, landmarks, smooth_fields
from mdvit_jax.data.label_maps import Head


class Person(NamedTuple):
    """The shape of a head: how it differs from that of its label map.

    Attributes:
        mirror: bool, left and right are exchanged.
        deformation: mm, root mean square of u along an axis over the brain.
        shift: of three components, which u is proportional to but for its affine part.
    """

    mirror: Array
    deformation: Array
    shift: smooth_fields.Waves


class Shift(NamedTuple):
    """u(p) = waves(p) + linear · p + offset, in mm."""

    waves: smooth_fields.Waves
    linear: Array  # [3, 3]
    offset: Array  # [3]


def side(person: Person) -> Array:
    """[3], -1 along x for a mirrored person."""
    return jnp.where(person.mirror, jnp.array([-1.0, 1, 1]), 1.0)


def scattered_points(head: Head, person: Person) -> tuple[Array, Array]:
    """Some thousand of the map's voxels in the person's head, evenly spread.

    Returns:
        [n, 3] in mm, and [n]: how deep in the brain each lies, in mm.
    """
    shape = head.labels.shape
    steps = [max(1, size // 16) for size in shape]
    ranges = [np.arange(0, n, step) for n, step in zip(shape, steps, strict=True)]
    index = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    points = transform(jnp.asarray(head.to_mm), jnp.asarray(index, jnp.float32))
    depth = jnp.asarray(head.depth)[:: steps[0], :: steps[1], :: steps[2]].ravel()
    return points * side(person), depth * label_maps.DEPTH_STEP


def find_shift(head: Head, person: Person) -> Shift:
    """The deformation u of a person."""
    points, depth = scattered_points(head, person)
    weights = (depth > 0).astype(jnp.float32)
    values = smooth_fields.at_points(person.shift, points)
    linear, offset = fit_affine(points, values, weights)
    rest = values - (jnp.matmul(points, linear.T, precision="highest") + offset)
    square = (weights[:, None] * rest**2).sum() / (3 * weights.sum())
    scale = person.deformation / jnp.sqrt(square)
    waves = person.shift._replace(amplitudes=scale * person.shift.amplitudes)
    return Shift(waves, -scale * linear, -scale * offset)


def move_landmarks(head: Head, person: Person, shift: Shift) -> Array:
    """Where the landmarks of the map lie in the person's head, [landmarks, 3] mm."""
    original = jnp.asarray(head.landmarks)
    mirrored = original[jnp.asarray(landmarks.MIRRORED)] * side(person)
    target = jnp.where(person.mirror, mirrored, original)
    point = target
    for _ in range(4):  # towards p + u(p) = target
        affine = jnp.matmul(point, shift.linear.T, precision="highest") + shift.offset
        point = target - smooth_fields.at_points(shift.waves, point) - affine
    return point


def fit_affine(source: Array, target: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted least squares of target ≈ linear · source + offset.

    Args:
        source, target: [n, 3].
        weights: [n].

    Returns:
        linear [3, 3] and offset [3].
    """
    # About the means, else float32 does not suffice.
    total = weights.sum()
    middle = (weights[:, None] * source).sum(axis=0) / total
    mean = (weights[:, None] * target).sum(axis=0) / total
    centred = weights[:, None] * (source - middle)
    normal = jnp.matmul(centred.T, source - middle, precision="highest")
    mixed = jnp.matmul(centred.T, target - mean, precision="highest")
    linear = jnp.linalg.solve(normal, mixed).T
    return linear, mean - jnp.matmul(linear, middle, precision="highest")


def transform(matrix: Array, points: Array) -> Array:
    """Points [n, 3] under a 4×4 matrix."""
    return jnp.matmul(points, matrix[:3, :3].T, precision="highest") + matrix[:3, 3]
