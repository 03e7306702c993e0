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
from jax import Array

from mdvit_jax import geometry
from mdvit_jax.data import (
    acquisition,
    head_shape,
    head_signal,
    scan_draw,
    smooth_fields,
    tissues,
)
from mdvit_jax.data.head_shape import Person
from mdvit_jax.data.label_maps import Head
from mdvit_jax.data.scan_draw import Draw
from mdvit_jax.data.scan_settings import Settings
from mdvit_jax.geometry import turns

_BIAS_LENGTH = 70.0  # mm: coils shade a head over its whole width
_SURFACE_LENGTH = 12.0  # mm, of a ragged edge and of holes
_FACE_BEGINS = 8.0  # mm from the brain, which defacing leaves alone


class Scan(NamedTuple):
    """A synthetic scan and its truth.

    Attributes:
        image: float32 [x, y, z] in [0, 1], the input of a network or of `register`.
        brain: float32 [x, y, z], the brain of the same head in one standard contrast
            (T1), 0 around it: without lesions, bias, noise, or limits of the field.
        depth: float32 [x, y, z], how deep below that brain's surface a voxel lies, mm;
            negative outside.
        head_to_image: float32 [4, 4], from the person's head in mm to normalised
            coordinates of the grid (`geometry.coordinates`); see `known_affine`.
        landmarks: float32 [landmarks, 3], where those of `data.landmarks` lie, in
            normalised coordinates; NaN where there is none.
        draw: what was drawn.
    """

    image: Array
    brain: Array
    depth: Array
    head_to_image: Array
    landmarks: Array
    draw: Draw

    @property
    def mask(self) -> Array:
        """Where that brain is, bool [x, y, z]."""
        return self.depth > 0


def synthesise(key: Array, head: Head, settings: Settings) -> Scan:
    """Draw a person and a scan of it, and make the scan.

    For a batch: `jax.vmap(lambda key, head: synthesise(key, head, settings))`. For two
    scans of one person draw the person once, and call `form_scan` with it for both.

    Args:
        key: of `jax.random.key`, for everything random.
        head: a label map (`label_maps.read_head`).
        settings: how often and how strongly; static.
    """
    person_key, scan_key = jax.random.split(key)
    person = scan_draw.draw_person(person_key, settings)
    return form_scan(head, person, scan_draw.draw_scan(scan_key, settings), settings)


def known_affine(fixed: Scan, moving: Scan) -> Array:
    """`fixed_to_moving` of two scans of one person, [*batch, 4, 4], normalised."""
    return geometry.compose(moving.head_to_image, jnp.linalg.inv(fixed.head_to_image))


def landmark_affine(fixed: Scan, moving: Scan) -> Array:
    """`fixed_to_moving` that fits the landmarks of two people best, [4, 4], normalised.

    By least squares over the landmarks that both have: what comes nearest to a truth
    where two heads differ by more than an affine (the brains' Dice is 0.94 then, 0.87
    with the centres alone on each other). For a batch: `jax.vmap`.
    """
    both = jnp.isfinite(fixed.landmarks + moving.landmarks).all(axis=-1)
    source, target = (
        jnp.where(both[:, None], scan.landmarks, 0) for scan in (fixed, moving)
    )
    weights = both.astype(jnp.float32)
    return geometry.homogeneous(*head_shape.fit_affine(source, target, weights))


def form_scan(head: Head, person: Person, draw: Draw, settings: Settings) -> Scan:
    """Make the scan that was drawn, as described at the top of this file.

    Args:
        head: a label map.
        person: its shape (`scan_draw.draw_person`).
        draw: all else (`scan_draw.draw_scan`); a part may be replaced.
        settings: of them `shape`, `voxel`, `oversample` and `conformed`; static.
    """
    texture_key, bias_key, noise_key, surface_key = jax.random.split(draw.key, 4)
    block = settings.oversample
    axes = sample_positions(settings)
    to_image = pose_matrix(draw)
    from_image = jnp.linalg.inv(to_image)
    shift = head_shape.find_shift(head, person)

    volumes = [head_signal.tissue_signal(texture_key, head, draw)]
    volumes += head_signal.standard_brain(head)
    signal, brain, depth = head_signal.sample(
        volumes, head, person, shift, from_image, axes, min(settings.spacing)
    )
    position = smooth_fields.transform_grid(from_image, axes)
    signal = head_signal.add_lesions(signal, depth, position, head, person, draw)
    bias = smooth_fields.random_waves(bias_key, _BIAS_LENGTH, waves=16)
    signal *= jnp.exp(draw.bias * smooth_fields.on_grid(bias, jnp.eye(4), axes)[0])
    image = _acquire(noise_key, signal, axes, to_image, draw, settings)
    kept = _without_face(depth, position, draw)
    kept &= _without_skull(surface_key, depth, axes, draw)
    image = _keep(image, kept, settings)

    extent = jnp.array(settings.shape) * jnp.array(settings.voxel) / 2  # half, mm
    normalise = jnp.diag(jnp.append(1 / extent, 1.0))
    head_to_image = geometry.compose(normalise, to_image)
    moved = head_shape.move_landmarks(head, person, shift)
    return Scan(
        image=_round(image, draw.levels),
        brain=acquisition.block_mean(brain, block),
        depth=acquisition.block_mean(depth, block),
        head_to_image=head_to_image,
        landmarks=head_shape.transform(head_to_image, moved),
        draw=draw,
    )


def sample_positions(settings: Settings) -> tuple[Array, Array, Array]:
    """Of the samples of a scan, mm from its middle along each axis: [x], [y], [z]."""
    x, y, z = (
        acquisition.axis_positions(size * block, spacing)
        for size, block, spacing in zip(
            settings.shape, settings.oversample, settings.spacing, strict=True
        )
    )
    return x, y, z


def pose_matrix(draw: Draw) -> Array:
    """From a person's head to the image, both mm, [4, 4].

    turn · (translation + R · H · S · p): scaled, sheared and rotated about the brain's
    centre, moved, and the scanner turned as a whole.
    """
    zero = jnp.zeros(3)
    rotation = jnp.concatenate([zero, draw.rotation / jnp.pi, zero, zero])
    rotation = geometry.affine_matrix(rotation)[:3, :3]
    shear = jnp.eye(3).at[jnp.triu_indices(3, 1)].set(draw.shear)
    linear = geometry.compose(rotation, shear) * draw.scale
    turn = jnp.asarray(turns.TURNS)[draw.turn]
    offset = (turn * draw.translation).sum(-1)
    return geometry.homogeneous(geometry.compose(turn, linear), offset)


def _acquire(key, signal, axes, to_image, draw: Draw, settings: Settings) -> Array:
    """Slices, noise and field of view; then, if conformed, the samples of the grid."""
    turn = jnp.asarray(turns.TURNS)[draw.turn]
    spacing, thickness = (jnp.abs(turn) @ v for v in (draw.spacing, draw.thickness))
    field = turn @ jnp.stack([draw.field_low, draw.field_high], axis=-1)
    field += to_image[:3, 3:]
    profiles, back, inside = [], [], []
    for k, (axis, size, voxel) in enumerate(
        zip(axes, settings.shape, settings.voxel, strict=True)
    ):
        if settings.conformed:
            distance = jnp.maximum(spacing[k], axis[1] - axis[0])
            slices = acquisition.axis_positions(len(axis), distance)
            back.append(acquisition.interpolate_slices(slices, axis, distance))
            width = thickness[k]
        else:
            slices, width = acquisition.axis_positions(size, voxel), jnp.asarray(voxel)
        profiles.append(
            acquisition.slice_profile(axis, slices, thickness=width, blur=draw.blur)
        )
        inside.append((slices >= field[k].min()) & (slices <= field[k].max()))
    signal = acquisition.apply_along_axes(signal, profiles)
    deviation = draw.noise * draw.means[tissues.WITHIN_SKULL].max()
    image = acquisition.add_rician_noise(key, signal, deviation)
    x, y, z = inside
    image *= x[:, None, None] & y[:, None] & z
    return acquisition.apply_along_axes(image, back)


def _without_face(depth, position, draw: Draw) -> Array:
    """What defacing leaves: behind a plane that leans forward, and near the brain."""
    _, y, z = position
    before = jnp.cos(draw.deface_tilt) * y - jnp.sin(draw.deface_tilt) * z
    return (before < draw.deface) | (depth > -_FACE_BEGINS)


def _without_skull(key, depth, axes, draw: Draw) -> Array:
    """What stripping leaves: the brain, wider or tighter, less the holes."""
    waves = smooth_fields.random_waves(key, _SURFACE_LENGTH, components=2)
    ragged, lump = smooth_fields.on_grid(waves, jnp.eye(4), axes)
    wide = depth > draw.ragged * ragged - draw.margin
    return ~draw.stripped | (wide & (lump < draw.holes))


def _keep(image, kept, settings: Settings) -> Array:
    """The image at the samples or at the voxels → at the voxels, where kept, in [0, 1].

    Zeros elsewhere. As `conform` does, a conformed image is divided by its brightest
    voxels but for the last thousandth; else by the brightest voxel.
    """
    kept = kept.astype(image.dtype)
    if settings.conformed:
        image = acquisition.block_mean(image * kept, settings.oversample)
        return acquisition.normalise(image)
    image *= acquisition.block_mean(kept, settings.oversample) >= 0.5
    return image / jnp.maximum(image.max(), 1e-6)


def _round(image: Array, levels: Array) -> Array:
    whole = jnp.round(image * levels) / jnp.maximum(levels, 1)
    return jnp.where(levels > 0, whole, image)
