"""People made from MNI152, for trying the whole program without a data set.

A person is the template seen through a random affine and a smooth random
deformation, with an own contrast (gamma), bias field and noise. Both image and labels
come with the affine that was used, so that a registration can be compared with it.
"""

import functools
from typing import NamedTuple

import ml_collections
import numpy as np
from scipy import ndimage

from mdvit_jax.data import conform, downsample, template

# Correlation lengths in mm (standard deviation of the Gaussian): a deformation finer
# than a gyrus would fold at a few mm, and coils shade a head over its whole width.
_DEFORMATION_LENGTH = 20.0
_BIAS_LENGTH = 60.0


class SyntheticPerson(NamedTuple):
    """A made person.

    Attributes:
        scan: the conformed image, brain mask and tissue labels (`template.CSF`,
            `template.GREY`, `template.WHITE`), on the grid of the conformed template.
        template_to_person: 4×4 float64, world RAS+ mm: takes a point of the template
            to the point of the person that shows the same anatomy, so that
            person(y) = template(template_to_person⁻¹ · y). It is the
            `fixed_to_moving` of a pair with the template fixed and the person moving;
            that of persons f (fixed) and m (moving) is m's times the inverse of f's.
            With a deformation it is the affine that fits best over the brain.
    """

    scan: conform.Conformed
    template_to_person: np.ndarray


def generate(
    data_config: ml_collections.ConfigDict, index: int, seed: int
) -> SyntheticPerson:
    """Make person `index` of the cohort that `seed` stands for.

    A pure function of its arguments: the same bits in every process. Shape and bias
    field do not depend on the grid's size, so that a person at 64³ is a coarser copy
    of the one at 128³ (but for the noise).

    With A the affine and u the deformation, person(y) = template(A⁻¹ · (y + u(y))): one
    linear interpolation of the 1 mm template, averaged over a voxel of the
    conformed grid beforehand where that is coarser. The mask is at least one half of
    the averaged mask; the labels are the most frequent ones of that neighbourhood
    (ties to the lowest), taken at the nearest voxel.

    Args:
        data_config: `config.data`; of it `size`, `field_of_view` and `synthetic`.
        index: non-negative; seed: non-negative.
    """
    settings = data_config.synthetic
    size, field_of_view = data_config.size, data_config.field_of_view
    source = _averaged_template(max(1, round(field_of_view / size)))
    # Every number is drawn whatever the settings, so that changing one of them (say,
    # the noise) leaves everything else about a person as it was.
    random = np.random.default_rng((seed, index))
    affine = _random_affine(random, settings, source.centre)
    shift = _SmoothField(random, 3, field_of_view, _DEFORMATION_LENGTH)
    gamma = np.exp(settings.gamma * random.uniform(-1, 1))
    bias = _SmoothField(random, 1, field_of_view, _BIAS_LENGTH)

    to_world = downsample.grid(
        source.shape, source.to_world, size=size, field_of_view=field_of_view
    )[0]
    # In mm from the middle of the template, which is the same for every grid.
    start = to_world[:3, 3] - source.middle
    axes = start[:, None] + np.arange(size) * field_of_view / size

    from_centre = np.eye(4)
    from_centre[:3, 3] = source.middle
    to_source = source.from_world @ np.linalg.inv(affine) @ from_centre
    amplitude, correction = _deformation_without_affine(
        shift, source, to_source, field_of_view, settings.deformation
    )
    coordinates = _apply(to_source @ correction, axes)
    displacement = amplitude * shift(axes)
    coordinates += np.einsum("ab,bxyz->axyz", to_source[:3, :3], displacement)

    image = _sample(source.image, coordinates, order=1)
    inside = image > 0
    image = image ** np.float32(gamma)
    field = bias(axes)[0]
    image *= 1 + settings.bias * field / np.abs(field[inside]).max(initial=1e-6)
    image /= image.max(initial=1e-6)
    noise = random.standard_normal(image.shape, np.float32)
    image = np.clip(image + np.float32(settings.noise) * noise, 0, 1) * inside
    scan = conform.Conformed(
        image=image.astype(np.float32),
        mask=(_sample(source.mask, coordinates, order=1) >= 0.5).astype(np.uint8),
        labels=_sample(source.labels, coordinates, order=0).astype(np.int32),
        to_world=to_world,
    )
    return SyntheticPerson(scan, affine)


class _Source(NamedTuple):
    """MNI152 averaged over cubes of whole voxels, and its geometry in world mm."""

    image: np.ndarray  # float32 [x, y, z]
    mask: np.ndarray  # float32 [x, y, z], the part of the cube inside the brain
    labels: np.ndarray  # uint8 [x, y, z], the most frequent label of the cube
    from_world: np.ndarray  # 4×4, world mm → voxel
    centre: np.ndarray  # [3], the centre of mass of the brain
    middle: np.ndarray  # [3], the centre of the template's field of view
    shape: tuple[int, ...]  # of the template itself
    to_world: np.ndarray  # 4×4, of the template itself


@functools.lru_cache(maxsize=1)
def _averaged_template(width: int) -> _Source:
    image, labels, mask = template.mni152()  # labelled exactly within the mask
    to_world = image.affine.copy()
    middle = (np.array(image.data.shape) - 1) / 2
    brain = np.array(ndimage.center_of_mass(mask.data))
    middle, centre = (
        to_world[:3, :3] @ point + to_world[:3, 3] for point in (middle, brain)
    )
    # The cube that begins at padded voxel i lies (width - 1)/2 - width off voxel i.
    to_world[:3, 3] += to_world[:3, :3] @ np.full(3, (width - 1) / 2 - width)
    tissues = template.CSF, template.GREY, template.WHITE
    counts = [_box_sum(labels.data == label, width) for label in tissues]
    inside = functools.reduce(np.add, counts)
    most = width**3 - inside  # the voxels outside the brain
    winner = np.zeros(most.shape, np.uint8)
    for label, count in zip(tissues, counts, strict=True):
        winner[count > most] = label
        most = np.maximum(count, most)
    return _Source(
        image=_box_sum(image.data, width) / np.float32(width**3),
        mask=inside / np.float32(width**3),
        labels=winner,
        from_world=np.linalg.inv(to_world),
        centre=centre,
        middle=middle,
        shape=image.data.shape,
        to_world=image.affine,
    )


def _box_sum(volume: np.ndarray, width: int) -> np.ndarray:
    """Sums over all cubes of width³ voxels of the volume padded by `width`, float32.

    By shifted sums, which leave the background exactly 0; running sums would not. Slab
    by slab, as a slab fits into the processor's cache.
    """
    total = np.pad(volume.astype(np.float32), width)
    for axis in range(3):
        slabs = np.moveaxis(total, axis, 1)
        count = slabs.shape[1] - width + 1
        sums = slabs[:, :count].copy()
        for shifted, summed in zip(slabs, sums, strict=True):
            for shift in range(1, width):
                summed += shifted[shift : shift + count]
        total = np.moveaxis(sums, 1, axis)
    return total


def _random_affine(random: np.random.Generator, settings, centre) -> np.ndarray:
    """4×4 in mm, x → centre + translation + Rz·Ry·Rx · shear · scale · (x - centre)."""
    uniform = random.uniform(-1, 1, (4, 3))
    x, y, z = np.deg2rad(settings.rotation) * uniform[0]
    rotation = np.eye(3)
    for angle, (first, second) in ((x, (1, 2)), (y, (2, 0)), (z, (0, 1))):
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[second, first], turn[first, second] = np.sin(angle), -np.sin(angle)
        rotation = turn @ rotation
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = settings.shear * uniform[3]
    sizes = settings.relative_size * (1 + settings.scale * uniform[2])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ shear @ np.diag(sizes)
    affine[:3, 3] = centre + settings.translation * uniform[1]
    affine[:3, 3] -= affine[:3, :3] @ centre
    return affine


class _SmoothField:
    """White noise under a Gaussian: unit variance at every point of the field of view.

    The noise sits on nodes one `length` apart. As the Gaussian is separable, values on
    a grid need three small matrix products and no interpolation, at any grid size.
    """

    def __init__(self, random, components: int, field_of_view: float, length: float):
        reach = int(np.ceil(field_of_view / 2 / length)) + 4
        self._nodes = np.arange(-reach, reach + 1) * length
        self._length = length
        self._noise = random.standard_normal((components, *[len(self._nodes)] * 3))

    def __call__(self, axes: np.ndarray) -> np.ndarray:
        """Values on the grid of `axes` [3, n], in mm: [components, n, n, n]."""
        values = self._noise
        for axis in axes:
            distance = (axis[:, None] - self._nodes) / self._length
            weights = np.exp(-0.5 * distance**2)
            weights /= np.linalg.norm(weights, axis=1, keepdims=True)
            # Contracts the first spatial axis and appends it as the last.
            values = np.moveaxis(values, 1, -1) @ weights.T
        return values.astype(np.float32)


def _deformation_without_affine(
    shift: _SmoothField, source: _Source, to_source, field_of_view: float, deviation
) -> tuple[float, np.ndarray]:
    """Scale and 4×4 correction that make the deformation u(y) free of any affine.

    y + u(y) = correction · y + scale · shift(y), where u has no affine part left over
    the brain and a root mean square of `deviation` mm along each axis there. Without
    this the known affine would not be the one that a registration should find.
    """
    axes = np.tile((np.arange(32) - 15.5) * field_of_view / 32, (3, 1))
    brain = _sample(source.mask, _apply(to_source, axes), order=0) > 0.5
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)[brain]
    design = np.column_stack([points, np.ones(len(points))])
    values = shift(axes)[:, brain].T.astype(np.float64)
    affine_part = np.linalg.lstsq(design, values)[0]
    scale = deviation / np.sqrt(np.mean((values - design @ affine_part) ** 2))
    correction = np.eye(4)
    correction[:3] -= scale * affine_part.T
    return scale, correction


def _apply(matrix: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The points of the grid of `axes` [3, n] under a 4×4 matrix, [3, n, n, n]."""
    x, y, z = axes[0][:, None, None], axes[1][:, None], axes[2]
    return np.stack([(a * x + t) + b * y + c * z for a, b, c, t in matrix[:3]])


def _sample(volume: np.ndarray, coordinates: np.ndarray, *, order: int) -> np.ndarray:
    """`volume` at voxel `coordinates` [3, n, n, n], in its own type; 0 outside."""
    return ndimage.map_coordinates(
        volume, coordinates, output=volume.dtype, order=order, mode="constant"
    )
