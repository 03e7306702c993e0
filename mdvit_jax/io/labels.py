"""Recognise label maps, whose values are names and not brightness."""

import numpy as np

_FEWEST_VOXELS = 1000  # below, no decision is made
_ENOUGH_VOXELS = 1 << 21  # of which a sample of lines is looked at
# In a label map more than a certain share of neighbouring voxels has the same value.
_FEW, _SAME = 8, 0.6  # the share where there are up to _FEW values
_MOSTLY_SAME = 0.85  # the share where there are more
# Or this share, as in thin patches, if neighbours that differ lie far apart in the list
# of values: all but _OFTEN percent by more than _STEPS, unlike those of noise.
_OFTEN_SAME = 0.25
_STEPS, _OFTEN = 2, 25


def count_labels(data: np.ndarray) -> int:
    """How many values an image has that looks like a label map or a mask; else 0.

    Args:
        data: [x, y, z], finite; floating-point labels are whole numbers, too.
    """
    if data.size < _FEWEST_VOXELS or not _whole(data[::8, ::8, ::8]):
        return 0
    step = int(np.ceil(np.sqrt(data.size / _ENOUGH_VOXELS)))
    lines = data[:, ::step, ::step]
    some = lines[::2, ::2, ::2]
    if not _whole(some):
        return 0
    values, counts = np.unique(some, return_counts=True)
    if len(values) <= 2:
        return len(values)
    # The background, and what an image is padded with, are patches of any image. Of
    # whole numbers the noise of dark air may be more frequent than zeros around it.
    background = values[np.argsort(counts)[-2 if len(values) > _FEW else -1 :]]
    if len(values) > _FEW:
        background = np.append(background, values[0])
    return len(values) if _in_patches(lines, values, background) else 0


def _whole(values: np.ndarray) -> bool:
    return values.dtype.kind in "iub" or bool((values == np.rint(values)).all())


def _in_patches(data: np.ndarray, values: np.ndarray, background: np.ndarray) -> bool:
    """Whether neighbours off the background mostly have one value, or unrelated ones.

    In an image of little noise, too, most neighbours have one value, but the others
    differ by a step or two only, whereas labels of touching regions are unrelated.
    """
    one, other = data[:-1], data[1:]
    inside = np.ones(one.shape, bool)
    for value in background:
        inside &= (one != value) & (other != value)
    one, other = one[inside], other[inside]
    if not one.size:
        return False
    same = one == other
    if len(values) <= _FEW or same.mean() > _MOSTLY_SAME:
        return bool(same.mean() > _SAME)
    if same.mean() < _OFTEN_SAME:
        return False
    steps = [np.searchsorted(values, part[~same]) for part in (one, other)]
    return bool(np.percentile(np.abs(steps[0] - steps[1]), _OFTEN) > _STEPS)
