"""One pair on the cubes of one size, and its refinement from 48³ to 96³ voxels."""

import functools
import math
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from mdvit_jax.io import programs
from mdvit_jax.registration import DOF, gauss_newton, levels
from mdvit_jax.registration.normalisation import Level

_ONE_SIZE = 0.02  # scales of two scans of one head differ by less
_OUTLINE = {12: 1.0, 24: 1.0, 48: 1.0, 96: 0.4}  # weight; the interior is more exact
# Between two people: outlines' weights, steps, and the tolerance at 48³ in voxels.
_PEOPLE_OUTLINE, _PEOPLE_STEPS = {48: 0.6, 96: 0.25}, {48: 100, 96: 8}
_PEOPLE_TOLERANCE = 0.002
# Part of these weights, and steps at 96³, where an outline is a network's estimate.
_ESTIMATED, _ESTIMATED_STEPS = 0.6, 4
# Local correlation at 48³ above which two images show one person: in any contrast it is
# 0.78 to 0.89, between two people up to 0.50, to a template up to 0.44.
ONE_PERSON = 0.6
# Where outlines keep the interiors of one person apart, as two strippings or contrasts
# do, the interior alone shows it, above the first one at 48³ and the second at 96³.
# Those of two people and of a template reach 0.61 and 0.45.
_PROMISING, ONE_PERSON_INSIDE = 0.55, 0.5
# Depth of the interior below the border, in σ of a voxel's Gaussian neighbourhood, or
# in voxels of a file where those are larger.
_DEPTH = 1.3
_TOO_COARSE = 2.0  # voxels of the finest cube in one of a file: little interior is left
# The same of a voxel's mean side: without details two people look like one, with an
# interior of 0.51 to 0.69 at 96³ in voxels of 4 to 8 mm (0.47 in those of 3 mm).
_TOO_BLURRED = 1.65
_TOLERANCE = {12: 0.03, 24: 0.02, 48: 0.02, 96: 0.002}  # voxels
_STEPS = {12: 8, 24: 20, 48: 15, 96: 40}
_AT_ONCE = 4  # of several starts
_PROGRAMS = {
    dof: programs.Program(
        functools.partial(gauss_newton.align, dof=dof),
        f"align-{dof}",
        (Level, gauss_newton.Fit),
    )
    for dof in DOF
}


def fit(
    pair: levels.Pair,
    size: int,
    starts: np.ndarray,
    *,
    dof: str,
    steps: int | None = None,
    outline: float | None = None,
    tolerance: float | None = None,
    stretched: bool = False,
    interior: bool = False,
) -> gauss_newton.Fit:
    """Align the cubes of one size.

    Args:
        starts: [3, 4], or several of them [n, 3, 4], in voxels of that size.
        steps: largest number of steps; None: the default of that size; 0 only measures
            the starts.
        outline: weight of the outlines; None: the default of that size.
        tolerance: in voxels; None: the default of that size.
        stretched: see `gauss_newton.align`.
        interior: whether the outlines and all voxels near them are left out.

    Returns:
        The fit, whose entries have a leading axis [n] if `starts` has.
    """
    if outline is None:
        outline = _OUTLINE[size]
    if interior:
        outline = 0.0
    options = (
        outline,
        _coverage(pair) if interior else 0.0,
        _STEPS[size] if steps is None else steps,
        _TOLERANCE[size] if tolerance is None else tolerance,
        stretched,
    )

    def compute(start):
        start = start.astype(np.float32)
        fits = _PROGRAMS[dof](*pair.cubes[size], pair.points[size], start, *options)
        return jax.tree.map(np.asarray, fits)

    if starts.ndim == 2:
        return compute(starts)
    # Each by the program of one, which a command loads in any case, and which ends when
    # that one is done.
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        fits = threads.map(compute, starts)
    return jax.tree.map(lambda *values: np.stack(values), *fits)


def finer(matrix: np.ndarray) -> np.ndarray:
    """The same [..., 3, 4] in voxels of half the size."""
    return matrix * np.array([1, 1, 1, 2], np.float32)


def refine(pair: levels.Pair, start: np.ndarray, dof: str) -> tuple[np.ndarray, float]:
    """Refine a matrix at 48³ and 96³.

    Args:
        pair: the foregrounds on their cubes.
        start: [3, 4], in voxels of the cubes of 48³.
        dof: "rigid", "similarity" or "affine".

    Returns:
        The matrix in voxels of the cubes of 96³, and the scale that was removed from a
        rigid one; 1 where there was none.
    """
    best, interior = _refine_level_by_level(
        pair, start, "similarity" if dof == "rigid" else dof
    )
    return remove_scale(pair, best, interior) if dof == "rigid" else (best, 1.0)


def remove_scale(
    pair: levels.Pair, matrix: np.ndarray, interior: bool
) -> tuple[np.ndarray, float]:
    """The rigid matrix for a similarity at 96³, and the scale that was removed.

    It is refined, and the scale 1, where the two are about equally large.
    """
    scale = np.cbrt(np.linalg.det(matrix[:, :3]))
    matrix = matrix / np.array([scale, scale, scale, 1])
    if abs(scale - 1) >= _ONE_SIZE:
        return matrix, scale
    return fit(pair, 96, matrix, dof="rigid", interior=interior).matrix, 1.0


def _refine_level_by_level(
    pair: levels.Pair, start: np.ndarray, dof: str
) -> tuple[np.ndarray, bool]:
    """The matrix at 96³ from one at 48³, and whether the interior alone was compared.

    Outlines align two people better, but contrast and skull stripping move them: within
    one person the interior is more exact.
    """
    middle = fit(pair, 48, start, dof=dof)
    if middle.correlation > ONE_PERSON:
        interior = bool(_coarsest(pair) < _TOO_COARSE * pair.voxel)
        start = finer(middle.matrix)
        return fit(pair, 96, start, dof=dof, interior=interior).matrix, interior
    if _mean_side(pair) < _TOO_BLURRED * pair.voxel:
        inner = fit(pair, 48, middle.matrix, dof=dof, interior=True)
        if inner.correlation > _PROMISING:
            inner = fit(pair, 96, finer(inner.matrix), dof=dof, interior=True)
            if inner.correlation > ONE_PERSON_INSIDE:
                return inner.matrix, True
    return fit_people(pair, middle.matrix, dof).matrix, False


def fit_people(pair: levels.Pair, start: np.ndarray, dof: str) -> gauss_newton.Fit:
    """Refine a matrix between two people.

    The answer is the optimum at 48³ voxels, corrected by some steps of Gauss-Newton
    that are stretched rather than extrapolated. Finer details of two people differ: at
    96³ there are several optima up to 2 mm apart, and directions in which hardly
    anything changes. Such steps go far where the details agree and hardly anywhere else
    (early stopping as regularisation), and bring starts together rather than apart. A
    similarity has too few parameters for that, and goes to its optimum.

    Args:
        pair: the foregrounds on their cubes.
        start: [3, 4], in voxels of the cubes of 48³.
        dof: "similarity" or "affine".

    Returns:
        The fit at 96³.
    """
    weights = {
        size: weight * (_ESTIMATED if pair.estimated else 1)
        for size, weight in _PEOPLE_OUTLINE.items()
    }
    middle = fit(
        pair,
        48,
        start,
        dof=dof,
        outline=weights[48],
        steps=_PEOPLE_STEPS[48],
        tolerance=_PEOPLE_TOLERANCE,
    )
    start, outline = finer(middle.matrix), weights[96]
    if dof == "similarity":
        return fit(pair, 96, start, dof=dof, outline=outline)
    steps = _ESTIMATED_STEPS if pair.estimated else _PEOPLE_STEPS[96]
    return fit(pair, 96, start, dof=dof, outline=outline, steps=steps, stretched=True)


def _coverage(pair: levels.Pair) -> float:
    """Share of a neighbourhood that is foreground some voxels below a border."""
    depth = _DEPTH * max(_coarsest(pair) / pair.voxel, 1)
    return (1 + math.erf(depth / np.sqrt(2))) / 2


def _coarsest(pair: levels.Pair) -> float:
    """The longest side of a voxel of either file, mm."""
    return _sides(pair).max()


def _mean_side(pair: levels.Pair) -> float:
    """The side of a cube as large as a voxel of the coarser file, mm."""
    return np.cbrt(_sides(pair).prod(axis=1).max())


def _sides(pair: levels.Pair) -> np.ndarray:
    """The sides of a voxel of the fixed and of the moving file, [2, 3] mm."""
    affines = np.stack([pair.fixed.affine, pair.moving.affine])
    return np.linalg.norm(affines[:, :3, :3], axis=1)


def prepare(size: int, *, dof: str) -> None:
    """Load or compile the program by which the cubes of one size are fitted.

    Args:
        size: voxels along each axis of the cubes.
        dof: that of the answer.
    """
    cube, points = levels.empty_cube(size)
    start, numbers = np.zeros((3, 4), np.float32), (0.0, 0.0, 0, 0.0, False)
    program = _PROGRAMS["similarity" if dof == "rigid" else dof]
    program.prepare(cube, cube, (points, points), start, *numbers)
