"""Average pooling, window by window."""

import numpy as np


def pool(volume, kernel: int) -> np.ndarray:
    """Means of windows about every second voxel, cut off at the border."""
    volume, reach = np.asarray(volume, float), kernel // 2
    pooled = np.zeros([(n + 1) // 2 for n in volume.shape])
    for index in np.ndindex(*pooled.shape):
        window = tuple(slice(max(0, 2 * i - reach), 2 * i + reach + 1) for i in index)
        pooled[index] = volume[window].mean()
    return pooled
