"""Which cases a comparison has: groups of named cases that are made when needed."""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from benchmarks.registration import cases, contrasts, damages, heads, scans

GROUPS = {
    "known-affine": "brains moved by an affine that is known, in five contrasts; mm",
    "damage": "the same, the moving brain with nine damages; mm",
    "copy": "brains and changed copies of theirs on the same grid; mm",
    "orientation": "the same, rotated at random; mm",
    "regions": "pairs of people, three contrasts; mean Dice of 12 regions",
    "template": "brains to MNI152; Dice of the brain masks",
    "heads": "whole heads, synthetic and real, to MNI152 and to heads; Dice and mm",
    "speed": "three pairs at 2 mm after a first run; seconds, and Dice as in regions",
    "command": "one pair at 1 mm, files to file, in a process of its own; seconds",
}
KEY = "group", "case", "contrast", "voxels"  # of a task, in the results
# mm, whatever --spacing is
_SPACING = {"speed": 2.0, "command": None, "heads": None}


class Cohort(NamedTuple):
    """Whose scans the cases are made of.

    Attributes:
        people: of ds002748.
        oasis: scans of oasis1_malf, which go to the template and to each other.
        draws: of synthetic heads.
        sessions: fixed and moving scan of whole heads.
    """

    people: Sequence[int]
    oasis: Sequence[str]
    draws: Sequence[int]
    sessions: Sequence[tuple[str, str]]


SEEN = Cohort(scans.PEOPLE, scans.OASIS, heads.DRAWS, heads.SESSIONS)
HELD_OUT = Cohort(
    scans.HELD_OUT_PEOPLE,
    scans.HELD_OUT_OASIS,
    heads.HELD_OUT_DRAWS,
    heads.HELD_OUT_SESSIONS,
)


class Task(NamedTuple):
    """One case of a group.

    Attributes:
        group: a key of `GROUPS`.
        name: of the scan or the pair.
        contrast: of the moving image.
        voxels: "2 mm" where the images are resampled, else "own".
        make: makes the case, which takes seconds.
    """

    group: str
    name: str
    contrast: str
    voxels: str
    make: Callable[[], cases.Case | heads.TwoRuns]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Which case it is."""
        return self.group, self.name, self.contrast, self.voxels


def tasks(
    groups: Collection[str],
    *,
    people: int,
    pairs: int,
    spacing: float | None = None,
    cohort: Cohort = SEEN,
) -> list[Task]:
    """The tasks of some groups, in the order in which their scans are read best.

    Args:
        groups: keys of `GROUPS`.
        people: how many people of ds002748 are moved (at most 12 of them in any
            orientation), how many scans go to the template, and how many synthetic
            heads and real ones there are; at most as many as the cohort has.
        pairs: how many pairs of oasis1_malf, at most all.
        spacing: the images of all cases but heads, speed and command are resampled to
            cubic voxels of this size in mm; None: they are not resampled.
        cohort: whose scans.
    """
    result = []

    def add(
        group: str, name: str, contrast: str, make: Callable, *args, then=None
    ) -> None:
        if group in groups:
            case, voxels = functools.partial(make, *args), "own"
            size = _SPACING.get(group, spacing)
            if size is not None:
                case, voxels = (
                    functools.partial(cases.at_spacing, size, case),
                    f"{size:g} mm",
                )
            if then:
                case = functools.partial(then, case)
            result.append(Task(group, name, contrast, voxels, case))

    for number, person in enumerate(cohort.people[:people]):
        name = f"sub-{person:02}"
        for contrast in contrasts.CONTRASTS:
            make = functools.partial(cases.known_affine, person, contrast)
            add("known-affine", name, contrast, make)
        for damage in damages.SCAN_DAMAGES:
            make = functools.partial(cases.damaged_scan, person, damage)
            add("damage", name, damage, make)
        undamaged = functools.partial(cases.known_affine, person, "gamma 1")
        for damage in damages.IMAGE_DAMAGES:
            then = functools.partial(cases.damaged_image, damage=damage, seed=person)
            add("damage", name, damage, undamaged, then=then)
        for damage in damages.COPY_CHANGES:
            then = functools.partial(cases.own_copy, damage=damage, seed=person)
            add("copy", name, damage, undamaged, then=then)
        if number < 12:
            add("orientation", name, "gamma 1", cases.any_orientation, person)
    for number, pair in enumerate(scans.oasis_pairs(cohort.oasis)[:pairs]):
        name = "-".join(pair)
        for contrast in contrasts.GAMMAS:
            add("regions", name, contrast, cases.labelled_pair, *pair, contrast)
        if number < 3:
            add("speed", name, "gamma 1", cases.labelled_pair, *pair, "gamma 1")
        if number < 1:
            add("command", name, "gamma 1", cases.labelled_pair, *pair, "gamma 1")
    for number in cohort.draws[:people]:
        name = f"draw {number}"
        for contrast, stripped in (("to MNI152", False), ("stripped", True)):
            add("heads", name, contrast, heads.to_template, number, stripped)
        add("heads", name, "to a head", heads.to_a_head, number)
        add("heads", name, "both ways", heads.both_ways, number)
        add("heads", name, "turned", heads.turned, number)
    for fixed, moving in cohort.sessions[:people]:
        name = f"{fixed}, {moving}"
        add("heads", name, "two starts", heads.two_starts, fixed, moving)
    for scan in cohort.oasis[:people]:
        add("template", scan, "gamma 1", cases.to_template, scan)
    return result
