"""The verdict on a result, "ok", "check" or "failed", from its measures.

The limits were chosen on real pairs: people of two cohorts aligned to each other and to
MNI152, and failures made on purpose. benchmarks/registration/verdicts.py shows the
verdicts on such pairs, also at gamma 0.5 and 2 and inverted. `score` is the local
correlation minus the mismatch of the outlines at 24³ voxels: known good pairs are above
0.10, and so is one of the failures, a label map. A mirrored brain cannot be recognised.
A header with one axis reversed leads to a result that exchanges left and right, so a
result far from the header's orientation is at best "check".

Where two images show one person, the local correlation alone shows it, whatever their
fields of view, contrasts and skull stripping: of the synthetic pairs of
benchmarks/registration/campaign.py right results have up to 0.83 and wrong ones up to
0.30. From 0.4 on, and from 0.32 where an outline is a network's estimate, the outlines
and the coarse fit no longer count, which a slab or a defaced head cannot satisfy.

A rigid or similarity result cannot match heads of different sizes or shapes, so it has
limits of its own, chosen on the same pairs aligned that way. They recognise halves
(overlap up to 0.70) and a different interior (correlation up to 0.14), but not a rigid
label map (0.22); some pairs of very different sizes (0.19) are "check".
"""

from typing import NamedTuple

import numpy as np

from mdvit_jax.registration import rotations
from mdvit_jax.registration.search import Alignment
from mdvit_jax.registration.similarity_metrics import Measures

OK, CHECK, FAILED = "ok", "check", "failed"
_SCORE = {"affine": (-0.2, 0.1)}  # below: failed, check
_SCORE |= {"rigid": (-0.25, -0.1), "similarity": (-0.25, -0.1)}
_CORRELATION = {"affine": (0.18, 0.24)}
_CORRELATION |= {"rigid": (0.18, 0.2), "similarity": (0.18, 0.23)}
_OVERLAP = {"affine": (0.7, 0.86), "rigid": (0.7, 0.74), "similarity": (0.7, 0.86)}
# Local correlations from which two images show one person, the second where an outline
# is a network's estimate; and the overlap that they need besides.
_CONVINCING, _ENOUGH, _MEETING = 0.4, 0.32, 0.2
_SCALES = (0.5, 2.0), (0.7, 1.45)  # of people among each other and to templates
_TURNED = 60.0  # degrees; nobody turns the head so far in a scanner
_RUNNER_UP = 0.1  # scores of two orientations that differ by less are ambiguous
# Between two people a mirror image fits better by up to 0.08 or worse; of one person by
# 0.3, if a header exchanges left and right.
_MIRROR = 0.1


class Quality(NamedTuple):
    """The verdict on a result.

    Attributes:
        status: "ok", "check" or "failed".
        reasons: a sentence for each measure outside its limits; empty when ok.
    """

    status: str
    reasons: tuple[str, ...]


def assess(
    matrix: np.ndarray,
    after: Measures,
    alignment: Alignment | None,
    *,
    dof: str,
    estimated: bool = False,
) -> Quality:
    """Judge a result by its measures.

    Args:
        matrix: 4×4 fixed → moving, world RAS+ mm.
        after: measures under the matrix.
        alignment: result of the search; None without refinement.
        dof: "rigid", "similarity" or "affine".
        estimated: whether an outline is a network's estimate.
    """
    fits, likeness, cover = _SCORE[dof], _CORRELATION[dof], _OVERLAP[dof]
    kept = "; a rigid answer keeps the sizes, which may be all" * (dof == "rigid")
    enough = _ENOUGH if estimated else _CONVINCING
    convincing = after.correlation >= enough and after.overlap >= _MEETING
    sizes = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    low, high = float(sizes.min()), float(sizes.max())
    angle = rotations.angle(matrix[:3, :3], np.eye(3))
    findings = [
        (
            _below(after.correlation, likeness),
            f"the images are alike at few places (local correlation "
            f"{after.correlation:.2f}; known pairs {likeness[1]:.2f} and more){kept}",
        ),
        (
            OK if convincing else _below(after.overlap, cover),
            "the two objects do not cover each other (soft overlap "
            f"{after.overlap:.2f}; known pairs {cover[1]:.2f} and more), as when one "
            f"is cropped{kept}",
        ),
        (
            FAILED if not _SCALES[0][0] < low <= high < _SCALES[0][1]
            else CHECK if not _SCALES[1][0] < low <= high < _SCALES[1][1]
            else OK,
            f"the moving object is {low:.2f} to {high:.2f} times as large as the fixed "
            "one, depending on the direction, which is unusual between heads",
        ),
    ]  # fmt: skip
    if alignment:
        fit = OK if convincing else _below(alignment.score, fits)
        if fit == FAILED and after.correlation >= likeness[1]:
            fit = CHECK
        findings += [
            (
                fit,
                f"the coarse fit is weak ({alignment.score:.2f}; known pairs "
                f"{fits[1]:.2f} and more)",
            ),
            (
                CHECK if _ambiguous(alignment, after.correlation) else OK,
                "another orientation fits as well, so this one may be wrong",
            ),
            (
                CHECK if _mirrored(alignment) else OK,
                "the mirror image of the moving image fits better, so left and right "
                "may be exchanged in a header: look at a mark of one side",
            ),
        ]
    # Where another orientation fits as well, that is what to read first.
    findings.append(
        (
            CHECK if angle > _TURNED else OK,
            f"the orientation is {angle:.0f}° from the header's; if that is because "
            "the header is wrong, left and right may be exchanged, which cannot be "
            "seen in a brain: look at a mark of one side",
        )
    )
    status = max((w for w, _ in findings), key=(OK, CHECK, FAILED).index)
    return Quality(status, tuple(sentence for w, sentence in findings if w != OK))


def _below(value: float, limits: tuple[float, float]) -> str:
    failed, check = limits
    # Written so that a NaN fails.
    return OK if value >= check else CHECK if value >= failed else FAILED


def _ambiguous(alignment: Alignment, correlation: float) -> bool:
    """Whether the runner-up is near both the best score and the final correlation.

    Thick slices and slabs lower all coarse scores; what the fine levels then bring out
    no other orientation has.
    """
    best = max(alignment.score, correlation)
    runner_up = alignment.runner_up_score
    return runner_up is not None and runner_up > best - _RUNNER_UP


def _mirrored(alignment: Alignment) -> bool:
    return (
        alignment.mirror_score is not None
        and alignment.mirror_score > alignment.score + _MIRROR
    )
