"""The draw of a synthetic scan in words."""

import numpy as np

from mdvit_jax.data import scan_draw, tissues
from mdvit_jax.data.scan_draw import Draw
from mdvit_jax.geometry import turns


def describe(draw: Draw) -> str:
    """A draw in words, for one scan (without leading axes)."""

    def number(value) -> str:
        return f"{float(value) + 0.0:.3g}"  # never -0

    def triple(values) -> str:
        return ", ".join(number(v) for v in np.asarray(values))

    words = ["brain" if draw.stripped else "whole head"]
    if draw.stripped:
        words.append(
            f"stripped {float(draw.margin):+.1f} ± {float(draw.ragged):.1f} mm wide"
        )
        if draw.holes < scan_draw.FAR:
            words.append("with holes")
    if draw.deface < scan_draw.FAR:
        words.append("defaced")
    negative = ", inverted" if draw.inverted else ""
    words.append(f"{tissues.CONTRASTS[int(draw.contrast)]} contrast{negative}")
    radii = np.asarray(draw.lesion_radius).max(axis=-1)
    if radii.any():
        words.append(f"lesions of {triple(radii[radii > 0])} mm")
    degrees = np.rad2deg(np.asarray(draw.rotation))
    words.append(f"rotated {triple(degrees)}°, scaled {triple(draw.scale)}")
    words.append(f"sheared {triple(draw.shear)}, moved {triple(draw.translation)} mm")
    if draw.turn:
        words.append(f"axes turned ({int(draw.turn)} of {len(turns.TURNS)})")
    low, high = np.asarray(draw.field_low), np.asarray(draw.field_high)
    for axis, start, end in zip("xyz", low, high, strict=True):
        if start > -scan_draw.FAR or end < scan_draw.FAR:
            limits = (
                number(v) if abs(v) < scan_draw.FAR else "open" for v in (start, end)
            )
            words.append(f"field of view along {axis} from {' to '.join(limits)} mm")
    if np.any(draw.spacing):
        words.append(
            f"slices every {triple(draw.spacing)} mm, {triple(draw.thickness)} thick"
        )
    words.append(f"blur {number(draw.blur)} mm, noise {number(100 * draw.noise)} %")
    words.append(f"bias {number(100 * draw.bias)} %")
    words.append(f"{int(draw.levels)} levels" if draw.levels else "floating point")
    return "; ".join(words)
