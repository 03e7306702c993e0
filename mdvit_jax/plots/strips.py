"""A small picture of a pair for a page with many: strips of three planes.

Below each other, on one image, are a strip of the fixed image, a strip of the warped
one, and the fixed image's edges as lines on nothing, which a page lays over either.
Each strip has the slices of `planes.PLANES` from left to right, in squares of `SIDE`
pixels.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor

from mdvit_jax.plots import edges, planes

SIDE = planes.ACROSS + 4
_QUALITY = 80  # of WebP, 0 to 100
_EFFORT = 2  # of its encoder, 0 to 6; more takes long for a few per cent


def encode(fixed: Sequence[np.ndarray], warped: Sequence[np.ndarray]) -> bytes:
    """The three strips as a WebP file, 3 · `SIDE` pixels wide and high.

    Args:
        fixed, warped: slices [up, right] of each plane, 0 to 1, at most `SIDE` long.
    """
    canvas = np.zeros((3 * SIDE, 3 * SIDE, 4), np.uint8)
    canvas[:, :, 3] = 255
    canvas[2 * SIDE :] = (*ImageColor.getrgb(edges.COLOUR), 0)
    for row, slices in enumerate((fixed, warped)):
        for column, picture in enumerate(slices):
            _cell(canvas, row, column, picture)[..., :3] = _bytes(picture)[..., None]
    for column, picture in enumerate(fixed):
        opacity = np.rint(15 * edges.line_opacity(picture)) / 15  # 16 are stored small
        _cell(canvas, 2, column, picture)[..., 3] = _bytes(opacity)
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "webp", quality=_QUALITY, method=_EFFORT)
    return file.getvalue()


def _cell(canvas: np.ndarray, row: int, column: int, picture: np.ndarray) -> np.ndarray:
    """Where a slice goes: the middle of its square."""
    up, right = picture.shape
    top, left = row * SIDE + (SIDE - up) // 2, column * SIDE + (SIDE - right) // 2
    return canvas[top : top + up, left : left + right]


def _bytes(picture: np.ndarray) -> np.ndarray:
    """0 to 1 as 0 to 255, with the first row on top."""
    return np.rint(255 * picture[::-1]).astype(np.uint8)
