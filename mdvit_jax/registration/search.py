"""Two foregrounds → the matrix between them, coarse to fine.

At 24³ voxels the header's orientation is tried from several starts. Only where none of
them fits as known pairs do, all orientations are searched: some hundred starts at 12³
voxels at once, the best of which go on at 24³. The best one is refined at 48³ and 96³.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np
from scipy.spatial.transform import Rotation

from mdvit_jax.registration import gauss_newton, levels, rotations

_ORIENTATIONS = 200  # all are within about 35° of one of these
_STARTS = 12  # at 24³, the start itself and others around it, or the search's best
_SPREAD = 8.0, 6.0  # degrees and mm, deviation of the starts around the start
# Correlation less outline at 24³, below which all orientations are searched: where the
# starts come to one place, and where they do not. People in one orientation have 0.1 to
# 0.5, and agree; of wrong orientations hardly any start agrees with another.
_FITS, _FITS_ALONE, _AGREE = 0.1, 0.5, 0.6
_MEETING = 0.25  # overlap below which two foregrounds do not lie on each other
_EQUAL = 0.005  # scores that differ by less are equal
_ONE_SIZE = 0.02  # two scans of one head differ by less
_APART = 25.0  # degrees between answers that are two
_OUTLINE = {12: 1.0, 24: 1.0, 48: 0.3, 96: 0.4}  # weight; the interior is more exact
# Local correlation at 48³ from which two images show one person: with any contrast it
# is 0.78 to 0.89, of two people up to 0.37 and with their mean, a template, up to 0.44.
_ONE_PERSON = 0.6
_SOLID = 0.9  # of the surroundings of a voxel of one person, what must be tissue
_TOLERANCE = {12: 0.03, 24: 0.02, 48: 0.02, 96: 0.005}  # voxels
_STEPS = {12: 8, 24: 20, 48: 15, 96: 6}


class Alignment(NamedTuple):
    """Where it ended and what speaks for it.

    Attributes:
        matrix: 4×4 fixed → moving, world RAS+ mm.
        restart_agreement: the part of the starts around the start that came to the
            same place.
        searched: whether all orientations were.
        score: correlation less outline at 24³, of the answer that was taken.
        runner_up_score: of the best answer in another orientation; None without one.
    """

    matrix: np.ndarray
    restart_agreement: float
    searched: bool
    score: float
    runner_up_score: float | None


def align(
    pair: levels.Pair,
    start: np.ndarray,
    *,
    dof: str = "affine",
    search: bool = True,
    seed: int = 0,
) -> Alignment:
    """Find the matrix that lays the moving foreground on the fixed one.

    Args:
        start: 4×4 fixed → moving, world RAS+ mm.
        dof: "rigid", "similarity" or "affine".
        search: whether other orientations than the start's may be tried.
        seed: of the starts around the start.

    A rigid answer is looked for with one scale, which is taken away at the end:
    foregrounds of two sizes would otherwise be laid on each other's border.
    """
    requested, dof = dof, "similarity" if dof == "rigid" else dof
    begin = pair.to_voxels(start, 24)
    starts = _perturb(begin, seed, pair.voxel * 4)
    if search:
        starts[1] = pair.to_voxels(np.eye(4), 24)  # two scans of one session
    near = fit(pair, 24, starts, dof=dof)
    answers, scores = near.matrix, _score(near)
    best = answers[_first_best(scores)]
    reach = pair.fixed.radius / (4 * pair.voxel)
    agreement = float(np.mean([_distance(m, best, reach) < 1 for m in answers]))
    enough = _FITS if agreement > _AGREE else _FITS_ALONE
    searched = search and scores.max() < enough
    if searched:
        turns = rotations.spread(_ORIENTATIONS) @ begin[:, :3]
        starts = np.concatenate([turns, np.zeros((_ORIENTATIONS, 3, 1))], axis=2)
        coarse = fit(pair, 12, starts, dof="similarity")
        order = np.argsort(-_score(coarse), kind="stable")[:_STARTS]
        wide = fit(pair, 24, _finer(coarse.matrix[order]), dof=dof)
        answers = np.concatenate([answers, wide.matrix])
        scores = np.concatenate([scores, _score(wide)])
        best = answers[_first_best(scores)]
    score, runner_up = float(scores.max()), _runner_up(answers, scores)
    middle = fit(pair, 48, _finer(best), dof=dof)
    # Outlines bring people together, but a contrast or a stripping moves them: of one
    # person the interior says all.
    interior = bool(middle.correlation > _ONE_PERSON)
    best = fit(pair, 96, _finer(middle.matrix), dof=dof, interior=interior).matrix
    if requested == "rigid":
        scale = np.cbrt(np.linalg.det(best[:, :3]))
        best = best / np.array([scale, scale, scale, 1])
        if abs(scale - 1) < _ONE_SIZE:
            best = fit(pair, 96, best, dof="rigid", interior=interior).matrix
    matrix = _best_of(pair, (pair.to_world(best, 96), start, np.eye(4)))
    return Alignment(matrix, agreement, searched, score, runner_up)


def fit(
    pair: levels.Pair,
    size: int,
    starts: np.ndarray,
    *,
    dof: str,
    steps: int | None = None,
    interior: bool = False,
) -> gauss_newton.Fit:
    """Align at one size.

    Args:
        starts: [3, 4], or several of them [n, 3, 4], in voxels of that size.
        steps: the most that are made; None is what is usual at that size, 0 only judges
            the starts.
        interior: whether outlines and what is near to them are left out.
    """
    program = (_align_one if starts.ndim == 2 else _align_several)(dof)
    result = program(
        *pair.cubes[size],
        pair.points[size],
        starts.astype(np.float32),
        0.0 if interior else _OUTLINE[size],
        _SOLID if interior else 0.0,
        _STEPS[size] if steps is None else steps,
        _TOLERANCE[size],
    )
    return jax.tree.map(np.asarray, result)


def _finer(matrix: np.ndarray) -> np.ndarray:
    """[..., 3, 4] in voxels half as large."""
    return matrix * np.array([1, 1, 1, 2], np.float32)


@functools.cache
def _align_one(dof: str):
    return jax.jit(functools.partial(gauss_newton.align, dof=dof))


@functools.cache
def _align_several(dof: str):
    function = functools.partial(gauss_newton.align, dof=dof)
    return jax.jit(jax.vmap(function, (None, None, None, 0, *(None,) * 4)))


def _perturb(begin: np.ndarray, seed: int, voxel: float) -> np.ndarray:
    """[starts, 3, 4]: the start, and others turned and shifted a little from it."""
    random = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(
        np.radians(_SPREAD[0]) * random.standard_normal((_STARTS, 3))
    ).as_matrix()
    shifts = _SPREAD[1] / voxel * random.standard_normal((_STARTS, 3))
    turns[0], shifts[0] = np.eye(3), 0
    linear = turns @ begin[:, :3]
    return np.concatenate([linear, (begin[:, 3] + shifts)[:, :, None]], axis=2)


def _first_best(scores: np.ndarray) -> int:
    """The first start that is as good as any, so that chance does not decide."""
    return int(np.argmax(scores >= scores.max() - _EQUAL))


def _best_of(pair: levels.Pair, matrices: tuple[np.ndarray, ...]) -> np.ndarray:
    """The first of some matrices, unless another one is better at 48³."""
    scores = []
    for matrix in matrices:
        judged = fit(pair, 48, pair.to_voxels(matrix, 48), dof="affine", steps=0)
        scores.append(_score(gauss_newton.Fit(*(part[None] for part in judged)))[0])
    return matrices[_first_best(np.array(scores))]


def _score(fit: gauss_newton.Fit) -> np.ndarray:
    """Higher is better; a mirrored or collapsed matrix, or one apart, is none."""
    sizes = np.linalg.svd(fit.matrix[:, :, :3], compute_uv=False)
    sound = (np.linalg.det(fit.matrix[:, :, :3]) > 0) & (sizes > 0.4).all(-1)
    sound &= (sizes < 2.5).all(-1)
    # Apart from each other, two objects have no outline that differs.
    sound &= fit.overlap > _MEETING
    score = fit.correlation * np.minimum(1, fit.overlap / 0.5) - fit.outline
    return np.where(sound & np.isfinite(score), score, -np.inf)


def _runner_up(answers: np.ndarray, scores: np.ndarray) -> float | None:
    """The best score among the answers in another orientation than the best's."""
    best = answers[np.argmax(scores)]
    others = [
        float(score)
        for answer, score in zip(answers, scores, strict=True)
        if np.isfinite(score) and rotations.angle(answer[:, :3], best[:, :3]) > _APART
    ]
    return max(others, default=None)


def _distance(a: np.ndarray, b: np.ndarray, radius: float) -> float:
    """About how far, in voxels, two matrices take a point of the foreground apart."""
    turned = np.linalg.norm(a[:, :3] - b[:, :3]) * radius / np.sqrt(5)
    return float(np.hypot(turned, np.linalg.norm(a[:, 3] - b[:, 3])))
