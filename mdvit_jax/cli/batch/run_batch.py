"""`mdvit batch`: all pairs of a CSV file, one after the other."""

import argparse
import contextlib
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tqdm

from mdvit_jax import errors
from mdvit_jax.cli import startup
from mdvit_jax.cli.batch import pair_outputs, pairs_csv, results_csv
from mdvit_jax.io import series

_NAMED = 10  # pairs in the summary


def run_batch(options: argparse.Namespace) -> int:
    """Run the command with its options; return its exit code."""
    startup.start()
    rows = pairs_csv.read(Path(options.pairs))
    folder = Path(options.output)
    pair_options = pair_outputs.Options(
        options.dof, options.format, not options.no_images, options.qc
    )
    try:
        with pair_outputs.hold_folder(folder):
            results, skipped = register_pairs(rows, folder, pair_options)
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    print(summarise(results, skipped, folder))
    bad = {"failed", results_csv.ERROR}
    return 1 if any(r["status"] in bad for r in results) else 0


def register_pairs(
    rows: Sequence[pairs_csv.Row], folder: Path, options: pair_outputs.Options
) -> tuple[list[results_csv.Result], int]:
    """Register all pairs whose outputs are missing or come from other inputs.

    Results of other pairs that are in the folder's table stay in it.

    Returns:
        The results in the order of the rows, and how many of them were current already.

    Raises:
        UserError: an output would be written over an input, or the folder's table is
            not one of a batch or cannot be written.
    """
    pair_outputs.check(rows, folder, options)
    path = folder / "results.csv"
    if not path.exists():
        pair_outputs.check_new(rows, folder, options)
        results_csv.write(path, [])
    kept = results_csv.read(path)
    order = {row.name: None for row in rows}
    skipped, results = 0, []
    for number, row in enumerate(_show_progress(rows), start=1):
        inputs = results_csv.fingerprint(row, options._asdict())
        outputs = pair_outputs.name_outputs(row, folder, options)
        if _is_current(kept.get(row.name), inputs, outputs.files):
            skipped += 1
        else:
            if row.name in kept:  # an older run wrote them
                for output in outputs.files:
                    output.unlink(missing_ok=True)
            begin = time.monotonic()
            kept[row.name] = _register_pair(row, outputs, options, inputs)
            seconds = time.monotonic() - begin
            status = kept[row.name]["status"]
            tqdm.tqdm.write(
                f"{number}/{len(rows)} {row.name}: {status}, {seconds:.1f} s",
                file=sys.stderr,
            )
            others = [name for name in kept if name not in order]
            names = [*(name for name in order if name in kept), *others]
            results_csv.write(path, [kept[name] for name in names])
        results.append(kept[row.name])
    return results, skipped


def summarise(results: Sequence[results_csv.Result], skipped: int, folder: Path) -> str:
    """Lines that say how many pairs went how, and which ones to look at first."""
    counts = {s: sum(r["status"] == s for r in results) for s in results_csv.STATUSES}
    summary = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    pairs = "1 pair" if len(results) == 1 else f"{len(results)} pairs"
    lines = [f"{pairs}: {summary}."]
    if skipped:
        lines.append(f"Already there and not changed: {skipped}.")
    bad = [r for r in results if r["status"] != "ok"]
    bad.sort(
        key=lambda r: (
            -results_csv.STATUSES.index(r["status"]),
            results_csv.correlation(r),
        )
    )
    lines += [f"  {r['name']} ({r['status']}): {r['reasons']}" for r in bad[:_NAMED]]
    if len(bad) > _NAMED:
        lines.append(f"  and {len(bad) - _NAMED} more that are not ok")
    lines.append(f"All results: {folder / 'results.csv'}")
    return "\n".join(lines)


def _show_progress(rows: Sequence[pairs_csv.Row]) -> Iterator[pairs_csv.Row]:
    with tqdm.tqdm(rows, unit="pair", disable=None) as bar:
        for row in bar:
            bar.set_postfix_str(row.name)
            yield row


def _register_pair(
    row: pairs_csv.Row,
    outputs: pair_outputs.Outputs,
    options: pair_outputs.Options,
    inputs: str,
) -> results_csv.Result:
    """Register a pair and write its outputs, or record why that failed."""
    # Imported here: it brings JAX, for which --help need not wait.
    from mdvit_jax.registration import register

    begin = time.monotonic()
    try:
        labels = series.open_series(row.labels, labels=True) if row.labels else None
        result = register.register(
            row.fixed,
            row.moving,
            dof=options.dof,
            fixed_mask=row.fixed_mask,
            moving_mask=row.moving_mask,
        )
        pair_outputs.write(outputs, result, labels, options)
    except errors.UserError as error:
        sentence = str(error)
    except Exception as error:  # the pairs after it are worth more than a stop
        tqdm.tqdm.write(f"{row.name}: {traceback.format_exc()}", file=sys.stderr)
        words = " ".join(str(error).split())
        sentence = f"a bug: {type(error).__name__}: {words}; its traceback was printed."
    else:
        seconds = time.monotonic() - begin
        return results_csv.describe_registration(row, result, seconds, inputs)
    for path in outputs.files:  # those written before one failed
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return results_csv.describe_error(row, sentence, inputs)


def _is_current(
    result: Mapping[str, str] | None, inputs: str, outputs: Sequence[Path]
) -> bool:
    return (
        result is not None
        and result["inputs"] == inputs
        and result["status"] != results_csv.ERROR
        and all(path.is_file() for path in outputs)
    )
