"""Random images on asymmetric grids."""

import numpy as np
from scipy import ndimage

SHAPE = (12, 14, 17)


def noise(seed: int, shape=SHAPE) -> np.ndarray:
    """White noise in [0, 1], float32."""
    return np.random.default_rng(seed).random(shape, np.float32)


def smooth(seed: int, shape=SHAPE, sigma: float = 1.5) -> np.ndarray:
    """Noise with a correlation length of `sigma` voxels, scaled to [0, 1], float32."""
    blurred = ndimage.gaussian_filter(noise(seed, shape).astype(np.float64), sigma)
    blurred -= blurred.min()
    return (blurred / blurred.max()).astype(np.float32)
