"""What is drawn of a synthetic scan: the person's shape, the pose, the scanner.

`Settings` says how often and how strongly; a `Draw` holds what came out, so that a scan
can be made again, described in words, or made once more with one thing changed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax.data import smooth_fields, tissue_contrast

LESIONS = 3
FAR = 1e4  # mm; a field of view or a plane that far away cuts nothing off


class Settings(NamedTuple):
    """How often (probabilities) and how strongly; static, so it can be hashed.

    Attributes:
        shape: voxels of the scan along x, y, z.
        voxel: their size in mm along x, y, z.
        oversample: samples in a voxel along x, y, z, of which it is the mean. As many
            as bring a sample near to the voxel size of the head.
        conformed: True: the scan is acquired at the resolution that is drawn and
            resampled to the grid of `shape` and `voxel`, as a network sees it. False:
            that grid is the one of the acquisition, as a file has it; the spacing that
            is drawn is not used.
        deformation: mm, the largest root mean square along an axis of the smooth
            deformation of a person; its length is drawn from 20 to 50 mm.
        mirror: probability of a person that is the mirror image.
        rotation: degrees about each axis, uniform in ± this.
        turn: probability of one of the 24 rotations that keep the axes.
        translation: mm along each axis, uniform in ± this.
        scale: factors exp(uniform in ± this), one for all axes and one for each.
        shear: uniform in ± this.
        contrasts: probability of each of `tissue_contrast.NAMES`.
        jitter: standard deviation of a tissue's mean around that of its contrast.
        texture: largest standard deviation within a tissue, of the range of 1.
        invert: probability of the negative.
        gamma: means are raised to exp(uniform in ± this).
        bias: largest standard deviation of the logarithm of the bias field.
        noise: largest standard deviation of the noise, of the brightest brain tissue.
        blur: largest standard deviation in mm of a Gaussian blur.
        thick_slices: probability of slices of up to 7 mm along one axis.
        coarse: probability of voxels of up to 3 mm along all axes.
        padded: probability of a field of view that ends near the head, zeros around.
        cut_neck, cut_top, slab: probability of a field that ends below the brain,
            within its upper part, or leaves a slab of it.
        stripped: probability of the brain alone.
        margin: mm, lowest and highest; how much wider than the brain it is stripped.
        ragged: mm, largest standard deviation of that margin along the surface.
        holes: probability of holes in a stripped brain.
        deface: probability of a whole head without its face.
        lesions: probability of each of `LESIONS` lesions or cavities.
        bits: probability of values in floating point, 16 and 8 bits.
    """

    shape: tuple[int, int, int] = (128, 128, 128)
    voxel: tuple[float, float, float] = (2.0, 2.0, 2.0)
    oversample: tuple[int, int, int] = (1, 1, 1)
    conformed: bool = True
    deformation: float = 4.0
    mirror: float = 0.5
    rotation: float = 20.0
    turn: float = 0.0
    translation: float = 15.0
    scale: float = 0.1
    shear: float = 0.05
    contrasts: tuple[float, ...] = (0.25, 0.15, 0.1, 0.1, 0.1, 0.05, 0.25)
    jitter: float = 0.06
    texture: float = 0.06
    invert: float = 0.1
    gamma: float = 0.4
    bias: float = 0.3
    noise: float = 0.08
    blur: float = 1.0
    thick_slices: float = 0.25
    coarse: float = 0.25
    padded: float = 0.4
    cut_neck: float = 0.4
    cut_top: float = 0.05
    slab: float = 0.05
    stripped: float = 0.5
    margin: tuple[float, float] = (-3.0, 8.0)
    ragged: float = 2.0
    holes: float = 0.1
    deface: float = 0.15
    lesions: float = 0.1
    bits: tuple[float, float, float] = (0.3, 0.4, 0.3)


# The head as it lies in the label map, in a T1 contrast, on a perfect scanner.
PLAIN = Settings(
    deformation=0.0, mirror=0.0, rotation=0.0, translation=0.0, scale=0.0, shear=0.0,
    contrasts=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), jitter=0.0, texture=0.0, invert=0.0,
    gamma=0.0, bias=0.0, noise=0.0, blur=0.0, thick_slices=0.0, coarse=0.0, padded=0.0,
    cut_neck=0.0, cut_top=0.0, slab=0.0, stripped=0.0, margin=(0.0, 0.0), ragged=0.0,
    holes=0.0, deface=0.0, lesions=0.0, bits=(1.0, 0.0, 0.0),
)  # fmt: skip


class Person(NamedTuple):
    """The shape of a head: how it differs from that of its label map.

    Attributes:
        mirror: bool, left and right are exchanged.
        deformation: mm, root mean square along an axis over the brain.
        shift: the direction of the deformation, of three components; its affine part
            is left out.
    """

    mirror: Array
    deformation: Array
    shift: smooth_fields.Waves


class Draw(NamedTuple):
    """All about one scan of a person; every array has leading axes in a batch.

    Lengths along axes are those of the scanner, which `turn` turns as a whole.

    Attributes:
        contrast: int, index into `tissue_contrast.NAMES`.
        means: [tissues], the mean of each of `label_maps.TISSUES`, in [0, 1].
        fat: the mean of fat, of which soft tissue has a share.
        texture: [tissues], standard deviation within each.
        inverted: bool; the means are those of the negative already.
        rotation: [3] radians about x, y, z (R = Rz·Ry·Rx).
        scale: [3] factors. shear: [3], xy, xz, yz. translation: [3] mm.
        turn: int, index into `TURNS`; 0 leaves the axes.
        bias: standard deviation of the logarithm of the bias field.
        noise: standard deviation, of the brightest brain tissue.
        blur: mm, standard deviation.
        spacing, thickness: [3] mm, of slices along each axis; 0 is the grid's own.
        field_low, field_high: [3] mm from the brain's centre, the field of view.
        stripped: bool. margin, ragged: mm.
        holes: how large a field of variance 1 may be before there is a hole.
        deface: mm from the brain's centre to the plane before which the face is cut.
        lesion_radius: [LESIONS, 3] mm, 0 is none. lesion_mean: [LESIONS].
        levels: whole numbers that values are rounded to, 0 is none.
        key: of the fields and the noise.
    """

    contrast: Array
    means: Array
    fat: Array
    texture: Array
    inverted: Array
    rotation: Array
    scale: Array
    shear: Array
    translation: Array
    turn: Array
    bias: Array
    noise: Array
    blur: Array
    spacing: Array
    thickness: Array
    field_low: Array
    field_high: Array
    stripped: Array
    margin: Array
    ragged: Array
    holes: Array
    deface: Array
    lesion_radius: Array
    lesion_mean: Array
    levels: Array
    key: Array


def _turns() -> np.ndarray:
    """The 24 rotations that keep the axes, [24, 3, 3]; the identity first."""
    signs = np.array([*np.ndindex(2, 2, 2)]) * -2 + 1
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    matrices = [np.eye(3)[list(order)] * sign for order in orders for sign in signs]
    return np.array([m for m in matrices if np.linalg.det(m) > 0], np.float32)


TURNS = _turns()


def draw_person(key: Array, settings: Settings) -> Person:
    """Draw the shape of a head."""
    side, size, length, field = jax.random.split(key, 4)
    length = jax.random.uniform(length, minval=20.0, maxval=50.0)
    return Person(
        mirror=jax.random.bernoulli(side, settings.mirror),
        # Less than a fold: a gradient of at most about a half.
        deformation=jnp.minimum(
            settings.deformation * jax.random.uniform(size), 0.15 * length
        ),
        shift=smooth_fields.random_waves(field, length, components=3),
    )


def draw_scan(key: Array, settings: Settings) -> Draw:
    """Draw a scan. Each part has a key of its own, whatever the settings of others."""
    keys = iter(jax.random.split(key, 40))

    def uniform(low, high, shape=()):
        return jax.random.uniform(next(keys), shape, minval=low, maxval=high)

    def chance(probability, shape=()):
        return jax.random.bernoulli(next(keys), probability, shape)

    contrast, means, fat, inverted = _draw_contrast(next(keys), settings)
    texture = uniform(0, settings.texture) * uniform(0.3, 1, means.shape)
    texture *= jnp.where(contrast == tissue_contrast.CT, 0.05, 1)
    angle = jnp.deg2rad(settings.rotation)
    turn = chance(settings.turn) * jax.random.randint(next(keys), (), 0, len(TURNS))
    logarithm = uniform(-1, 1) + 0.5 * uniform(-1, 1, (3,))

    axis = jax.nn.one_hot(jax.random.choice(next(keys), 3), 3)
    thick = chance(settings.thick_slices) * uniform(2.5, 7) * axis
    coarse = chance(settings.coarse) * uniform(1.5, 3)
    spacing = jnp.maximum(thick, coarse)
    thickness = spacing * uniform(0.6, 1)

    low, high = _draw_field(next(keys), settings)
    stripped = chance(settings.stripped)
    deface = chance(settings.deface)
    lesion = chance(settings.lesions, (LESIONS,))
    radius = lesion * jnp.exp(uniform(jnp.log(2.0), jnp.log(20.0), (LESIONS,)))
    return Draw(
        contrast=contrast, means=means, fat=fat, texture=texture, inverted=inverted,
        rotation=angle * uniform(-1, 1, (3,)),
        scale=jnp.exp(settings.scale * logarithm),
        shear=settings.shear * uniform(-1, 1, (3,)),
        translation=settings.translation * uniform(-1, 1, (3,)),
        turn=turn,
        bias=uniform(0, settings.bias)
        * jnp.where(contrast == tissue_contrast.CT, 0, 1),
        noise=settings.noise * uniform(0, 1) ** 2
        * jnp.where(contrast == tissue_contrast.CT, 0.1, 1),
        blur=uniform(0, settings.blur),
        spacing=spacing, thickness=thickness, field_low=low, field_high=high,
        stripped=stripped, margin=uniform(*settings.margin),
        ragged=uniform(0, settings.ragged),
        holes=jnp.where(chance(settings.holes), uniform(1.6, 2.4), FAR),
        deface=jnp.where(deface & ~stripped, uniform(75, 90), FAR),
        lesion_radius=radius[:, None] * uniform(0.6, 1, (LESIONS, 3)),
        lesion_mean=uniform(0, 1, (LESIONS,)),
        levels=_draw_levels(next(keys), settings),
        key=next(keys),
    )  # fmt: skip


def _draw_contrast(key: Array, settings: Settings):
    which, jitter, random, sign, power = jax.random.split(key, 5)
    weights = jnp.log(jnp.asarray(settings.contrasts))
    contrast = jax.random.categorical(which, weights)
    is_random, is_ct = (
        contrast == index for index in (tissue_contrast.RANDOM, tissue_contrast.CT)
    )
    typical = np.column_stack([tissue_contrast.MEANS, tissue_contrast.FAT])
    known = jnp.asarray(typical)[jnp.minimum(contrast, len(typical) - 1)]
    deviation = settings.jitter * jnp.where(is_ct, 0.05, 1)
    known += deviation * jax.random.normal(jitter, known.shape)
    free = jax.random.uniform(random, known.shape, minval=0.05)
    means = jnp.clip(jnp.where(is_random, free, known), 0.02, 1)
    inverted = jax.random.bernoulli(sign, settings.invert) & ~is_ct
    means = jnp.where(inverted, 1.02 - means, means)
    gamma = jnp.exp(settings.gamma * jax.random.uniform(power, minval=-1))
    means = means ** jnp.where(is_ct, 1, gamma)
    air = np.isin(np.arange(means.size), tissue_contrast.AIR)
    means = jnp.where(air, 0, means)
    return contrast, means[:-1], means[-1], inverted


def _draw_field(key: Array, settings: Settings) -> tuple[Array, Array]:
    """Lowest and highest point of the field of view, in mm from the brain's centre."""
    keys = iter(jax.random.split(key, 12))

    def uniform(low, high, shape=()):
        return jax.random.uniform(next(keys), shape, minval=low, maxval=high)

    def chance(probability):
        return jax.random.bernoulli(next(keys), probability)

    padded = chance(settings.padded)
    width = jnp.where(padded, uniform(82.0, 110.0), FAR)
    depth = jnp.where(padded, uniform(100.0, 128.0), FAR)
    above = jnp.where(padded, uniform(80.0, 120.0), FAR)
    below = jnp.where(chance(settings.cut_neck), uniform(82.0, 130.0), FAR)
    top = jnp.where(chance(settings.cut_top), uniform(20.0, 60.0), above)
    slab, middle, half = (
        chance(settings.slab),
        uniform(-35.0, 35.0),
        uniform(15.0, 40.0),
    )
    low = jnp.where(slab, middle - half, -below)
    high = jnp.where(slab, middle + half, top)
    return jnp.stack([-width, -depth, low]), jnp.stack([width, depth, high])


def _draw_levels(key: Array, settings: Settings) -> Array:
    which, how_many = jax.random.split(key)
    bits = jax.random.categorical(which, jnp.log(jnp.asarray(settings.bits)))
    sixteen = jnp.exp(
        jax.random.uniform(how_many, minval=jnp.log(300.0), maxval=jnp.log(32000.0))
    )
    return jnp.stack([0.0, jnp.round(sixteen), 255.0])[bits]


def describe(draw: Draw) -> str:
    """A draw in words, for one scan (without leading axes)."""

    def number(value) -> str:
        return f"{float(value):.3g}"

    def triple(values) -> str:
        return ", ".join(number(v) for v in np.asarray(values))

    words = ["brain" if draw.stripped else "whole head"]
    if draw.stripped:
        words.append(
            f"stripped {float(draw.margin):+.1f} ± {float(draw.ragged):.1f} mm wide"
        )
        if draw.holes < FAR:
            words.append("with holes")
    if draw.deface < FAR:
        words.append("defaced")
    negative = ", inverted" if draw.inverted else ""
    words.append(f"{tissue_contrast.NAMES[int(draw.contrast)]} contrast{negative}")
    radii = np.asarray(draw.lesion_radius).max(axis=-1)
    if radii.any():
        words.append(f"lesions of {triple(radii[radii > 0])} mm")
    degrees = np.rad2deg(np.asarray(draw.rotation))
    words.append(f"rotated {triple(degrees)}°, scaled {triple(draw.scale)}")
    words.append(f"sheared {triple(draw.shear)}, moved {triple(draw.translation)} mm")
    if draw.turn:
        words.append(f"axes turned ({int(draw.turn)} of {len(TURNS)})")
    low, high = np.asarray(draw.field_low), np.asarray(draw.field_high)
    for axis, start, end in zip("xyz", low, high, strict=True):
        if start > -FAR or end < FAR:
            limits = (number(v) if abs(v) < FAR else "open" for v in (start, end))
            words.append(f"field of view along {axis} from {' to '.join(limits)} mm")
    if np.any(draw.spacing):
        words.append(
            f"slices every {triple(draw.spacing)} mm, {triple(draw.thickness)} thick"
        )
    words.append(f"blur {number(draw.blur)} mm, noise {number(100 * draw.noise)} %")
    words.append(f"bias {number(100 * draw.bias)} %")
    words.append(f"{int(draw.levels)} levels" if draw.levels else "floating point")
    return "; ".join(words)
