"""The signal of a head before any scanner: tissues, texture, lesions, at any points."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax import geometry
from mdvit_jax.data import acquisition, head_shape, label_maps, smooth_fields, tissues
from mdvit_jax.data.head_shape import Person, Shift
from mdvit_jax.data.label_maps import Head
from mdvit_jax.data.scan_draw import Draw

_BLOB = 8.0  # mm, about the size of lobules of fat and of patches of texture
_EDGE = 0.7  # mm over which a lesion fades
_DEEP = 5.0  # mm below the surface of the brain, where lesions have their centres


def tissue_signal(key: Array, head: Head, draw: Draw) -> Array:
    """The brightness of each voxel of the label map, [x, y, z] ≥ 0.

    It is the tissue's mean plus texture, and soft tissue has blobs of fat.
    """
    labels = jnp.asarray(head.labels, jnp.int32)
    white = jax.random.normal(key, labels.shape)
    # Seen coarsely: blobs, of variance 1 again. A power of two divides all shapes.
    voxel = label_maps.FIELD[0] / labels.shape[0]
    blob = 2 ** max(1, round(math.log2(_BLOB / voxel)))
    blobs = blob**1.5 * acquisition.block_mean(white, (blob, blob, blob))
    blobs = jax.image.resize(blobs, labels.shape, "linear")
    tissue = jnp.asarray(tissues.TISSUE_OF_LABEL)
    is_soft = tissue == tissues.SOFT_TISSUE
    excess = jnp.where(is_soft, draw.fat - draw.means[tissues.SOFT_TISSUE], 0)
    signal = draw.means[tissue][labels]
    signal += excess[labels] * jax.nn.sigmoid(6 * (blobs - 0.2))
    signal += draw.texture[tissue][labels] * (0.5 * white + blobs)
    return jnp.maximum(signal, 0)


def standard_brain(head: Head) -> tuple[Array, Array]:
    """The brain in the standard contrast, and the depth below its surface in mm.

    Both are [x, y, z] on the grid of the label map.
    """
    depth = jnp.asarray(head.depth, jnp.float32) * label_maps.DEPTH_STEP
    brain = jnp.asarray(tissues.STANDARD)[jnp.asarray(head.labels, jnp.int32)]
    return jnp.where(depth > 0, brain, 0), depth


def sample(
    channels: Sequence[Array],
    head: Head,
    person: Person,
    shift: Shift,
    from_image: Array,
    axes: tuple[Array, Array, Array],
    spacing: float,
) -> list[Array]:
    """Channels of the label map at the samples of the image, by linear interpolation.

    A sample at q shows the map's point side · (p + u(p)), where p = from_image · q.
    Where samples are two voxels of the map apart or more, voxels are averaged first.

    Args:
        channels: three volumes [x, y, z] on the grid of the map; the last one is the
            depth.
        head: the label map.
        person: the shape of the head.
        shift: its u, of `head_shape.find_shift`.
        from_image: [4, 4], image → the person's head, both mm.
        axes: positions of the samples along x, y and z, in mm: [x], [y], [z].
        spacing: the smallest distance of two samples, mm.

    Returns:
        The three volumes at the samples, [x, y, z] each.
    """
    side = jnp.append(head_shape.side(person), 1.0)
    channels, to_mm = _average(channels, jnp.asarray(head.to_mm), spacing)
    to_voxel = jnp.linalg.inv(to_mm) * side
    with_affine = geometry.homogeneous(jnp.eye(3) + shift.linear, shift.offset)
    matrix = geometry.compose(to_voxel, with_affine, from_image)
    waves = shift.waves._replace(
        amplitudes=jnp.matmul(
            to_voxel[:3, :3], shift.waves.amplitudes, precision="highest"
        )
    )
    moved = smooth_fields.on_grid(waves, from_image, axes)
    positions = [
        p + u
        for p, u in zip(smooth_fields.transform_grid(matrix, axes), moved, strict=True)
    ]
    outside = (0.0, 0.0, -127 * label_maps.DEPTH_STEP)
    return acquisition.interpolate(channels, positions, outside)


def _average(
    channels: Sequence[Array], to_mm: Array, spacing: float
) -> tuple[Sequence[Array], Array]:
    """Means of as many voxels of the map as go into the distance of two samples."""
    count = int(spacing * channels[0].shape[0] / label_maps.FIELD[0])
    block = 2 ** int(math.log2(max(count, 1)))  # a power of two divides all shapes
    if block == 1:
        return channels, to_mm
    to_coarse = np.diag([block, block, block, 1.0])
    to_coarse[:3, 3] = (block - 1) / 2
    means = [acquisition.block_mean(volume, (block,) * 3) for volume in channels]
    return means, geometry.compose(to_mm, jnp.asarray(to_coarse, jnp.float32))


def add_lesions(
    signal: Array,
    depth: Array,
    position: Sequence[Array],
    head: Head,
    person: Person,
    draw: Draw,
) -> Array:
    """Add ellipsoids of another brightness about points within the brain.

    Args:
        signal, depth: [x, y, z] at the samples; the depth in mm below the brain's
            surface.
        position: of the samples in the person's head, 3 × [x, y, z] mm.
        head: the label map.
        person: the shape of the head.
        draw: of it, the lesions.

    Returns:
        The signal [x, y, z].
    """
    points, deep = head_shape.scattered_points(head, person)
    count = jnp.cumsum(deep > _DEEP)
    chosen = jnp.searchsorted(count, draw.lesion_place * count[-1], side="right")
    for centre, radius, mean in zip(
        points[chosen], draw.lesion_radius, draw.lesion_mean, strict=True
    ):
        exists = radius.max() > 0
        width = jnp.where(exists, radius, 1)
        square = sum(
            ((p - c) / w) ** 2 for p, c, w in zip(position, centre, width, strict=True)
        )
        share = jax.nn.sigmoid((1 - jnp.sqrt(square)) * width.min() / _EDGE)
        signal += jnp.where(exists & (depth > -1), share, 0) * (mean - signal)
    return signal
