"""Two foregrounds → the matrix between them, coarse to fine.

At 24³ voxels the orientation of the headers is tried from several starts. Only where
none of them fits like a known pair, all orientations are searched: 200 starts at 12³
voxels, the best of which go on at 24³. The best one is refined at 48³ and 96³.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from mdvit_jax.registration import gauss_newton, levels, refinement, rotations
from mdvit_jax.registration.normalisation import Level
from mdvit_jax.registration.refinement import ONE_PERSON, finer, fit

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
_APART = 25.0  # degrees between two different answers
_SAME = 0.75  # score above which a mirror image cannot fit better


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
    places: np.ndarray,
    *,
    dof: str = "affine",
    search: bool = True,
    seed: int = 0,
) -> Alignment:
    """Find the matrix that aligns the moving foreground to the fixed one.

    Args:
        pair: the foregrounds on their cubes.
        places: [n, 4, 4] fixed → moving, world RAS+ mm, where to start. Further starts
            are drawn around the first one; the others are tried as they are, and are
            not among those whose agreement is counted.
        dof: "rigid", "similarity" or "affine".
        search: whether orientations far from these may be tried.
        seed: seed of the starts that are drawn.

    A rigid result is searched for with one scale, which is removed at the end:
    otherwise foregrounds of two sizes would be aligned at one border.
    """
    if pair.moving.radius > pair.fixed.radius:
        # One order whichever image is called fixed: both answers are exact inverses.
        result = align(
            pair.swap(), np.linalg.inv(places), dof=dof, search=search, seed=seed
        )
        return result._replace(matrix=np.linalg.inv(result.matrix))
    requested, dof = dof, "similarity" if dof == "rigid" else dof
    begin, *others = (pair.to_voxels(place, 24) for place in places)
    starts = _perturb(begin, seed, pair.voxel * 4)
    if search:
        starts[1] = pair.to_voxels(np.eye(4), 24)  # two scans of one session
    near = fit(pair, 24, starts, dof=dof)
    answers, scores = near.matrix, rate(near)
    for other in others:
        further = fit(pair, 24, other, dof=dof)
        answers = np.concatenate([answers, further.matrix[None]])
        scores = np.append(scores, rate(further))
    best = answers[_first_best(scores)]
    reach = pair.fixed.radius / (4 * pair.voxel)
    agreement = float(np.mean([distance(m, best, reach) < 1 for m in near.matrix]))
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
    best, scale = refinement.refine(pair, finer(best), requested)
    # The other places are guesses, and no answers to be kept: the raw estimate of a
    # network may fit outlines better than what its refinement finds inside.
    unrefined = [places[0], np.eye(4)]
    if requested == "rigid":  # a start may have a scale
        unrefined = [m for m in unrefined if abs(np.linalg.det(m[:3, :3]) - 1) < _SMALL]
    matrix = _best_of(pair, (pair.to_world(best, 96), *unrefined), scale)
    return Alignment(matrix, agreement, searched, score, runner_up, mirror)


def refine_previous(pair: levels.Pair, previous: Alignment, *, dof: str) -> Alignment:
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
        result = refine_previous(pair.swap(), inverse, dof=dof)
        return result._replace(matrix=np.linalg.inv(result.matrix))
    best, _ = refinement.refine(pair, pair.to_voxels(previous.matrix, 48), dof)
    matrix = pair.to_world(best, 96)
    judged = fit(pair, 24, pair.to_voxels(matrix, 24), dof="affine", steps=0)
    return previous._replace(matrix=matrix, score=float(rate(judged)))


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

    def judge(matrix: np.ndarray) -> gauss_newton.Fit:
        judged = pair.to_voxels(matrix, 48) * np.array([scale, scale, scale, 1])
        return fit(pair, 48, judged, dof="affine", steps=0)

    fits = [judge(matrices[0])]
    with ThreadPoolExecutor() as threads:  # by the program that is loaded now
        fits += threads.map(judge, matrices[1:])
    if max(judged.correlation for judged in fits) > ONE_PERSON:
        fits = [judged._replace(outline=np.float32(0)) for judged in fits]
    return matrices[_first_best(np.array([rate(judged) for judged in fits]))]


def rate(fits: gauss_newton.Fit) -> np.ndarray:
    """The score of each fit: higher is better, as many as the fits.

    It is -inf where a matrix mirrors, collapses or separates the two.
    """
    sizes = np.linalg.svd(fits.matrix[..., :3], compute_uv=False)
    sound = (np.linalg.det(fits.matrix[..., :3]) > 0) & (sizes > 0.4).all(-1)
    sound &= (sizes < 2.5).all(-1)
    # Where two objects do not overlap, no outlines can differ.
    sound &= fits.overlap > _MEETING
    # From 1 on an outline is no nearer to the other one than to none at all, as between
    # a brain stripped loosely and one stripped tightly: how far beyond says nothing.
    outline = np.minimum(1, fits.outline)
    score = fits.correlation * np.minimum(1, fits.overlap / 0.5) - outline
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
    """Typical distance, in voxels, of a foreground point under two [3, 4] matrices."""
    turned = np.linalg.norm(a[:, :3] - b[:, :3]) * radius / np.sqrt(5)
    return float(np.hypot(turned, np.linalg.norm(a[:, 3] - b[:, 3])))
