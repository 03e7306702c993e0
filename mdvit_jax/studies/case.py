"""What one method made of one pair of scans, and such cases in groups."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """What one method made of one pair of scans.

    Attributes:
        method: the row of the table, such as "Initial (CoM)".
        fixed: subject.
        moving: subject.
        change: what was done to the moving scan before; empty for nothing.
        dsc: Dice of the brain masks.
        hd95: 95th percentile of the surface distance, in the report's unit.
        jaccard: of the brain masks.
        seconds: time for this pair; NaN where it was not taken.
        regions: region → Dice; NaN where neither scan has it.
        ntg, ncc: dissimilarities of the fixed and the warped image on their grid.
        mm: mean distance over the brain from where a point belongs, where the affine is
            known.
        matrix: the 16 numbers of `fixed_to_moving`, normalised coordinates, row by row;
            to the moving scan as it was before a turn.
        error: why there are no numbers; empty where there are.
    """

    method: str
    fixed: str
    moving: str
    change: str
    dsc: float
    hd95: float
    jaccard: float
    seconds: float = math.nan
    regions: Mapping[str, float] = dataclasses.field(default_factory=dict)
    ntg: float = math.nan
    ncc: float = math.nan
    mm: float = math.nan
    matrix: tuple[float, ...] = ()
    error: str = ""


def by(found: Sequence[Case], *names: str) -> Iterator[tuple[tuple, list[Case]]]:
    """Cases in groups of equal values of some attributes, in order of their first."""
    groups: dict[tuple, list[Case]] = {}
    for case in found:
        groups.setdefault(tuple(getattr(case, n) for n in names), []).append(case)
    yield from groups.items()


def matrix_of(case: Case) -> np.ndarray:
    """4×4 normalised `fixed_to_moving` of a case."""
    return np.array(case.matrix, np.float32).reshape(4, 4)


def count_pairs(found: Sequence[Case]) -> str:
    """How many pairs there are, in words."""
    pairs = {(case.fixed, case.moving) for case in found}
    return "1 pair" if len(pairs) == 1 else f"{len(pairs)} pairs"
