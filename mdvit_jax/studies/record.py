"""The result of one method on one pair of scans, and a table of many such records."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd


@dataclasses.dataclass(frozen=True)
class Record:
    """The result of one method on one pair of scans.

    Attributes:
        method: name of the method, such as "Initial (CoM)".
        fixed: subject.
        moving: subject.
        perturbation: of the moving scan before it was aligned; empty for none.
        dsc: Dice of the brain masks.
        hd95: 95th percentile of the surface distance, in `evaluation.hausdorff_unit`.
        jaccard: of the brain masks.
        seconds: time of the method for this pair, without compilation.
        regions: name → Dice; NaN where neither scan has the region.
        ntg, ncc: dissimilarities of the fixed and the warped image on their grid.
        matrix: 16 numbers of `fixed_to_moving`, normalised coordinates, row by row; to
            the moving scan before it was moved.
        error: why there are no numbers; empty where there are.
    """

    method: str
    fixed: str
    moving: str
    perturbation: str
    dsc: float = math.nan
    hd95: float = math.nan
    jaccard: float = math.nan
    seconds: float = math.nan
    regions: Mapping[str, float] = dataclasses.field(default_factory=dict)
    ntg: float = math.nan
    ncc: float = math.nan
    matrix: tuple[float, ...] = ()
    error: str = ""


def tabulate(records: Sequence[Record]) -> pd.DataFrame:
    """A row for each record.

    The columns are the attributes, but `dice_NAME` for each region, and `matrix` is 16
    numbers with spaces between them.
    """
    rows = []
    for record in records:
        row = dataclasses.asdict(record)
        matrix = " ".join(f"{number:.9g}" for number in row.pop("matrix"))
        dice = {dice_column(name): v for name, v in row.pop("regions").items()}
        rows.append({**row, **dice, "matrix": matrix})
    return pd.DataFrame(rows)


def dice_column(region: str) -> str:
    """The column of a table of records that holds the Dice of a region."""
    return f"dice_{region.replace(' ', '_')}"


def parse_matrix(text: str) -> np.ndarray:
    """4×4 of the column `matrix`."""
    return np.array(text.split(), np.float64).reshape(4, 4)


def count_pairs(records: pd.DataFrame) -> str:
    """The number of different pairs, in words."""
    count = len(records[["fixed", "moving"]].drop_duplicates())
    return "1 pair" if count == 1 else f"{count} pairs"
