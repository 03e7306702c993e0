"""The edges of a slice by Marr and Hildreth: zero crossings of the Laplacian."""

import numpy as np
from scipy import ndimage

COLOUR = "#ff7a45"  # seen within the grey of the brain
_WIDTH = 1.1  # pixels, of a line


def edge_field(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Laplacian of a smoothed slice [up, right], and where the slice is steep.

    Edges are where the one is zero and the other true.
    """
    scale = 0.6 + max(picture.shape) / 128  # pixels: finer slices have finer noise
    curvature = ndimage.gaussian_laplace(picture, scale)
    steepness = ndimage.gaussian_gradient_magnitude(picture, scale)
    # Of what is not flat background, so that the outline does not decide alone.
    uneven = steepness[steepness > 0.02 * steepness.max()]
    steep = steepness > (0.6 * np.median(uneven) if uneven.size else np.inf)
    return curvature, steep


def line_opacity(picture: np.ndarray) -> np.ndarray:
    """How opaque a line along the edges of a slice is, [up, right] each, 0 to 1.

    The distance to a zero crossing is about the Laplacian over its slope, which makes
    lines of one width with smooth sides.
    """
    curvature, steep = edge_field(picture)
    slope = np.hypot(*np.gradient(curvature))
    distance = np.abs(curvature) / np.maximum(slope, 1e-12)
    return np.clip(_WIDTH / 2 + 0.5 - distance, 0, 1) * steep
