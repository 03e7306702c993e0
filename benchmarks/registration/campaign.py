"""Thousands of synthetic pairs of all kinds: their errors and their verdicts.

    MDVIT_DATA=… python -m benchmarks.registration.campaign --output runs/campaign

Each pair is drawn from its seed by `data.random_scans`, registered, without an option
unless `--start` or `--no-refine` says otherwise, and held against the truth.
results.jsonl gets a row at once, so that an interrupted campaign goes on where it was;
results.csv has all of them, summary.md how often each kind came right and what the
verdict was worth, verdicts.png a point for each pair, and worst/ pictures of the worst
pairs.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tqdm

from benchmarks.registration import campaign_plot, campaign_table, scans
from mdvit_jax import errors, register
from mdvit_jax.cli.review import qc
from mdvit_jax.data import label_maps, random_scans, scan_draw, tissues
from mdvit_jax.data.label_maps import Head
from mdvit_jax.data.random_scans import Pair, Source
from mdvit_jax.plots import panels
from mdvit_jax.registration.registration_result import Registration
from mdvit_jax.studies.results import ResultsFile

_SHOWN = 0.01  # of the brain; where both show less, all of it is measured


def run_pairs(
    heads: Head,
    seeds: Sequence[int],
    path: Path,
    measure: Callable[[Pair], dict[str, Any]] = lambda pair: register_pair(pair)[0],
) -> pd.DataFrame:
    """Register the pairs of some seeds, and add a row for each to a file.

    Args:
        heads: a batch of label maps.
        seeds: of `random_scans.random_pair`; what is in the file is not run again.
        path: the JSON-lines file of results.
        measure: registers a pair; the columns of its row.

    Returns:
        The rows of these seeds; `describe_pair` and `register_pair` list their columns.
    """
    kept, rows = ResultsFile(path), []
    for seed in tqdm.tqdm(seeds):
        row = kept.get(str(seed))
        if row is None:
            pair = draw_pair(seed, heads)
            row = {"seed": seed, **describe_pair(pair), **measure(pair)}
            kept.add(str(seed), row)
        rows.append(row)
    return pd.DataFrame(rows)


def draw_pair(seed: int, heads: Head) -> Pair:
    """The pair of a seed.

    Of two people the truth is what `register` makes of clean scans of them: landmarks
    of two brains lie millimetres apart under any affine, and so do the affine that
    suits them best and the one that suits the brains best.
    """
    pair = random_scans.random_pair(seed, heads)
    if not pair.exact:
        clean = random_scans.random_pair(seed, heads, clean=True)
        truth = register(clean.fixed, clean.moving).matrix
        pair = pair._replace(fixed_to_moving=truth)
    return pair


def describe_pair(pair: Pair) -> dict[str, Any]:
    """What kind of pair it is: a column for each trait of each file.

    people: 1 or 2. fixed_… and moving_…: map, object ("brain" or "head"), contrast,
    inverted, acquisition, field ("whole", "neck cut", "top cut" or "slab"), defaced,
    holes, lesions, turned, axes, oblique, type. shared: the part of the brain that both
    images show. words: all of it.
    """
    row: dict[str, Any] = {"people": 1 if pair.exact else 2}
    for side, source, image in zip(
        ("fixed", "moving"), pair.sources, (pair.fixed, pair.moving), strict=True
    ):
        traits = {**_traits(source), "type": str(image.get_data_dtype())}
        row |= {f"{side}_{name}": value for name, value in traits.items()}
    return row | {"shared": float(_shown_by_both(pair).mean()), "words": pair.words}


def register_pair(
    pair: Pair, **options: Any
) -> tuple[dict[str, Any], Registration | None]:
    """Register a pair; the row of how it went, and the result unless it was refused.

    Columns of the row: error, worst: mean and largest distance in mm from where the
    truth takes the brain, over the part that both images show; before: the mean under
    the headers alone. status, reasons; the measures that the verdict rests on; seconds.
    An error of NaN is a pair that was refused, for the reason.
    """
    start = time.perf_counter()
    try:
        result = register(pair.fixed, pair.moving, **options)
    except errors.UserError as error:
        seconds = time.perf_counter() - start
        refused: dict[str, Any] = {"error": np.nan, "worst": np.nan, "before": np.nan}
        refused |= {"status": "refused", "reasons": str(error), "seconds": seconds}
        return refused, None
    seconds = time.perf_counter() - start
    off = _errors(pair, result.matrix)
    sizes = np.linalg.svd(result.matrix[:3, :3], compute_uv=False)
    alignment = result.alignment._asdict() if result.alignment else {}
    row = {
        "error": float(off.mean()),
        "worst": float(off.max()),
        "before": float(_errors(pair, np.eye(4)).mean()),
        "status": result.quality.status,
        "reasons": " ".join(result.quality.reasons),
        **{name: float(value) for name, value in result.after._asdict().items()},
        "correlation_before": float(result.before.correlation),
        **{
            name: float("nan") if value is None else float(value)
            for name, value in alignment.items()
            if name != "matrix" and np.ndim(value) == 0
        },
        "smallest_scale": float(sizes.min()),
        "largest_scale": float(sizes.max()),
        "seconds": round(seconds, 3),
        "matrix": " ".join(f"{number:.9g}" for number in np.ravel(result.matrix)),
    }
    return row, result


def save_worst(
    heads: Head, rows: pd.DataFrame, folder: Path, count: int, **options: Any
) -> None:
    """Save pictures of the pairs that are farthest off, those called ok first."""
    wrong = rows[rows.error > campaign_table.WRONG]
    order = wrong.assign(calm=wrong.status != "ok").sort_values(
        ["calm", "people", "error"], ascending=[True, True, False]
    )
    for row in order.head(count).itertuples():
        pair = draw_pair(int(row.seed), heads)
        _, result = register_pair(pair, **options)
        if result is None:
            continue
        title = f"seed {row.seed}, {row.error:.1f} mm off"
        panels.save_figure(qc.figure(result, title=title), folder / f"{row.seed}.png")
        text = f"{title}, {row.status}\n{pair.words}\n{row.reasons}\n"
        (folder / f"{row.seed}.txt").write_text(text, encoding="utf-8")


def _traits(source: Source) -> dict[str, Any]:
    draw, storage = source.draw, source.storage
    slab = draw.field_high[2] < 80 and draw.field_low[2] > -80
    return {
        "map": source.head,
        "object": "brain" if draw.stripped else "head",
        "contrast": tissues.CONTRASTS[int(draw.contrast)],
        "inverted": bool(draw.inverted),
        "acquisition": source.acquisition,
        "field": "slab"
        if slab
        else "top cut"
        if draw.field_high[2] < 80
        else "neck cut"
        if draw.field_low[2] > -scan_draw.FAR
        else "whole",
        "defaced": bool(draw.deface < scan_draw.FAR),
        "holes": bool(draw.stripped and draw.holes < scan_draw.FAR),
        "lesions": int((np.max(draw.lesion_radius, axis=-1) > 0).sum()),
        "axes": storage.axes,
        "oblique": bool(np.any(storage.tilt)),
        "header": storage.header,
        "noise": round(float(draw.noise), 4),
        "bias": round(float(draw.bias), 4),
    }


def _shown_by_both(pair: Pair) -> np.ndarray:
    """[n] bool, which points of the brain have been measured in both images."""
    shown = np.ones(len(pair.brain), bool)
    moved = _move(pair.fixed_to_moving, pair.brain)
    for image, points in ((pair.fixed, pair.brain), (pair.moving, moved)):
        data = np.asarray(image.dataobj)
        index = _move(np.linalg.inv(image.affine), points)
        index = np.round(index).astype(int)
        within = ((index >= 0) & (index < data.shape)).all(axis=1)
        values = data[tuple(np.clip(index, 0, np.array(data.shape) - 1).T)]
        shown &= within & (values > data.min())
    return shown


def _move(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [n, 3] under a 4×4 matrix."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _errors(pair: Pair, fixed_to_moving: np.ndarray) -> np.ndarray:
    """Distances in mm over the part of the brain that both images show."""
    shown = _shown_by_both(pair)
    points = pair.brain[shown] if shown.mean() > _SHOWN else pair.brain
    return distances(fixed_to_moving, pair.fixed_to_moving, points)


def distances(one: np.ndarray, other: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How far apart, [n], two 4×4 matrices take points [n, 3]."""
    return np.linalg.norm(_move(one - other, points), axis=1)


def read_maps(numbers: Sequence[int]) -> Head:
    """Label maps of synthseg_labels by their numbers, 1 to 20."""
    folder = scans.folder("synthseg_labels")
    return label_maps.read_heads(
        [folder / f"training_seg_{number:02}.nii.gz" for number in numbers]
    )


def add_draw_options(
    parser: argparse.ArgumentParser, *, first: int, maps: tuple[int, int]
) -> None:
    """Options that say which pairs, for `read_draw`, with their defaults."""
    add = parser.add_argument
    add("--pairs", type=int, default=2000, metavar="N", help="default: 2000")
    add(
        "--first",
        type=int,
        default=first,
        metavar="SEED",
        help=f"of them; default: {first}",
    )
    add(
        "--maps",
        type=int,
        nargs=2,
        default=maps,
        metavar=("FIRST", "LAST"),
        help="label maps, 1 to 20; networks have learned from 1 to 16, and 17 to 20 "
        f"are for reports; default: {maps[0]} {maps[1]}",
    )


def read_draw(options: argparse.Namespace) -> tuple[Head, range]:
    """The label maps and the seeds that `add_draw_options` asked for."""
    first, last = options.maps
    seeds = range(options.first, options.first + options.pairs)
    return read_maps(range(first, last + 1)), seeds


@errors.handle_user_errors
def main(words: Sequence[str] | None = None) -> int:
    """Run the campaign that the command line asks for; return its exit code."""
    options = _parser().parse_args(words)
    heads, seeds = read_draw(options)
    folder = options.output
    (folder / "worst").mkdir(parents=True, exist_ok=True)
    how = {"start": options.start, "refine": options.refine}
    rows = run_pairs(
        heads,
        seeds,
        folder / "results.jsonl",
        lambda pair: register_pair(pair, **how)[0],
    )
    rows.to_csv(folder / "results.csv", index=False)
    text = campaign_table.summarise(rows)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    print(text, end="")
    panels.save_figure(campaign_plot.draw(rows), folder / "verdicts.png")
    save_worst(heads, rows, folder / "worst", options.worst, **how)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.registration.campaign",
        description="Register synthetic pairs of all kinds and hold them against the "
        "truth. The label maps synthseg_labels are read from the folder MDVIT_DATA, "
        "else from ../shared/data beside the repository.",
    )
    add_draw_options(parser, first=0, maps=(1, 16))
    add = parser.add_argument
    add(
        "--worst",
        type=int,
        default=20,
        metavar="N",
        help="pictures of the pairs that are farthest off; default: 20",
    )
    add(
        "--output",
        type=Path,
        default=Path("runs/campaign"),
        metavar="FOLDER",
        help="one for each set of maps and each --start; default: runs/campaign",
    )
    add("--start", default="com", choices=("com", "network"), help="default: com")
    add("--refine", action=argparse.BooleanOptionalAction, default=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
