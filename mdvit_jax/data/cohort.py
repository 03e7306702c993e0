"""Who is in a cohort, and who trains, validates and tests.

`layouts` finds the scans. Here they get the person whom they show, and the people get
their part. Two scans of one person never end up in different parts: a network that was
trained on one of them has seen the other.
"""

import logging
import re
from collections.abc import Sequence

import ml_collections
import numpy as np

from mdvit_jax import errors
from mdvit_jax.data import layouts, partition
from mdvit_jax.data.scan import Scan

PARTS = ("train", "validation", "test")

_log = logging.getLogger(__name__)


def read(config: ml_collections.ConfigDict) -> list[Scan]:
    """All scans of the cohort, in order of their names, each with its person.

    The person is, in this order: what the first group of `config.data.person` finds in
    the subject's name; the manifest's column; the layout's own rule (the person in
    names of ADNI, OASIS and BIDS); the subject. `config.data.same_person` then joins.

    Raises:
        UserError: the data are missing (`layouts.read`), or a setting is wrong.
    """
    data = config.data
    scans = layouts.read(data)
    if data.person:
        scans = [
            scan._replace(person=_person(data.person, scan.subject)) for scan in scans
        ]
    scans = _join_people(scans, data.same_person)
    without = [scan.subject for scan in scans if scan.labels is None]
    if 0 < len(without) < len(scans):
        _log.warning(
            "%d of %d scans have no labels; the first is %s.",
            len(without),
            len(scans),
            without[0],
        )
    return scans


def split(
    scans: Sequence[Scan], config: ml_collections.ConfigDict
) -> dict[str, list[Scan]]:
    """The scans of each of `PARTS`, in the order of `scans`.

    Where the cohort itself assigns the parts (a manifest's split column), that holds;
    or where `config.data.split` has a regular expression for each part, the people
    whose whole name matches it. Otherwise the people are put in a random order, which
    depends on `config.seed` and their names alone, and every part takes the first of
    them with whom it gets exactly the number of scans that `config.data.split` says.
    Where that leaves another part without its number, the people are shared out
    together; where whole people cannot make up the numbers, each part gets the nearest
    one that it can, and the log says so. If the parts are to use up the cohort, the
    last one takes who is left.

    Raises:
        UserError: the counts are more than the cohort has, the fractions more than 1,
            an expression is wrong, or a person would be in two parts.
    """
    if any(scan.split for scan in scans):
        return _split_by_manifest(scans)
    if any(isinstance(part, str) for part in config.data.split):
        return _split_by_pattern(scans, config.data.split)
    wanted = _counts(config.data.split, len(scans))
    people: dict[str, int] = {}
    for scan in scans:
        people[scan.person] = people.get(scan.person, 0) + 1
    order = np.random.default_rng(config.seed).permutation(sorted(people)).tolist()
    part_of = partition.share_people(order, people, wanted)
    result = {
        name: [scan for scan in scans if part_of.get(scan.person) == number]
        for number, name in enumerate(PARTS)
    }
    for count, (name, members) in zip(wanted, result.items(), strict=True):
        if len(members) != count:
            _log.warning(
                "The %s part gets %d scans instead of %d, as no person is split.",
                name,
                len(members),
                count,
            )
    return result


def _counts(wanted: Sequence[float], scans: int) -> list[int]:
    """Numbers of scans for the three parts, from counts or fractions."""
    words = f"data.split is {tuple(wanted)}"
    if len(wanted) != len(PARTS) or min(wanted) < 0:
        raise errors.UserError(
            f"{words}, but needs three counts or fractions: training, validation, test."
        )
    if all(isinstance(number, int) for number in wanted):
        if sum(wanted) > scans:
            raise errors.UserError(
                f"{words}, {sum(wanted)} scans together, but the cohort has {scans}; "
                "lower the counts, or give fractions such as (0.8, 0.1, 0.1)."
            )
        return [int(number) for number in wanted]
    if sum(wanted) > 1 + 1e-6:
        raise errors.UserError(
            f"{words}, fractions that sum to more than 1; give whole numbers for "
            "counts, or fractions such as (0.8, 0.1, 0.1)."
        )
    ends = np.floor(np.cumsum([0, *wanted]) * scans + 0.5 + 1e-6).astype(int)
    return np.diff(ends).tolist()


def _split_by_manifest(scans: Sequence[Scan]) -> dict[str, list[Scan]]:
    parts: dict[str, str] = {}
    for scan in scans:
        if scan.split and parts.setdefault(scan.person, scan.split) != scan.split:
            raise errors.UserError(
                f"The manifest puts {scan.person} in two parts, {parts[scan.person]} "
                f"and {scan.split} ({scan.subject}); a person belongs to one."
            )
    nowhere = sum(not scan.split for scan in scans)
    if nowhere:
        _log.warning("%d scans have no split in the manifest and stay out.", nowhere)
    return {part: [scan for scan in scans if scan.split == part] for part in PARTS}


def _split_by_pattern(
    scans: Sequence[Scan], patterns: Sequence[str]
) -> dict[str, list[Scan]]:
    if len(patterns) != len(PARTS) or not all(isinstance(p, str) for p in patterns):
        raise errors.UserError(
            f"data.split is {tuple(patterns)}, but needs three counts, fractions or "
            "regular expressions: training, validation, test."
        )
    try:
        expressions = [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise errors.UserError(
            f"data.split is {tuple(patterns)}, of which one is not a regular "
            f"expression ({error})."
        ) from error
    parts: dict[str, list[Scan]] = {part: [] for part in PARTS}
    for scan in scans:
        into = [
            part
            for part, expression in zip(PARTS, expressions, strict=True)
            if expression.fullmatch(scan.person)
        ]
        if len(into) > 1:
            raise errors.UserError(
                f"data.split puts {scan.person} into {' and '.join(into)}; a person "
                "belongs to one part."
            )
        for part in into:
            parts[part].append(scan)
    return parts


def _person(pattern: str, subject: str) -> str:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise errors.UserError(
            f'data.person is "{pattern}", which is not a regular expression ({error}).'
        ) from error
    match = expression.search(subject)
    if not expression.groups or match is None or match.group(1) is None:
        raise errors.UserError(
            f'data.person is "{pattern}", whose first group must name the person, but '
            f'finds none in "{subject}".'
        )
    return match.group(1)


def _join_people(scans: list[Scan], same_person: Sequence[Sequence[str]]) -> list[Scan]:
    person = {scan.subject: scan.person for scan in scans}
    absent = []
    for subjects in same_person:
        if isinstance(subjects, str):
            raise errors.UserError(
                f'data.same_person holds "{subjects}", but needs lists of subjects, '
                'such as (("1003", "1023"),).'
            )
        absent += [subject for subject in subjects if subject not in person]
        joined = {person[subject] for subject in subjects if subject in person}
        for subject, who in person.items():
            if who in joined:
                person[subject] = min(joined)
    if absent:
        _log.warning(
            "data.same_person names %s, which the cohort does not have.",
            ", ".join(absent),
        )
    return [scan._replace(person=person[scan.subject]) for scan in scans]
