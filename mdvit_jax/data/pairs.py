"""Which two scans make a pair: a pure function of the seed and the training step.

A pair is (fixed, moving), indices into the cohort's scans; `TEMPLATE` as the fixed
index stands for the template. The two scans of a reference pair are of different
people: two scans of one person would teach the network nothing about shape.
"""

from collections.abc import Sequence

import numpy as np

from mdvit_jax import errors

TEMPLATE = -1


def draw(
    seed: int, step: int, batch: int, persons: Sequence[str], task: str
) -> np.ndarray:
    """The pairs of one training step, [batch, 2] int32 (fixed, moving).

    The moving scan is uniform over all scans. For `task` "reference" the fixed scan
    is uniform over the scans of all other people; for "template" it is `TEMPLATE`.
    The generator is keyed on (seed, step) and runs over the rows, so that row r is
    the same whatever was drawn before, and whatever the batch size.

    Args:
        seed: non-negative.
        step: global training step, non-negative.
        batch: number of pairs, over all processes.
        persons: the person each scan shows, in the cohort's order.
        task: "reference" or "template".

    Raises:
        UserError: there is no pair to draw.
    """
    return _draw(seed, step, (0, 0), batch, persons, task)


def draw_again(
    seed: int, step: int, row: int, attempt: int, persons: Sequence[str], task: str
) -> np.ndarray:
    """Another pair in place of one row of a training step, [2] int32 (fixed, moving).

    It is drawn as the rows of `draw` are, and depends on nothing but the arguments:
    whatever the other rows do, and whoever draws it.

    Args:
        seed, step, persons, task: as in `draw`.
        row: of the batch over all processes.
        attempt: 1, 2, …: each is a draw of its own.

    Raises:
        UserError: there is no pair to draw.
    """
    return _draw(seed, step, (row, attempt), 1, persons, task)[0]


def _draw(
    seed: int,
    step: int,
    stream: tuple[int, int],
    count: int,
    persons: Sequence[str],
    task: str,
) -> np.ndarray:
    check(persons, task)
    key = np.array([seed, step], np.uint64)
    # The high words of the counter, which no drawing reaches, separate the streams.
    counter = np.array([0, 0, *stream], np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    uniform = generator.random((count, 2))
    people = np.asarray(persons)
    pairs = np.full((count, 2), TEMPLATE, np.int32)
    pairs[:, 1] = uniform[:, 1] * len(people)
    if task == "reference":
        for pair, draw_of_fixed in zip(pairs, uniform[:, 0], strict=True):
            others = np.flatnonzero(people != people[pair[1]])
            pair[0] = others[int(draw_of_fixed * len(others))]
    return pairs


def cases(persons: Sequence[str], task: str, seed: int) -> np.ndarray:
    """The fixed list of pairs for validation or test, [scans, 2] int32.

    Row i has scan i as moving, so that every scan is moving exactly once. For
    "reference" the people are put in a seeded circle and each one is registered to
    the next, whose scans take turns; for "template" the fixed index is `TEMPLATE`.

    Args:
        persons, task, seed: as in `draw`.

    Raises:
        UserError: as in `draw`.
    """
    check(persons, task)
    pairs = np.full((len(persons), 2), TEMPLATE, np.int32)
    pairs[:, 1] = np.arange(len(persons))
    if task == "reference":
        people = np.asarray(persons)
        circle = np.random.default_rng(seed).permutation(np.unique(people))
        for person, following in zip(circle, np.roll(circle, -1), strict=True):
            moving = np.flatnonzero(people == person)
            pairs[moving, 0] = np.resize(
                np.flatnonzero(people == following), len(moving)
            )
    return pairs


def check(persons: Sequence[str], task: str) -> None:
    """Raise a UserError if `task` is unknown or the cohort is too small for it."""
    if task not in ("reference", "template"):
        raise errors.UserError(
            f'data.task is "{task}", which is not a task; choose "reference" or '
            '"template".'
        )
    people = len(set(persons))
    if people == 0:
        raise errors.UserError(
            "This part of the cohort holds no scans; add scans, change data.split, or "
            "name another part with evaluation.split."
        )
    if task == "reference" and people < 2:
        raise errors.UserError(
            f"data.task reference needs scans of two people at least, but this part of "
            f"the cohort has {people}; add scans, change data.split, or set "
            "data.task to template."
        )
