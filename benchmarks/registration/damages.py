"""Damages of a brain: what another program, scanner or patient makes of it."""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage

from mdvit_jax.io.image import Image

# An image [x, y, z] in [0, 1], 0 outside of its brain; the brain, bool; the sizes of a
# voxel in mm; and the source of random numbers → the damaged image.
Damage = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]

_BIAS = 0.4, 1.6  # factors
_RADIUS = 12.0  # mm, of a lesion or a cavity
_SLICE = 6.0  # mm
_NOISE = 0.1  # of the image's range
_FWHM = 4.0  # mm, of smoothing
_HOT = 0.001  # of the voxels, 5 times as bright as all others


def _stripped_tighter(millimetres: float) -> Damage:
    def strip(image, brain, sizes, random):
        depth = ndimage.distance_transform_edt(brain, sampling=sizes)
        return image * (depth > millimetres)

    return strip


def _bias(image, brain, sizes, random):
    """Linear along a random direction, from the one end of the brain to the other."""
    direction = random.standard_normal(3)
    along = _millimetres(image.shape, sizes) @ (direction / np.linalg.norm(direction))
    low, high = along[brain].min(), along[brain].max()
    return image * np.interp(along, (low, high), _BIAS).astype(np.float32)


def _bright_lesion(image, brain, sizes, random):
    return np.where(_ball(brain, sizes, random) & brain, np.float32(1), image)


def _cavity(image, brain, sizes, random):
    return image * ~_ball(brain, sizes, random)


def _quarter_cut_off(image, brain, sizes, random):
    """Of the brain's box, all above the middle and behind it."""
    result = image.copy()
    (box,) = ndimage.find_objects(brain.astype(np.uint8))
    middle = [(side.start + side.stop) // 2 for side in box]
    result[:, : middle[1], middle[2] :] = 0
    return result


def _thick_slices(image, brain, sizes, random):
    """Each slice of the thickness is their mean, as of a profile of that width."""
    width = _SLICE / sizes[2]
    profile = np.clip((width + 1) / 2 - np.abs(np.arange(-7, 8)), 0, 1)
    return ndimage.convolve1d(image, profile / profile.sum(), axis=2, mode="constant")


def _noise(image, brain, sizes, random):
    noise = _NOISE * random.standard_normal(image.shape, np.float32)
    return np.clip(image + noise * (image > 0), 0, None)


def _hot_voxels(image, brain, sizes, random):
    hot = random.random(image.shape) < _HOT
    return np.where(hot & (image > 0), np.float32(5), image)


def _smoothed(image, brain, sizes, random):
    return ndimage.gaussian_filter(image, _FWHM / np.sqrt(8 * np.log(2)) / sizes)


# Damages of the scan, before it is resampled.
SCAN_DAMAGES: Mapping[str, Damage] = {
    "stripped 2 mm tighter": _stripped_tighter(2.0),
    "stripped 4 mm tighter": _stripped_tighter(4.0),
    "bias field": _bias,
    "bright lesion": _bright_lesion,
    "cavity": _cavity,
    "quarter cut off": _quarter_cut_off,
    "6 mm slices": _thick_slices,
}
# Damages of the image that is registered, on its own grid.
IMAGE_DAMAGES: Mapping[str, Damage] = {"noise 10 %": _noise, "hot voxels": _hot_voxels}
# Changes of a copy that is registered to its original, on one grid.
COPY_CHANGES: Mapping[str, Damage] = {
    "smoothed": _smoothed,
    "noise 10 %": _noise,
    "gamma 2": lambda image, brain, sizes, random: np.square(image),
    "inverted": lambda image, brain, sizes, random: (1 - image) * brain,
}


def apply(damage: Damage, image: Image, brain: np.ndarray, seed: int) -> Image:
    """An image with a damage.

    Args:
        brain: bool [x, y, z], on the image's grid.
        seed: of the damage's random numbers.
    """
    random = np.random.default_rng(seed)
    data = damage(image.data, brain, image.grid.voxel_sizes, random)
    return image._replace(data=data.astype(np.float32))


def _millimetres(shape: tuple[int, ...], sizes: np.ndarray) -> np.ndarray:
    """[x, y, z, 3], positions in mm along the grid's axes."""
    axes = [size * np.arange(n) for n, size in zip(shape, sizes, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1, dtype=np.float32)


def _ball(brain, sizes, random) -> np.ndarray:
    """Bool [x, y, z]: a ball around a random voxel that is deep enough for it."""
    depth = ndimage.distance_transform_edt(brain, sampling=sizes)
    deep = np.argwhere(depth >= min(_RADIUS, depth.max()))
    centre = sizes * deep[random.integers(len(deep))]
    offsets = _millimetres(brain.shape, sizes) - centre.astype(np.float32)
    return np.linalg.norm(offsets, axis=-1) < _RADIUS
