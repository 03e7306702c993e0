"""A scanner in software: from the label map of a head to an image, the truth known.

    label map → tissue means and texture → deformation and pose → lesions → bias field
    → slices, blur and resolution → noise → field of view → stripping → whole numbers

Pure functions of a key, for `jit` and `vmap`: shapes are those of the settings whatever
is drawn, nothing scatters, and every step does exactly nothing where its strength is 0.

Three spaces, all in mm: that of the label map (`label_maps.Head.to_mm`), the person's
head, in which the map is deformed, with the brain's centre as origin; and the image
with the middle of its grid as origin. Two scans of one person have an exact affine
between them, since the deformation belongs to the person.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax import geometry
from mdvit_jax.data import (
    acquisition,
    label_maps,
    scan_draw,
    smooth_fields,
    tissue_contrast,
)
from mdvit_jax.data.label_maps import Head
from mdvit_jax.data.scan_draw import Draw, Person, Settings

_EDGE = 0.7  # mm over which a lesion fades
_FACE_BEGINS = 8.0  # mm from the brain, which defacing leaves alone


class Scan(NamedTuple):
    """A synthetic scan and its truth.

    Attributes:
        image: float32 [x, y, z] in [0, 1], what a network or `register` is given.
        brain: float32 [x, y, z], the brain of the same head in one standard contrast
            (T1), 0 around it: without lesions, bias, noise, or limits of the field.
        mask: bool [x, y, z], where that brain is.
        head_to_image: float32 [4, 4], from the person's head in mm to normalised
            coordinates of the grid (`geometry.grid`); see `known_affine`.
        landmarks: float32 [labels, 3], the centre of mass of each structure of
            `label_maps.NUMBERS` in normalised coordinates; NaN where there is none.
        draw: what was drawn.
    """

    image: Array
    brain: Array
    mask: Array
    head_to_image: Array
    landmarks: Array
    draw: Draw


def synthesise(
    key: Array, head: Head, settings: Settings, *, person: Person | None = None
) -> Scan:
    """Draw a scan of a head and make it.

    For a batch: `jax.vmap(lambda key, head: synthesise(key, head, settings))`. For two
    scans of one person draw the person first (`scan_draw.draw_person`) and hand it to
    both.

    Args:
        key: of everything random.
        head: a label map (`label_maps.read_head`).
        settings: how often and how strongly; static.
        person: the shape of the head; None draws one.
    """
    of_person, of_scan = jax.random.split(key)
    if person is None:
        person = scan_draw.draw_person(of_person, settings)
    return form_scan(head, person, scan_draw.draw_scan(of_scan, settings), settings)


def known_affine(fixed: Scan, moving: Scan) -> Array:
    """`fixed_to_moving` of two scans of one person, [*batch, 4, 4], normalised."""
    return geometry.compose(moving.head_to_image, jnp.linalg.inv(fixed.head_to_image))


def landmark_affine(fixed: Scan, moving: Scan) -> Array:
    """`fixed_to_moving` that fits the landmarks of two people best, [4, 4], normalised.

    By least squares over the structures that both have: what comes nearest to a truth
    where the two heads differ by more than an affine. For a batch: `jax.vmap`.
    """
    both = jnp.isfinite(fixed.landmarks + moving.landmarks).all(axis=-1)
    source, target = (
        jnp.where(both[:, None], scan.landmarks, 0) for scan in (fixed, moving)
    )
    fit = _fit_affine(source, target, both.astype(jnp.float32))
    return geometry.homogeneous(fit[:3].T, fit[3])


def form_scan(head: Head, person: Person, draw: Draw, settings: Settings) -> Scan:
    """Make the scan that was drawn, as described at the top of this file."""
    keys = dict(zip(
        ("texture", "lesions", "bias", "noise", "surface"),
        jax.random.split(draw.key, 5), strict=True,
    ))  # fmt: skip
    block = settings.oversample
    fine = [n * b for n, b in zip(settings.shape, block, strict=True)]
    step = [v / b for v, b in zip(settings.voxel, block, strict=True)]
    axes = tuple(map(acquisition.axis_positions, fine, step))
    to_image = pose_matrix(draw)
    from_image = jnp.linalg.inv(to_image)
    shift = _without_affine(head, person)

    channels = [_signal(keys["texture"], head, draw), *_anatomy(head)]
    signal, brain, depth = _sample(channels, head, person, shift, from_image, axes)
    position = _transform_grid(from_image, axes)
    signal = _add_lesions(keys["lesions"], signal, depth, position, head, person, draw)
    bias = smooth_fields.random_waves(keys["bias"], 70.0, waves=16)
    signal *= jnp.exp(draw.bias * smooth_fields.on_grid(bias, jnp.eye(4), axes)[0])
    image = _acquire(keys["noise"], signal, axes, to_image, draw, settings)

    surface = smooth_fields.random_waves(keys["surface"], 12.0, components=2)
    ragged, lump = smooth_fields.on_grid(surface, jnp.eye(4), axes)
    kept = _within_brain(depth, ragged, lump, draw) & _without_face(
        depth, position, draw
    )
    brain, depth = (acquisition.block_mean(v, block) for v in (brain, depth))
    kept = kept.astype(image.dtype)
    if settings.conformed:
        image = acquisition.block_mean(image * kept, block)
    else:
        image *= acquisition.block_mean(kept, block) >= 0.5
    extent = np.array(settings.shape) * np.array(settings.voxel) / 2
    head_to_image = geometry.compose(
        jnp.diag(jnp.array([*(1 / extent), 1.0], jnp.float32)), to_image
    )
    landmarks = _landmarks(head, person, shift)
    landmarks = _transform(head_to_image, landmarks)
    return Scan(
        image=_round(acquisition.normalise(image), draw.levels),
        brain=brain,
        mask=depth > 0,
        head_to_image=head_to_image,
        landmarks=landmarks,
        draw=draw,
    )


def pose_matrix(draw: Draw) -> Array:
    """From a person's head to the image, mm: turn · (translation, R · H · S)."""
    rotation = draw.rotation / jnp.pi
    zero = jnp.zeros_like(rotation)
    turned = geometry.affine_matrix(jnp.concatenate([zero, rotation, zero, zero]))
    shear = jnp.eye(3).at[jnp.triu_indices(3, 1)].set(draw.shear)
    linear = geometry.compose(turned[:3, :3], shear) * draw.scale
    turn = jnp.asarray(scan_draw.TURNS)[draw.turn]
    offset = geometry.compose(turn, draw.translation[:, None])[:, 0]
    return geometry.homogeneous(geometry.compose(turn, linear), offset)


def _signal(key: Array, head: Head, draw: Draw) -> Array:
    """The brightness of each voxel of the label map: mean, texture, fat in between."""
    labels = jnp.asarray(head.labels, jnp.int32)
    tissue = jnp.asarray(label_maps.TISSUE_OF_LABEL)
    white, coarse = jax.random.split(key)
    blobs = jax.random.normal(coarse, [max(2, size // 4) for size in labels.shape])
    blobs = jax.image.resize(blobs, labels.shape, "linear")
    texture = 0.5 * jax.random.normal(white, labels.shape) + blobs
    table = jnp.stack([draw.means[tissue], draw.texture[tissue]])
    mean, deviation = (row[labels] for row in table)
    lean = draw.means[tissue_contrast.SOFT_TISSUE]
    share = jax.nn.sigmoid(6 * (blobs - 0.2))
    soft = jnp.asarray(tissue == tissue_contrast.SOFT_TISSUE)[labels]
    mean += jnp.where(soft, share * (draw.fat - lean), 0)
    return jnp.maximum(mean + deviation * texture, 0)


def _anatomy(head: Head) -> tuple[Array, Array]:
    """The brain in the standard contrast, and the depth below its surface in mm."""
    depth = jnp.asarray(head.depth, jnp.float32) * label_maps.DEPTH_STEP
    brain = jnp.asarray(tissue_contrast.STANDARD)[jnp.asarray(head.labels, jnp.int32)]
    return jnp.where(depth > 0, brain, 0), depth


def _side(person: Person) -> Array:
    """[3], -1 along x for a mirrored person."""
    return jnp.where(person.mirror, jnp.array([-1.0, 1, 1]), 1.0)


def _brain_points(head: Head, person: Person) -> tuple[Array, Array]:
    """Some thousand voxels in the person's head, [n, 3] mm, and how deep each lies."""
    steps = [max(1, size // 16) for size in head.labels.shape]
    index = np.stack(
        np.meshgrid(
            *(
                np.arange(0, n, s)
                for n, s in zip(head.labels.shape, steps, strict=True)
            ),
            indexing="ij",
        ),
        axis=-1,
    ).reshape(-1, 3)
    points = _transform(jnp.asarray(head.to_mm), jnp.asarray(index, jnp.float32))
    depth = jnp.asarray(head.depth)[:: steps[0], :: steps[1], :: steps[2]].ravel()
    return points * _side(person), depth * label_maps.DEPTH_STEP


def _fit_affine(source: Array, target: Array, weights: Array) -> Array:
    """[4, 3] by weighted least squares: target ≈ (source, 1) · result."""
    design = jnp.concatenate([source, jnp.ones_like(source[:, :1])], axis=-1)
    weighted = (design * weights[:, None]).T
    normal = jnp.matmul(weighted, design, precision="highest")
    return jnp.linalg.solve(normal, jnp.matmul(weighted, target, precision="highest"))


class _Shift(NamedTuple):
    """u(p) = scale · (waves(p) - affine(p)), in mm."""

    waves: smooth_fields.Waves
    linear: Array  # [3, 3]
    offset: Array  # [3]


def _without_affine(head: Head, person: Person) -> _Shift:
    """The person's deformation without an affine part over the brain.

    Else the known affine would not be the one that a registration should find.
    """
    points, depth = _brain_points(head, person)
    weights = (depth > 0).astype(jnp.float32)
    values = smooth_fields.at_points(person.shift, points)
    # In tens of centimetres, so that the normal equations are well conditioned.
    fit = _fit_affine(points / 100, values, weights)
    fit = fit.at[:3].divide(100)
    design = jnp.matmul(points, fit[:3], precision="highest") + fit[3]
    square = (weights[:, None] * (values - design) ** 2).sum()
    rms = jnp.sqrt(square / (3 * weights.sum()))
    scale = person.deformation / rms
    waves = person.shift._replace(amplitudes=scale * person.shift.amplitudes)
    return _Shift(waves, -scale * fit[:3].T, -scale * fit[3])


def _landmarks(head: Head, person: Person, shift: _Shift) -> Array:
    """Where the structures of the map lie in the person's head, [labels, 3] mm."""
    original = jnp.asarray(head.landmarks)
    mirrored = original[jnp.asarray(label_maps.MIRRORED)] * _side(person)
    target = jnp.where(person.mirror, mirrored, original)
    point = target
    for _ in range(4):  # p + u(p) = target
        shifted = smooth_fields.at_points(shift.waves, point)
        point = (
            target
            - shifted
            - (jnp.matmul(point, shift.linear.T, precision="highest") + shift.offset)
        )
    return point


def _transform(matrix: Array, points: Array) -> Array:
    """Points [n, 3] under a 4×4 matrix."""
    return jnp.matmul(points, matrix[:3, :3].T, precision="highest") + matrix[:3, 3]


def _transform_grid(matrix: Array, axes: tuple[Array, Array, Array]) -> list[Array]:
    """The points of a grid under a 4×4 matrix, 3 × [x, y, z]."""
    x, y, z = axes
    return [
        (a * x + t)[:, None, None] + (b * y)[:, None] + c * z
        for a, b, c, t in matrix[:3]
    ]


def _sample(channels, head: Head, person: Person, shift: _Shift, from_image, axes):
    """Channels of the label map at the samples of the image, by linear interpolation.

    A sample at q shows the map's point side · (p + u(p)), where p = from_image · q.
    """
    to_voxel = jnp.linalg.inv(jnp.asarray(head.to_mm)) * jnp.append(_side(person), 1.0)
    with_affine = geometry.homogeneous(jnp.eye(3) + shift.linear, shift.offset)
    positions = _transform_grid(
        geometry.compose(to_voxel, with_affine, from_image), axes
    )
    waves = shift.waves._replace(
        amplitudes=geometry.compose(to_voxel[:3, :3], shift.waves.amplitudes)
    )
    moved = smooth_fields.on_grid(waves, from_image, axes)
    positions = [p + u for p, u in zip(positions, moved, strict=True)]
    outside = (0.0, 0.0, -127 * label_maps.DEPTH_STEP)
    return _interpolate(channels, positions, outside)


def _interpolate(channels, positions, outside) -> list[Array]:
    """Trilinear interpolation of several volumes at the same positions in voxels."""
    shape = channels[0].shape
    below, fraction = [], []
    for position, size in zip(positions, shape, strict=True):
        position = jnp.clip(position, -1, size - 1e-3)
        floor = jnp.floor(position)
        below.append(floor.astype(jnp.int32) + 1)
        fraction.append(position - floor)
    fx, fy, fz = fraction
    _, ny, nz = (size + 2 for size in shape)
    first = (below[0] * ny + below[1]) * nz + below[2]
    results = []
    for channel, value in zip(channels, outside, strict=True):
        flat = jnp.pad(channel, 1, constant_values=value).reshape(-1)

        def corner(step, flat=flat):
            return flat.at[first + step].get(mode="promise_in_bounds")

        def along_z(step, corner=corner):
            low = corner(step)
            return low + fz * (corner(step + 1) - low)

        def along_y(step, along_z=along_z):
            low = along_z(step)
            return low + fy * (along_z(step + nz) - low)

        low = along_y(0)
        results.append(low + fx * (along_y(ny * nz) - low))
    return results


def _add_lesions(key, signal, depth, position, head, person, draw) -> Array:
    """Ellipsoids of another brightness about points within the brain."""
    points, deep = _brain_points(head, person)
    chance = jnp.where(deep > 5, 0.0, -jnp.inf)
    centres = points[jax.random.categorical(key, chance, shape=(scan_draw.LESIONS,))]
    for centre, radius, mean in zip(
        centres, draw.lesion_radius, draw.lesion_mean, strict=True
    ):
        exists = radius.max() > 0
        width = jnp.where(exists, radius, 1)
        distance = jnp.sqrt(
            sum(
                ((p - c) / w) ** 2
                for p, c, w in zip(position, centre, width, strict=True)
            )
        )
        share = jax.nn.sigmoid((1 - distance) * width.min() / _EDGE)
        share = jnp.where(exists & (depth > -1), share, 0)
        signal += share * (mean - signal)
    return signal


def _acquire(key, signal, axes, to_image, draw: Draw, settings: Settings) -> Array:
    """Slices of the drawn spacing, noise and field of view; then the grid's samples."""
    turn = jnp.asarray(scan_draw.TURNS)[draw.turn]
    spacing, thickness = (jnp.abs(turn) @ v for v in (draw.spacing, draw.thickness))
    ends = turn @ jnp.stack([draw.field_low, draw.field_high], axis=-1)
    ends = ends + to_image[:3, 3:]
    low, high = ends.min(axis=-1), ends.max(axis=-1)
    steps = [v / b for v, b in zip(settings.voxel, settings.oversample, strict=True)]
    profiles, back, inside = [], [], []
    for k, axis in enumerate(axes):
        if settings.conformed:
            distance = jnp.maximum(spacing[k], steps[k])
            slices = acquisition.axis_positions(len(axis), 1.0) * distance
        else:
            distance = settings.voxel[k]
            slices = acquisition.axis_positions(settings.shape[k], distance)
        profiles.append(
            acquisition.slice_profile(
                axis,
                slices,
                thickness=thickness[k] if settings.conformed else distance,
                blur=draw.blur,
            )
        )
        back.append(acquisition.interpolate_slices(slices, axis, distance))
        inside.append((slices >= low[k]) & (slices <= high[k]))
    signal = acquisition.apply_along_axes(signal, tuple(profiles))
    brain = label_maps.IN_BRAIN[np.arange(len(label_maps.NUMBERS))]
    tissues = np.unique(label_maps.TISSUE_OF_LABEL[brain])
    brightest = draw.means[tissues].max()
    image = acquisition.add_rician_noise(key, signal, draw.noise * brightest)
    x, y, z = inside
    image *= x[:, None, None] & y[:, None] & z
    if settings.conformed:
        image = acquisition.apply_along_axes(image, tuple(back))
    return image


def _within_brain(depth, ragged, lump, draw: Draw) -> Array:
    """What stripping leaves: the brain, wider or tighter, less the holes."""
    wide = depth > -draw.margin + draw.ragged * ragged
    return ~draw.stripped | (wide & (lump < draw.holes))


def _without_face(depth, position, draw: Draw) -> Array:
    """What defacing leaves: behind a plane that leans forward, and near the brain."""
    _, y, z = position
    return (0.8 * y - 0.6 * z < draw.deface) | (depth > -_FACE_BEGINS)


def _round(image: Array, levels: Array) -> Array:
    whole = jnp.round(image * levels) / jnp.maximum(levels, 1)
    return jnp.where(levels > 0, whole, image)
