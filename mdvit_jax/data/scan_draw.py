"""Random numbers of a synthetic scan: the person's shape, the pose, the scanner.

A `Draw` holds all of it, so that a scan can be made again, described in words
(`scan_description`), or made once more with one value changed (`draw._replace`).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax.data import smooth_fields, tissues
from mdvit_jax.data.head_shape import Person
from mdvit_jax.data.scan_settings import Settings
from mdvit_jax.geometry import turns

LESIONS = 3
FAR = 1e4  # mm; a field of view or a plane that far away cuts nothing off


class Draw(NamedTuple):
    """All about one scan of a person; every array has leading axes in a batch.

    Lengths along axes are those of the scanner, which `turn` turns as a whole.

    Attributes:
        contrast: int, index into `tissues.CONTRASTS`.
        means: [tissues], the mean of each of `tissues.TISSUES`, in [0, 1].
        fat: the mean of fat, of which soft tissue has a share.
        texture: [tissues], standard deviation within each.
        inverted: bool; the means are those of the negative already.
        rotation: [3] radians about x, y, z (R = Rz·Ry·Rx).
        scale: [3] factors. shear: [3], xy, xz, yz. translation: [3] mm.
        turn: int, index into `geometry.turns.TURNS`; 0 leaves the axes.
        bias: standard deviation of the logarithm of the bias field.
        noise: standard deviation, of the brightest tissue within the skull.
        blur: mm, standard deviation.
        spacing, thickness: [3] mm, of slices along each axis; 0 is the grid's own.
        field_low, field_high: [3] mm from the brain's centre, the field of view.
        stripped: bool. margin, ragged: mm.
        holes: how large a field of variance 1 may be before there is a hole.
        deface: mm from the brain's centre to the plane before which the face is cut.
        deface_tilt: radians, by which that plane leans forward.
        lesion_place: [LESIONS] in [0, 1], where of all places within the brain.
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
    deface_tilt: Array
    lesion_place: Array
    lesion_radius: Array
    lesion_mean: Array
    levels: Array
    key: Array


class _Numbers:
    """Random numbers handed out, one after the other, from a single array of them.

    One call of the generator compiles many times faster than one for each number; and
    what a number is used for does not depend on the settings.
    """

    def __init__(self, key: Array, count: int):
        self._all = jax.random.uniform(key, (count,), minval=1e-6)
        self._used = 0

    def uniform(self, low=0.0, high=1.0, shape: tuple[int, ...] = ()) -> Array:
        """From low to high."""
        start, self._used = self._used, self._used + math.prod(shape)
        values = self._all[start : self._used].reshape(shape)
        return low + (high - low) * values

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Of mean 0 and variance 1."""
        return jax.scipy.special.ndtri(self.uniform(shape=shape))

    def chance(self, probability: float, shape: tuple[int, ...] = ()) -> Array:
        """True with a probability."""
        return self.uniform(shape=shape) < probability

    def index(self, weights: tuple[float, ...]) -> Array:
        """An index, with a probability in proportion to its weight."""
        ends = np.cumsum(weights) / np.sum(weights)
        return (self.uniform() > jnp.asarray(ends[:-1])).sum()


def draw_person(key: Array, settings: Settings) -> Person:
    """Draw the shape of a head.

    Args:
        key: of `jax.random.key`.
        settings: of them `mirror` and `deformation`; static.
    """
    numbers_key, field_key = jax.random.split(key)
    numbers = _Numbers(numbers_key, 3)
    length = numbers.uniform(20.0, 50.0)
    return Person(
        mirror=numbers.chance(settings.mirror),
        # Less than a fold: a gradient of at most about a half.
        deformation=jnp.minimum(
            numbers.uniform(0, settings.deformation), 0.15 * length
        ),
        shift=smooth_fields.random_waves(field_key, length, components=3),
    )


def draw_scan(key: Array, settings: Settings) -> Draw:
    """Draw a scan. A number is drawn whether or not the settings make use of it.

    Args:
        key: of `jax.random.key`.
        settings: how often and how strongly; static.
    """
    numbers_key, fields_key = jax.random.split(key)
    numbers = _Numbers(numbers_key, 200)
    uniform, chance = numbers.uniform, numbers.chance

    contrast, means, fat, inverted = _draw_contrast(numbers, settings)
    is_ct = contrast == tissues.CT
    texture = uniform(0, settings.texture) * uniform(0.3, 1, means.shape)
    turn = chance(settings.turn) * numbers.index((1.0,) * len(turns.TURNS))
    logarithm = uniform(-1, 1) + 0.5 * uniform(-1, 1, (3,))
    axis = jax.nn.one_hot(numbers.index((1.0, 1.0, 1.0)), 3)
    thick = chance(settings.thick_slices) * uniform(2.5, 7) * axis
    spacing = jnp.maximum(thick, chance(settings.coarse) * uniform(1.5, 3))
    low, high = _draw_field(numbers, settings)
    stripped = chance(settings.stripped)
    lesion = chance(settings.lesions, (LESIONS,))
    radius = lesion * 2 * 10 ** uniform(0, 1, (LESIONS,))
    return Draw(
        contrast=contrast,
        means=means,
        fat=fat,
        texture=jnp.where(is_ct, 0.05, 1) * texture,
        inverted=inverted,
        rotation=math.radians(settings.rotation) * uniform(-1, 1, (3,)),
        scale=jnp.exp(settings.scale * logarithm),
        shear=settings.shear * uniform(-1, 1, (3,)),
        translation=settings.translation * uniform(-1, 1, (3,)),
        turn=turn,
        bias=jnp.where(is_ct, 0, 1) * uniform(0, settings.bias),
        noise=jnp.where(is_ct, 0.1, 1) * settings.noise * uniform() ** 2,
        blur=uniform(0, settings.blur),
        spacing=spacing,
        thickness=spacing * uniform(0.6, 1),
        field_low=low,
        field_high=high,
        stripped=stripped,
        margin=uniform(*settings.margin),
        ragged=uniform(0, settings.ragged),
        holes=jnp.where(chance(settings.holes), uniform(1.6, 2.4), FAR),
        deface=jnp.where(chance(settings.deface) & ~stripped, uniform(60, 90), FAR),
        deface_tilt=uniform(0.3, 1.0),
        lesion_place=uniform(shape=(LESIONS,)),
        lesion_radius=radius[:, None] * uniform(0.6, 1, (LESIONS, 3)),
        lesion_mean=uniform(shape=(LESIONS,)),
        # CT has whole Hounsfield units, which the file rounds to.
        levels=jnp.where(is_ct, 0, 1) * _draw_levels(numbers, settings),
        key=fields_key,
    )


def without_flaws(draw: Draw) -> Draw:
    """The same pose, and in it the brain alone, whole and clean, as T1 shows it."""
    t1 = tissues.CONTRASTS.index("T1")
    flaws = ["texture", "bias", "noise", "blur", "spacing", "thickness", "margin"]
    flaws += ["ragged", "lesion_radius", "levels", "inverted"]
    far = jnp.full(3, FAR)
    return draw._replace(
        **{name: jnp.zeros_like(getattr(draw, name)) for name in flaws},
        contrast=jnp.full_like(draw.contrast, t1),
        means=jnp.asarray(tissues.MEANS[t1]),
        fat=jnp.asarray(tissues.FAT[t1]),
        field_low=-far,
        field_high=far,
        stripped=jnp.ones_like(draw.stripped),
        holes=jnp.full_like(draw.holes, FAR),
        deface=jnp.full_like(draw.deface, FAR),
    )


def _draw_contrast(numbers: _Numbers, settings: Settings):
    contrast = numbers.index(settings.contrasts)
    is_ct = contrast == tissues.CT
    typical = np.column_stack([tissues.MEANS, tissues.FAT])
    known = jnp.asarray(typical)[jnp.minimum(contrast, len(typical) - 1)]
    deviation = settings.jitter * jnp.where(is_ct, 0.05, 1)
    known += deviation * numbers.normal(known.shape)
    free = numbers.uniform(0.05, 1, known.shape)
    means = jnp.where(contrast == tissues.RANDOM, free, known)
    means = jnp.clip(means, 0.02, 1)
    inverted = numbers.chance(settings.invert) & ~is_ct
    means = jnp.where(inverted, 1.02 - means, means)
    gamma = jnp.exp(settings.gamma * numbers.uniform(-1, 1))
    means = means ** jnp.where(is_ct, 1, gamma)
    # What lies around the brain, with fat as the last of the means.
    scalp = jnp.exp(settings.scalp * numbers.uniform(-0.5, 1))
    around = np.append(
        ~np.isin(range(len(tissues.TISSUES)), tissues.WITHIN_SKULL), True
    )
    means *= jnp.where(around & ~is_ct, scalp, 1)
    air = np.isin(np.arange(means.size), tissues.AIR)
    means = jnp.where(air, 0, means)
    return contrast, means[:-1], means[-1], inverted


def _draw_field(numbers: _Numbers, settings: Settings) -> tuple[Array, Array]:
    """Lowest and highest point of the field of view, in mm from the brain's centre."""
    uniform, chance = numbers.uniform, numbers.chance
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


def _draw_levels(numbers: _Numbers, settings: Settings) -> Array:
    bits = numbers.index(settings.bits)
    sixteen = jnp.round(300 * 10 ** numbers.uniform(0, 2))
    return jnp.stack([0.0, sixteen, 255.0])[bits]
