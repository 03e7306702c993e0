"""The ratings that a person gave on the page of a batch, read into its table.

Columns: name and rating (pass, fail or empty); optionally comment, rater, rated (when)
and inputs, the fingerprint of the result that was looked at.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mdvit_jax import errors
from mdvit_jax.cli.batch import results_csv
from mdvit_jax.io import csv_table

WORDS = ("pass", "fail", "")
_COLUMNS = ("name", *results_csv.RATING, "inputs")


class Rated(NamedTuple):
    """Results with ratings.

    Attributes:
        results: all of the table, by name.
        counts: how many were read: rating → number, "" for comments alone.
        outdated: pairs whose rating is of an older result, and was left out.
    """

    results: dict[str, results_csv.Result]
    counts: dict[str, int]
    outdated: list[str]


def add_ratings(path: Path, results: Mapping[str, results_csv.Result]) -> Rated:
    """The results with the ratings of a file, which replace those that they had.

    Raises:
        UserError: the file is wrong, or rates a pair that is not among the results.
    """
    rated, outdated = dict(results), []
    counts = dict.fromkeys(WORDS, 0)
    rows = csv_table.rows(path, _COLUMNS, needed=("name", "rating"))
    for number, cells in rows:
        name, rating = cells["name"], cells["rating"].lower()
        if rating not in WORDS:
            raise errors.UserError(
                f'{path} has the rating "{rating}" in row {number}; write pass or '
                "fail, or leave it empty."
            )
        if name not in results:
            raise errors.UserError(
                f'{path} rates a pair "{name}" in row {number}, which results.csv of '
                "the folder does not have; name its own --output."
            )
        if cells["inputs"] not in ("", results[name]["inputs"]):
            outdated.append(name)
            continue
        counts[rating] += 1
        rated[name] = {
            **results[name],
            **{column: cells[column] for column in results_csv.RATING},
            "rating": rating,
        }
    return Rated(rated, counts, outdated)


def summarise(rated: Rated) -> str:
    """Lines that say what was read."""
    passed, failed, alone = (rated.counts[word] for word in WORDS)
    comments = "1 comment" if alone == 1 else f"{alone} comments"
    lines = [f"{passed} pass, {failed} fail, {comments} alone."]
    if rated.outdated:
        lines.append(
            "Left out, as these pairs were registered anew since they were looked at: "
            f"{errors.list_briefly(rated.outdated)}."
        )
    return "\n".join(lines)
