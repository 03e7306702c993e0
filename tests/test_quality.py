"""The verdict on a result, from its measures alone."""

import numpy as np
import pytest

from mdvit_jax.registration import quality, search, similarity_metrics


def judged(
    correlation=0.3,
    overlap=0.9,
    score=0.3,
    *,
    dof="affine",
    scale=1.0,
    runner_up=None,
    estimated=False,
):
    seen = search.Alignment(np.eye(4), 1.0, False, score, runner_up, None)
    after = similarity_metrics.Measures(0.3, correlation, overlap)
    matrix = np.diag([scale, 1, 1, 1])
    return quality.assess(matrix, after, seen, dof=dof, estimated=estimated)


@pytest.mark.parametrize("dof", ["rigid", "similarity", "affine"])
def test_the_verdicts(dof):
    assert judged(dof=dof) == ("ok", ())
    for bad in ({"correlation": 0.13}, {"overlap": 0.6}):
        result = judged(**bad, dof=dof)
        assert result.status == "failed" and len(result.reasons) == 1
        assert judged(**dict.fromkeys(bad, np.nan), dof=dof).status == "failed"


def test_a_weak_coarse_fit_is_a_failure_only_where_the_images_are_unlike():
    for score in (-0.5, np.nan):
        assert judged(score=score).status == "check"
        assert judged(correlation=0.2, score=score).status == "failed"


def test_one_person_is_known_by_the_correlation_alone():
    """As a slab, a defaced head, or a brain and its head are."""
    assert judged(0.41, 0.4, -0.5).status == "ok"
    assert judged(0.39, 0.4, -0.5).status == "failed"
    # The outlines of brains that a network found are inexact.
    assert judged(0.33, 0.7, -0.1, estimated=True).status == "ok"
    assert judged(0.31, 0.9, -0.1, estimated=True).status == "check"
    # Another orientation must come near what the fine levels bring out.
    assert judged(0.6, 0.4, -0.5, runner_up=-0.52).status == "ok"
    assert judged(0.6, runner_up=0.28).status == "ok"
    assert judged(0.6, score=0.5, runner_up=0.55).status == "check"
    assert judged(0.35, runner_up=0.28).status == "check"
    assert judged(0.6, 0.1, -0.5).status == "failed"  # by chance, where they meet
    assert judged(0.6, scale=1.6).status == "check"
    assert judged(0.6, scale=2.5).status == "failed"


def test_a_rigid_answer_need_not_cover_a_head_of_another_size():
    """A person need not cover MNI152 rigidly, but must under an affine."""
    seen = {"correlation": 0.222, "overlap": 0.81, "score": 0.0}
    assert judged(**seen, dof="rigid").status == "ok"
    assert judged(**seen, dof="affine").status == "check"
    low = judged(0.3, 0.72, dof="rigid")
    assert low.status == "check" and "rigid answer keeps the sizes" in low.reasons[0]


def test_an_unusual_scale_is_described():
    result = judged(scale=1.6)
    assert result.status == "check"
    assert (
        "the moving object is 1.00 to 1.60 times as large as the" in result.reasons[0]
    )


@pytest.mark.parametrize("searched", [True, False])
def test_an_orientation_far_from_the_header_is_no_ok(searched):
    """Also where nothing but the start is measured, as of --no-refine."""
    seen = search.Alignment(np.eye(4), 1.0, True, 0.5, None, None) if searched else None
    after = similarity_metrics.Measures(0.3, 0.6, 0.9)
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    result = quality.assess(matrix, after, seen, dof="affine", estimated=False)
    assert result.status == "check"
    assert "is 180° from the header's" in result.reasons[0]
