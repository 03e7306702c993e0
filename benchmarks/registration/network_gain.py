"""What the network of this package is worth as one more start of `register`.

    MDVIT_DATA=… python -m benchmarks.registration.network_gain --pairs 2000

Synthetic pairs of all kinds, as the campaign draws them, and the whole heads of the
shared data. Each is registered without the network. Then the network is asked about the
same two brains, and where its place may matter the pair is registered again with it:
where the place, brought to its optimum at 24³ voxels, is another one than the answer
and fits nearly as well. In all other pairs the result is taken to stay the same.
Two processes may share the pairs: each with an --output of its own, and afterwards one
over all, with --also naming the others.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tqdm

from benchmarks.registration import campaign, campaign_table, heads
from mdvit_jax import errors, register
from mdvit_jax.data.random_scans import Pair
from mdvit_jax.registration import network_start, refinement, search
from mdvit_jax.registration.registration_result import Registration
from mdvit_jax.studies.report.section import Table
from mdvit_jax.studies.results import ResultsFile

# Of the score at 24³, by which a place may be worse and still change the verdict
# (`quality`: another orientation that fits nearly as well).
_NEARLY = 0.1
_CHANGED = 0.5  # mm: errors that differ by more


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
        "may_change": may_change(away, score, answer.score),
    }


def may_change(away: float, place_score: float, score: float) -> bool:
    """Whether the place of the network may change a result.

    Args:
        away, place_score: as `ask_network` says.
        score: of the answer without the network.
    """
    return bool(away > 1 and place_score > score - _NEARLY)


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


def real_pairs() -> list[tuple[str, str]]:
    """Names (fixed, moving): whole heads to MNI152, and two of one session."""
    sessions = [*heads.SESSIONS, *heads.HELD_OUT_SESSIONS]
    scans_of_all = dict.fromkeys(itertools.chain(*sessions))
    return [*(("mni152", name) for name in scans_of_all), *sessions]


def compare_real(pair: tuple[str, str]) -> dict[str, Any]:
    """Columns: name, without, with: the verdicts; apart: mm between the answers."""
    fixed, moving = (name if name == "mni152" else heads.load(name) for name in pair)
    results = [register(fixed, moving, start=start) for start in ("com", "network")]
    one, other = (result.matrix for result in results)
    points = heads.ball(results[0].pair.fixed.centre)
    statuses = [result.quality.status for result in results]
    return {
        "name": f"{pair[1]} to {pair[0]}",
        "without": statuses[0],
        "with": statuses[1],
        "apart": float(campaign.distances(one, other, points).mean()),
    }


def summarise(rows: pd.DataFrame) -> str:
    """How often each is right and wrong, and which answers the network changed."""
    with_it = rows.assign(error=rows.error_with, status=rows.status_with)
    lines = [
        (name, str(people), *_counts(part))
        for name, judged in (("without", rows), ("with", with_it))
        for people, part in judged.groupby("people")
    ]
    names = ("network", "people", "pairs", "median mm", "right", "wrong",
             "wrong and ok", "right and not ok")  # fmt: skip
    change = rows.error_with - rows.error
    text = (
        f"Registration without the network took {rows.seconds.median():.1f} s in the "
        f"median, the network {rows.asked_seconds.median():.2f} s; all orientations "
        f"were searched in {int(rows.searched.sum())} of {len(rows)} pairs. It was "
        f"tried in "
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


def _counts(rows: pd.DataFrame) -> tuple[str, ...]:
    judged = campaign_table.judge(rows)
    return (
        str(len(rows)),
        f"{rows.error.median():.2f}",
        str(judged.right.sum()),
        *campaign_table.count_verdicts(judged),
    )


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
    others = [row for folder in options.also for row in read_rows(folder)]
    maps, seeds = campaign.read_draw(options)
    own = campaign.run_pairs(maps, seeds, options.output / "pairs.jsonl", compare)
    rows = pd.concat([own, pd.DataFrame(others)])
    if len(rows):
        text = summarise(rows.drop_duplicates("seed"))
        print(text, end="")
        (options.output / "summary.md").write_text(text, encoding="utf-8")
    if options.real:
        text = summarise_real([compare_real(pair) for pair in tqdm.tqdm(real_pairs())])
        print(text, end="")
        (options.output / "real.md").write_text(text, encoding="utf-8")
    return 0


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of another process.

    Raises:
        UserError: it has none.
    """
    rows = ResultsFile(folder / "pairs.jsonl").rows
    if not rows:
        raise errors.UserError(f"{folder} holds no pairs.jsonl; name another --also.")
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.registration.network_gain",
        description="Register synthetic pairs of all kinds, and real whole heads, "
        "with and without the network of this package among the starts.",
    )
    campaign.add_draw_options(parser, first=40000, maps=(17, 20))
    add = parser.add_argument
    add("--real", action="store_true", help="whole heads of lhdata and open_ms, too")
    add(
        "--output",
        type=Path,
        default=Path("runs/network_gain"),
        metavar="FOLDER",
        help="default: runs/network_gain",
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
