"""Which scans make a pair: a pure function of seed and step, fair to all scans."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mdvit_jax import errors
from mdvit_jax.data import pairs

# Nine scans of five people; "b" was scanned three times.
PERSONS = ("a", "b", "c", "b", "d", "c", "b", "e", "e")
steps = st.integers(0, 2**40)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), step=steps, batch=st.integers(1, 9))
def test_pairs_follow_from_seed_and_step(seed, step, batch):
    drawn = pairs.draw(seed, step, batch, PERSONS, "reference")
    assert drawn.shape == (batch, 2) and drawn.dtype == np.int32
    assert np.array_equal(drawn, pairs.draw(seed, step, batch, PERSONS, "reference"))
    assert drawn.min() >= 0 and drawn.max() < len(PERSONS)
    assert all(PERSONS[fixed] != PERSONS[moving] for fixed, moving in drawn)
    # A row is the same in a smaller batch, and for the template.
    for rows in range(1, batch):
        fewer = pairs.draw(seed, step, rows, PERSONS, "reference")
        assert np.array_equal(fewer, drawn[:rows])
    template = pairs.draw(seed, step, batch, PERSONS, "template")
    assert (template[:, 0] == pairs.TEMPLATE).all()
    assert np.array_equal(template[:, 1], drawn[:, 1])


def test_old_runs_keep_their_pairs():
    """A run of an earlier version goes on with the same pairs."""
    drawn = [pairs.draw(7, s, 4, PERSONS, "reference").tolist() for s in (0, 2**40)]
    assert drawn[0] == [[8, 2], [4, 3], [0, 6], [3, 5]]
    assert drawn[1] == [[3, 5], [8, 3], [0, 5], [0, 8]]


@settings(max_examples=50, deadline=None)
@given(step=steps, row=st.integers(0, 4095), attempt=st.integers(1, 99))
def test_a_pair_drawn_again_follows_from_its_place(step, row, attempt):
    place = (7, step, row, attempt, PERSONS)
    fixed, moving = pair = pairs.draw_again(*place, "reference")
    assert pair.shape == (2,) and pair.dtype == np.int32
    assert np.array_equal(pair, pairs.draw_again(*place, "reference"))
    assert PERSONS[fixed] != PERSONS[moving]
    assert pairs.draw_again(*place, "template").tolist() == [pairs.TEMPLATE, moving]


def test_pairs_drawn_again_are_fair_and_independent():
    """Over attempts, rows and steps, and independent of earlier draws in the row."""
    first = [pairs.draw(3, step, 1, PERSONS, "template")[0, 1] for step in range(1500)]
    for rows, steps_, attempts in ((1, 1500, 1), (1500, 1, 1), (1, 1, 1500)):
        result = [
            pairs.draw_again(3, step, row, attempt, PERSONS, "template")[1]
            for row in range(rows)
            for step in range(steps_)
            for attempt in range(1, attempts + 1)
        ]
        assert stats.chisquare(np.bincount(result, minlength=9)).pvalue > 1e-4
        both = np.bincount([9 * a + b for a, b in zip(first, result, strict=True)])
        assert stats.chisquare(np.pad(both, (0, 81 - len(both)))).pvalue > 1e-4


def test_seeds_and_steps_differ():
    drawn = [
        pairs.draw(seed, step, 8, PERSONS, "reference").tobytes()
        for seed in range(10)
        for step in range(10)
    ]
    assert len(set(drawn)) == 100


def test_every_scan_is_drawn_equally_often():
    drawn = pairs.draw(1, 2, 90_000, PERSONS, "reference")
    moving = np.bincount(drawn[:, 1], minlength=9)
    assert stats.chisquare(moving).pvalue > 1e-4
    # Given the moving scan, the fixed one is uniform over the scans of other people.
    for scan, person in enumerate(PERSONS):
        fixed = np.bincount(drawn[drawn[:, 1] == scan, 0], minlength=9)
        others = [i for i, other in enumerate(PERSONS) if other != person]
        assert fixed[others].sum() == fixed.sum()
        assert stats.chisquare(fixed[others]).pvalue > 1e-4


def test_steps_are_independent():
    """First rows of many steps are as evenly spread as the rows of one."""
    first = [pairs.draw(3, step, 1, PERSONS, "template")[0, 1] for step in range(4500)]
    assert stats.chisquare(np.bincount(first, minlength=9)).pvalue > 1e-4
    both = np.bincount([9 * a + b for a, b in itertools.pairwise(first)])
    assert stats.chisquare(np.pad(both, (0, 81 - len(both)))).pvalue > 1e-4


@pytest.mark.parametrize("seed", range(20))
def test_cases_have_each_scan_moving_once(seed):
    drawn = pairs.cases(PERSONS, "reference", seed)
    assert drawn.dtype == np.int32 and drawn[:, 1].tolist() == list(range(9))
    # A circle of people: each is fixed for one other person, and it closes.
    following = {PERSONS[m]: PERSONS[f] for f, m in drawn}
    person, circle = "a", []
    for _ in range(5):
        circle.append(person)
        person = following[person]
    assert person == "a" and sorted(circle) == sorted(set(PERSONS))
    for fixed, moving in drawn:
        assert PERSONS[fixed] == following[PERSONS[moving]]
    # Where a person has several scans, they take turns.
    assert np.bincount(drawn[:, 0], minlength=9).max() <= 3
    assert np.array_equal(drawn, pairs.cases(PERSONS, "reference", seed))


def test_cases_of_the_template_and_of_two_people():
    template = pairs.cases(PERSONS, "template", 0)
    assert template.tolist() == [[pairs.TEMPLATE, i] for i in range(9)]
    two = pairs.cases(("a", "b"), "reference", 0)
    assert two.tolist() == [[1, 0], [0, 1]]
    assert len({pairs.cases(PERSONS, "reference", s).tobytes() for s in range(9)}) > 1


def test_a_cohort_that_is_too_small_is_refused():
    for ask in (
        lambda persons, task: pairs.draw(0, 0, 1, persons, task),
        lambda persons, task: pairs.draw_again(0, 0, 0, 1, persons, task),
        lambda persons, task: pairs.cases(persons, task, 0),
    ):
        with pytest.raises(errors.UserError, match="two people at least.* has 1"):
            ask(("a", "a"), "reference")
        with pytest.raises(errors.UserError, match="holds no scans"):
            ask((), "template")
        with pytest.raises(errors.UserError, match='data.task is "pairs"'):
            ask(PERSONS, "pairs")
