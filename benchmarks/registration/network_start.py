"""What the network of this package is worth as one more start of `register`.

    MDVIT_DATA=… python -m benchmarks.registration.network_start --pairs 2000

Synthetic pairs of all kinds, as the campaign draws them, and the whole heads of the
shared data. Each is registered without the network. Then the network is asked about the
same two brains; where the place it says, brought to its optimum at 24³ voxels, is
another one than the answer and fits no worse, the pair is registered again with it. In
all other pairs it changes nothing (but the share of starts that agree, by one of
twelve). Two processes may share the pairs: each with an --output of its own, and
afterwards one over all, with --also naming the others.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tqdm

from benchmarks.registration import campaign, campaign_table, heads, scans
from mdvit_jax import errors, register
from mdvit_jax.data.random_scans import Pair
from mdvit_jax.io import image as images
from mdvit_jax.registration import network_start, refinement, search
from mdvit_jax.registration.registration_result import Registration
from mdvit_jax.studies.report.section import Table
from mdvit_jax.studies.results import ResultsFile

_WORSE = 0.01  # of the score at 24³: what fits less well than this is not taken
_CHANGED = 0.5  # mm: errors that differ by more
_RADIUS = 70.0  # mm of a ball in a head whose brain is not known


def ask_network(result: Registration) -> dict[str, Any]:
    """Where the network lays two brains that have been registered without it.

    Columns: asked_seconds; place_score: of its place at its optimum at 24³ voxels;
    place_away: how far that is from the answer, in voxels of 24³; may_change.
    """
    pair, answer = result.pair, result.alignment
    assert answer is not None  # it was refined
    start = time.perf_counter()
    place = network_start.estimate(pair.fixed, pair.moving)
    asked = time.perf_counter() - start
    fit = refinement.fit(pair, 24, pair.to_voxels(place, 24), dof="affine")
    away = search.distance(
        fit.matrix,
        pair.to_voxels(answer.matrix, 24),
        pair.fixed.radius / (4 * pair.voxel),
    )
    score = float(search.rate(fit))
    return {
        "asked_seconds": round(asked, 3),
        "place_score": score,
        "place_away": away,
        "may_change": bool(away > 1 and score > answer.score - _WORSE),
    }


def compare(pair: Pair) -> dict[str, Any]:
    """The row of a pair: as the campaign's, `ask_network`, and error_with."""
    row, result = campaign.register_pair(pair)
    row["error_with"], row["status_with"] = row["error"], row["status"]
    if result is not None:
        row |= ask_network(result)
        if row["may_change"]:
            other, _ = campaign.register_pair(pair, start="network")
            row["error_with"], row["status_with"] = other["error"], other["status"]
    return row


def real_pairs() -> Iterator[tuple[str, Any, Any]]:
    """(name, fixed, moving): whole heads to MNI152, and two of one session."""
    sessions = (*heads.SESSIONS, *heads.HELD_OUT_SESSIONS)
    for name in dict.fromkeys(itertools.chain(*sessions)):
        yield f"{name} to MNI152", "mni152", load(name)
    for fixed, moving in sessions:
        yield f"{moving} to {fixed}", load(fixed), load(moving)


def load(name: str) -> images.Image:
    """The scan of a name DATA SET/FILE."""
    data_set, file = name.split("/")
    return images.load(scans.folder(data_set) / f"{file}.nii.gz")


def compare_real(name: str, fixed: Any, moving: Any) -> dict[str, Any]:
    """Columns: name, without, with: the verdicts; apart: mm between the answers."""
    results = [register(fixed, moving, start=start) for start in ("com", "network")]
    points = np.mgrid[-1:1:9j, -1:1:9j, -1:1:9j].reshape(3, -1).T
    points = points[np.linalg.norm(points, axis=1) <= 1]
    seen = results[0].pair.fixed
    one, other = (result.matrix for result in results)
    apart = campaign.distances(one, other, _RADIUS * points + seen.centre)
    statuses = [result.quality.status for result in results]
    return {
        "name": name,
        "without": statuses[0],
        "with": statuses[1],
        "apart": float(apart.mean()),
    }


def summarise(rows: pd.DataFrame) -> str:
    """How often each is right and wrong, and which answers the network changed."""
    lines = []
    for name, error, status in (
        ("without", "error", "status"),
        ("with", "error_with", "status_with"),
    ):
        judged = rows.assign(error=rows[error])
        right, wrong = campaign_table.is_right(judged), campaign_table.is_wrong(judged)
        ok = rows[status] == "ok"
        for people, of in rows.groupby("people"):
            lines.append(
                (
                    name,
                    str(people),
                    str(len(of)),
                    f"{of[error].median():.2f}",
                    *(
                        str(int(which[of.index].sum()))
                        for which in (right, wrong, wrong & ok, right & ~ok)
                    ),
                )
            )
    names = ("network", "people", "pairs", "median mm", "right", "wrong",
             "wrong and ok", "right and not ok")  # fmt: skip
    change = rows.error_with - rows.error
    text = (
        f"The network took {rows.asked_seconds.median():.2f} s of "
        f"{rows.seconds.median():.1f} in the median; all orientations were searched in "
        f"{int(rows.searched.sum())} of {len(rows)} pairs. Its place was tried in "
        f"{int(rows.may_change.sum())}, and made {int((change < -_CHANGED).sum())} "
        f"better and {int((change > _CHANGED).sum())} worse by more than "
        f"{_CHANGED:g} mm."
    )
    changed = rows[change.abs() > _CHANGED]
    columns = ("seed", "people", "error", "error_with", "status", "status_with")
    cells = [
        tuple(f"{v:.1f}" if isinstance(v, float) else str(v) for v in line)
        for line in changed[list(columns)].itertuples(index=False)
    ]
    parts = [Table(names, lines).to_markdown(), text]
    if cells:
        parts.append(Table(columns, cells).to_markdown())
    return "\n\n".join(parts) + "\n"


def summarise_real(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each pair."""
    lines = [
        (row["name"], row["without"], row["with"], f"{row['apart']:.2f}")
        for row in rows
    ]
    names = "whole heads", "without", "with", "mm apart"
    return Table(names, lines).to_markdown() + "\n"


@errors.handle_user_errors
def main(words: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return its exit code."""
    options = _parser().parse_args(words)
    options.output.mkdir(parents=True, exist_ok=True)
    kept = ResultsFile(options.output / "pairs.jsonl")
    maps = campaign.read_maps(range(options.maps[0], options.maps[1] + 1))
    seeds = range(options.first, options.first + options.pairs)
    for seed in tqdm.tqdm(seeds):
        if kept.get(str(seed)) is None:
            pair = campaign.draw_pair(seed, maps)
            row = {"seed": seed, **campaign.describe_pair(pair), **compare(pair)}
            kept.add(str(seed), row)
    rows = list(kept.rows)
    for folder in options.also:
        rows += ResultsFile(folder / "pairs.jsonl").rows
    text = summarise(pd.DataFrame(rows))
    if options.real:
        real = [compare_real(*pair) for pair in tqdm.tqdm(list(real_pairs()))]
        text += "\n" + summarise_real(real)
    (options.output / "summary.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.registration.network_start",
        description="Register synthetic pairs of all kinds, and real whole heads, "
        "with and without the network of this package among the starts.",
    )
    add = parser.add_argument
    add("--pairs", type=int, default=2000, metavar="N", help="default: 2000")
    add("--first", type=int, default=40000, metavar="SEED", help="default: 40000")
    add(
        "--maps",
        type=int,
        nargs=2,
        default=(17, 20),
        metavar=("FIRST", "LAST"),
        help="label maps; the network has learned from 1 to 16; default: 17 20",
    )
    add("--real", action="store_true", help="whole heads of lhdata and open_ms, too")
    add(
        "--output",
        type=Path,
        default=Path("runs/network_start"),
        metavar="FOLDER",
        help="default: runs/network_start",
    )
    add(
        "--also",
        type=Path,
        nargs="*",
        default=(),
        metavar="FOLDER",
        help="outputs of other processes whose pairs are counted, too",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
