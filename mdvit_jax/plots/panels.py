"""What all pictures share: dark paper without pyplot, slices in grey, checkerboards.

Figures are drawn without pyplot, so that they neither need a display nor leave state
behind in a long run.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PAPER, TEXT = "#101114", "#e8e8ea"


def figure(width: float, height: float) -> Figure:
    """An empty one, in inches."""
    blank = Figure(figsize=(width, height), dpi=110, facecolor=PAPER)
    FigureCanvasAgg(blank)
    return blank


def show(axis: Axes, picture: np.ndarray) -> None:
    """A slice [up, right] in [0, 1] in grey, or [up, right, RGB]."""
    axis.imshow(
        picture,
        cmap="gray",
        vmin=0,
        vmax=1,
        origin="lower",
        aspect="auto",
        interpolation="bilinear" if picture.ndim == 2 else "nearest",
    )


def checkerboard(
    fixed: np.ndarray, moved: np.ndarray, *, side: int, tint: np.ndarray
) -> np.ndarray:
    """[up, right, RGB]: squares of the fixed slice in grey and of the moved one tinted.

    Args:
        fixed, moved: [up, right], in [0, 1].
        side: of a square, in pixels.
        tint: RGB in [0, 1].
    """
    up, right = np.indices(fixed.shape) // max(side, 1)
    odd = ((up + right) % 2 == 1)[..., None]
    return np.where(odd, moved[..., None] * tint, fixed[..., None] * np.ones(3))
