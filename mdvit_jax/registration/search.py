"""Two foregrounds → the matrix between them, coarse to fine.

At 24³ voxels the orientation of the headers is tried from several starts. Only where
none of them fits like a known pair, all orientations are searched: 200 starts at 12³
voxels, the best of which go on at 24³. The best one is refined at 48³ and 96³.
"""

import functools
import math
from typing import NamedTuple

import jax
import numpy as np
from scipy.spatial.transform import Rotation

from mdvit_jax.registration import gauss_newton, levels, programs, rotations
from mdvit_jax.registration.normalisation import Level

_ORIENTATIONS = 200  # all are within about 35° of one of these
_STARTS = 12  # at 24³: the start and others drawn around it, or the search's best
_SPREAD = 8.0, 6.0  # degrees and mm, standard deviation of the starts drawn
# Scores at 24³ below which all orientations are searched: where the share _AGREE of the
# starts ends at one place, and where it does not. Two people in one orientation score
# 0.1 to 0.5 and agree; in a wrong orientation hardly any two starts agree.
_FITS, _FITS_ALONE, _AGREE = 0.1, 0.5, 0.6
_MEETING = 0.25  # overlap below which two foregrounds count as apart
_EQUAL = 0.005  # scores that differ by less are equal
_SMALL = 1e-3  # of a volume: rounding
_ONE_SIZE = 0.02  # scales of two scans of one head differ by less
_APART = 25.0  # degrees between two different answers
_OUTLINE = {12: 1.0, 24: 1.0, 48: 1.0, 96: 0.4}  # weight; the interior is more exact
# Between two people: outlines' weights, steps, and the tolerance at 48³ in voxels.
_PEOPLE_OUTLINE, _PEOPLE_STEPS = {48: 0.6, 96: 0.25}, {48: 40, 96: 8}
_PEOPLE_TOLERANCE = 0.002
# Local correlation at 48³ above which two images show one person: in any contrast it is
# 0.78 to 0.89, between two people up to 0.37, to a template up to 0.44.
_ONE_PERSON = 0.6
# Below the first one, the outlines may be those of two strippings of one person, which
# keep the interiors apart; alone, they then reach the second one at 48³. Those of two
# people and of a template reach 0.43 to 0.54.
_DOUBTFUL, _ONE_PERSON_INSIDE = 0.3, 0.65
_SAME = 0.75  # score above which a mirror image cannot fit better
# Voxels of the finest cube, or of a coarser image, between one that counts and the
# border, as standard deviations of its neighbourhood.
_DEPTH = 1.3
_TOO_COARSE = 2.0  # voxels of the finest cube in one of a file: little interior is left
_TOLERANCE = {12: 0.03, 24: 0.02, 48: 0.02, 96: 0.002}  # voxels
_STEPS = {12: 8, 24: 20, 48: 15, 96: 40}


class Alignment(NamedTuple):
    """The result of the search, and how sure it is.

    Attributes:
        matrix: 4×4 fixed → moving, world RAS+ mm.
        restart_agreement: share of the first starts that ended at the same place.
        searched: whether all orientations were searched.
        score: correlation minus outline at 24³, of the best answer.
        runner_up_score: score of the best answer in another orientation; None if there
            is none.
        mirror_score: score of the moving image's mirror image; None where the image
            itself fits as one person's other scan.
    """

    matrix: np.ndarray
    restart_agreement: float
    searched: bool
    score: float
    runner_up_score: float | None
    mirror_score: float | None = None


def align(
    pair: levels.Pair,
    start: np.ndarray,
    *,
    dof: str = "affine",
    search: bool = True,
    seed: int = 0,
) -> Alignment:
    """Find the matrix that aligns the moving foreground to the fixed one.

    Args:
        pair: the foregrounds on their cubes.
        start: 4×4 fixed → moving, world RAS+ mm.
        dof: "rigid", "similarity" or "affine".
        search: whether orientations far from the start may be tried.
        seed: seed of the starts drawn around `start`.

    A rigid result is searched for with one scale, which is removed at the end:
    otherwise foregrounds of two sizes would be aligned at one border.
    """
    if pair.moving.radius > pair.fixed.radius:
        # One order whichever image is called fixed: both answers are exact inverses.
        result = align(
            pair.swap(), np.linalg.inv(start), dof=dof, search=search, seed=seed
        )
        return result._replace(matrix=np.linalg.inv(result.matrix))
    requested, dof = dof, "similarity" if dof == "rigid" else dof
    begin = pair.to_voxels(start, 24)
    starts = _perturb(begin, seed, pair.voxel * 4)
    if search:
        starts[1] = pair.to_voxels(np.eye(4), 24)  # two scans of one session
    near = fit(pair, 24, starts, dof=dof)
    answers, scores = near.matrix, rate(near)
    best = answers[_first_best(scores)]
    reach = pair.fixed.radius / (4 * pair.voxel)
    agreement = float(np.mean([distance(m, best, reach) < 1 for m in answers]))
    enough = _FITS if agreement > _AGREE else _FITS_ALONE
    searched = search and scores.max() < enough
    if searched:
        turns = rotations.spread(_ORIENTATIONS) @ begin[:, :3]
        starts = np.concatenate([turns, np.zeros((_ORIENTATIONS, 3, 1))], axis=2)
        coarse = fit(pair, 12, starts, dof="similarity")
        order = np.argsort(-rate(coarse), kind="stable")[:_STARTS]
        wide = fit(pair, 24, finer(coarse.matrix[order]), dof=dof)
        answers = np.concatenate([answers, wide.matrix])
        scores = np.concatenate([scores, rate(wide)])
        best = answers[_first_best(scores)]
    score, runner_up = float(scores.max()), _runner_up(answers, scores)
    mirror = _mirror_score(pair, best, dof) if score < _SAME else None
    best, scale = _refine(pair, finer(best), requested)
    others = [start, np.eye(4)]
    if requested == "rigid":  # a start may have a scale
        others = [m for m in others if abs(np.linalg.det(m[:3, :3]) - 1) < _SMALL]
    matrix = _best_of(pair, (pair.to_world(best, 96), *others), scale)
    return Alignment(matrix, agreement, searched, score, runner_up, mirror)


def refine(pair: levels.Pair, previous: Alignment, *, dof: str) -> Alignment:
    """Refine an answer for a pair that changed a little: no other place is tried.

    Args:
        pair: the foregrounds on their cubes.
        previous: of the pair before it changed.
        dof: "rigid", "similarity" or "affine".

    Returns:
        The same with another matrix and the score of it.
    """
    if pair.moving.radius > pair.fixed.radius:
        inverse = previous._replace(matrix=np.linalg.inv(previous.matrix))
        result = refine(pair.swap(), inverse, dof=dof)
        return result._replace(matrix=np.linalg.inv(result.matrix))
    best, _ = _refine(pair, pair.to_voxels(previous.matrix, 48), dof)
    matrix = pair.to_world(best, 96)
    judged = fit(pair, 24, pair.to_voxels(matrix, 24), dof="affine", steps=0)
    return previous._replace(matrix=matrix, score=float(rate(judged)))


def _refine(pair: levels.Pair, start: np.ndarray, dof: str) -> tuple[np.ndarray, float]:
    """The matrix at 96³ from one at 48³, and the scale removed from a rigid one."""
    best, interior = _refine_level_by_level(
        pair, start, "similarity" if dof == "rigid" else dof
    )
    if dof != "rigid":
        return best, 1.0
    scale = np.cbrt(np.linalg.det(best[:, :3]))
    best = best / np.array([scale, scale, scale, 1])
    if abs(scale - 1) >= _ONE_SIZE:
        return best, scale
    return fit(pair, 96, best, dof="rigid", interior=interior).matrix, 1.0


def _refine_level_by_level(
    pair: levels.Pair, start: np.ndarray, dof: str
) -> tuple[np.ndarray, bool]:
    """The matrix at 96³ from one at 48³, and whether the interior alone was compared.

    Outlines align two people better, but contrast and skull stripping move them: within
    one person the interior is more exact.

    Between two people the answer is the optimum at 48³ voxels, corrected by some plain
    steps of Gauss-Newton. Finer details of two people differ: at 96³ there are several
    optima up to 2 mm apart, and directions in which hardly anything changes. Such steps
    go far where the details agree and hardly anywhere else (early stopping as
    regularisation), and bring starts together rather than apart. A similarity has too
    few parameters for that, and goes to its optimum.
    """
    middle = fit(pair, 48, start, dof=dof)
    one_person = middle.correlation > _ONE_PERSON
    if middle.correlation < _DOUBTFUL:
        inner = fit(pair, 48, middle.matrix, dof=dof, interior=True)
        if inner.correlation > _ONE_PERSON_INSIDE:
            middle, one_person = inner, True
    if one_person:
        interior = bool(_coarsest(pair) < _TOO_COARSE * pair.voxel)
        start = finer(middle.matrix)
        return fit(pair, 96, start, dof=dof, interior=interior).matrix, interior
    middle = fit(
        pair,
        48,
        middle.matrix,
        dof=dof,
        outline=_PEOPLE_OUTLINE[48],
        steps=_PEOPLE_STEPS[48],
        tolerance=_PEOPLE_TOLERANCE,
    )
    start, outline = finer(middle.matrix), _PEOPLE_OUTLINE[96]
    if dof == "similarity":
        return fit(pair, 96, start, dof=dof, outline=outline).matrix, False
    steps = _PEOPLE_STEPS[96]
    last = fit(
        pair, 96, start, dof=dof, outline=outline, steps=steps, extrapolation=0.0
    )
    return last.matrix, False


def _coverage(pair: levels.Pair) -> float:
    """Share of a neighbourhood that is foreground some voxels below a border."""
    depth = _DEPTH * max(_coarsest(pair) / pair.voxel, 1)
    return (1 + math.erf(depth / np.sqrt(2))) / 2


def _coarsest(pair: levels.Pair) -> float:
    """The longest side of a voxel of either file, mm."""
    affines = pair.fixed.affine, pair.moving.affine
    return max(np.linalg.norm(affine[:3, :3], axis=0).max() for affine in affines)


def fit(
    pair: levels.Pair,
    size: int,
    starts: np.ndarray,
    *,
    dof: str,
    steps: int | None = None,
    outline: float | None = None,
    tolerance: float | None = None,
    extrapolation: float = 1.0,
    interior: bool = False,
) -> gauss_newton.Fit:
    """Align the cubes of one size.

    Args:
        starts: [3, 4], or several of them [n, 3, 4], in voxels of that size.
        steps: largest number of steps; None: the default of that size; 0 only measures
            the starts.
        outline: weight of the outlines; None: the default of that size.
        tolerance: in voxels; None: the default of that size.
        extrapolation: see `gauss_newton.align`.
        interior: whether the outlines and all voxels near them are left out.

    Returns:
        The fit, whose entries have a leading axis [n] if `starts` has.
    """
    if outline is None:
        outline = _OUTLINE[size]
    if interior or not pair.outlines:
        outline = 0.0
    program = (_align_one if starts.ndim == 2 else _align_several)(dof)
    result = program(
        *pair.cubes[size],
        pair.points[size],
        starts.astype(np.float32),
        outline,
        _coverage(pair) if interior else 0.0,
        _STEPS[size] if steps is None else steps,
        _TOLERANCE[size] if tolerance is None else tolerance,
        extrapolation,
    )
    result = jax.tree.map(np.asarray, result)
    if not pair.outlines:
        return result._replace(outline=np.zeros_like(result.outline))
    return result


def finer(matrix: np.ndarray) -> np.ndarray:
    """The same [..., 3, 4] in voxels of half the size."""
    return matrix * np.array([1, 1, 1, 2], np.float32)


@functools.cache
def _align_one(dof: str):
    function = functools.partial(gauss_newton.align, dof=dof)
    return programs.Program(function, f"align-{dof}", (Level, gauss_newton.Fit))


@functools.cache
def _align_several(dof: str):
    function = functools.partial(gauss_newton.align, dof=dof)
    function = jax.vmap(function, (None, None, None, 0, *(None,) * 5))
    return programs.Program(function, f"several-{dof}", (Level, gauss_newton.Fit))


def _perturb(begin: np.ndarray, seed: int, voxel: float) -> np.ndarray:
    """[starts, 3, 4]: the start, and others drawn around it."""
    random = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(
        np.radians(_SPREAD[0]) * random.standard_normal((_STARTS, 3))
    ).as_matrix()
    shifts = _SPREAD[1] / voxel * random.standard_normal((_STARTS, 3))
    turns[0], shifts[0] = np.eye(3), 0
    linear = turns @ begin[:, :3]
    return np.concatenate([linear, (begin[:, 3] + shifts)[:, :, None]], axis=2)


def _first_best(scores: np.ndarray) -> int:
    """Index of the first start as good as the best: rounding does not decide."""
    return int(np.argmax(scores >= scores.max() - _EQUAL))


def _best_of(
    pair: levels.Pair, matrices: tuple[np.ndarray, ...], scale: float
) -> np.ndarray:
    """The matrix with the best score at 48³; of equal ones the first.

    All are judged with one scale more, without which the outlines of a large and a
    small brain would decide between rigid matrices. Where one of them shows one person,
    the interior decides: outlines may not meet.
    """
    fits = []
    for matrix in matrices:
        judged = pair.to_voxels(matrix, 48) * np.array([scale, scale, scale, 1])
        fits.append(fit(pair, 48, judged, dof="affine", steps=0))
    if max(judged.correlation for judged in fits) > _ONE_PERSON:
        fits = [judged._replace(outline=np.float32(0)) for judged in fits]
    return matrices[_first_best(np.array([rate(judged) for judged in fits]))]


def rate(fit: gauss_newton.Fit) -> np.ndarray:
    """Higher is better; -inf if a matrix mirrors, collapses or separates the two."""
    sizes = np.linalg.svd(fit.matrix[..., :3], compute_uv=False)
    sound = (np.linalg.det(fit.matrix[..., :3]) > 0) & (sizes > 0.4).all(-1)
    sound &= (sizes < 2.5).all(-1)
    # Where two objects do not overlap, no outlines can differ.
    sound &= fit.overlap > _MEETING
    # From 1 on an outline is no nearer to the other one than to none at all, as between
    # a brain stripped loosely and one stripped tightly: how far beyond says nothing.
    outline = np.minimum(1, fit.outline)
    score = fit.correlation * np.minimum(1, fit.overlap / 0.5) - outline
    return np.where(sound & np.isfinite(score), score, -np.inf)


def _runner_up(answers: np.ndarray, scores: np.ndarray) -> float | None:
    """The best score among the answers in another orientation than the best one."""
    best = answers[np.argmax(scores)]
    others = [
        float(score)
        for answer, score in zip(answers, scores, strict=True)
        if np.isfinite(score) and rotations.angle(answer[:, :3], best[:, :3]) > _APART
    ]
    return max(others, default=None)


def _mirror_score(pair: levels.Pair, best: np.ndarray, dof: str) -> float:
    """The score at 24³ of the moving image's mirror image, aligned from the answer.

    Args:
        best: [3, 4], answer at 24³. A brain is nearly its own mirror image, so that its
            mirror image lies near the answer mirrored on both sides.
    """
    fixed, moving = pair.cubes[24]
    mirrored = Level(*(volume[::-1] for volume in moving))
    points = pair.points[24][0], levels.choose_points(mirrored)
    cubes = pair._replace(cubes={24: (fixed, mirrored)}, points={24: points})
    flip = np.array([-1.0, 1, 1])
    return float(rate(fit(cubes, 24, flip[:, None] * best * [*flip, 1], dof=dof)))


def distance(a: np.ndarray, b: np.ndarray, radius: float) -> float:
    """Typical distance, in voxels, of a foreground point under the two matrices."""
    turned = np.linalg.norm(a[:, :3] - b[:, :3]) * radius / np.sqrt(5)
    return float(np.hypot(turned, np.linalg.norm(a[:, 3] - b[:, 3])))


def preload(dof: str) -> None:
    """Load the kept programs of `align`, which can be done while images are read."""
    dof = "similarity" if dof == "rigid" else dof
    for program in (_align_several(dof), _align_one(dof)):
        program.preload()
