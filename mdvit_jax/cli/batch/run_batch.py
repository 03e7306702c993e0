"""`mdvit batch`: all pairs of a CSV file, one after the other, all night if need be."""

import argparse
import contextlib
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tqdm

from mdvit_jax import errors, transforms
from mdvit_jax.cli import parser as command_line
from mdvit_jax.cli.batch import pair_outputs, pairs_csv, results_csv
from mdvit_jax.io import image
from mdvit_jax.registration import DOF

_DESCRIPTION = """\
Register many pairs of images, and write one table of how each went.

  mdvit batch --pairs pairs.csv --output results
  mdvit batch --pairs pairs.csv --output results --dof rigid --no-images --format fsl

The pairs are a CSV file, whose first line names its columns:

  fixed,moving,name
  MNI152.nii.gz,scans/anna.nii.gz,anna
  MNI152.nii.gz,scans/bert.nii.gz,bert

fixed and moving are needed. name says what the outputs are called; without it they are
called after the moving image, and names must differ. Columns fixed_mask and moving_mask
may name images on the grid of theirs, above 0 where it counts for the alignment (a
lesion left out, say), and labels a label map of the moving image, which is carried
along. Relative paths start at the folder of the CSV file.

In the output folder there are, for each pair,
  NAME_warped.nii.gz  the moving image on the grid of the fixed one
  NAME.tfm            the transform, fixed to moving (mdvit convert and apply use it)
  NAME_labels.nii.gz  the labels on the grid of the fixed image, if there are any
  NAME.png            with --qc, three planes before and after
and for all of them
  results.csv         status, reasons, measures before and after, rotation, scales, ...

The status of a pair is ok, check (look at it), failed (do not use it) or error (it
could not be registered; the reason is in the table). An error never stops the batch.

Stop it whenever you like: the same command goes on where it was. Pairs whose outputs
are there and whose images and options have not changed are not computed again; those
with an error are tried again. One batch at a time may write to a folder, which its file
.lock is for. Programs are compiled for the first pair only, whatever the sizes of the
images, so it takes longer than the others.

The exit code is 0 if all pairs are ok or check, 1 if some failed or had an error, 2 if
the CSV file or the folder is wrong, and 75 if another batch is writing to the folder.
"""
_NAMED = 10  # pairs in the summary


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="mdvit batch",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pairs", metavar="CSV", required=True, help="is read")
    parser.add_argument(
        "--output", metavar="FOLDER", required=True, help="is made if it is not there"
    )
    parser.add_argument(
        "--dof",
        choices=DOF,
        default="affine",
        help="what may change; similarity is rigid and one scale (default: affine)",
    )
    parser.add_argument(
        "--format",
        choices=transforms.FORMATS,
        default="itk",
        help="of the transforms (default: itk, which writes .tfm)",
    )
    parser.add_argument(
        "--no-images", action="store_true", help="write no warped images"
    )
    parser.add_argument(
        "--qc", action="store_true", help="write a picture of each pair, NAME.png"
    )
    return command_line.parse(parser, arguments)


def main(words: argparse.Namespace) -> int:
    """Run the command with the options of `parse`; return its exit code."""
    rows = pairs_csv.read(Path(words.pairs))
    folder = Path(words.output)
    options = pair_outputs.Options(
        words.dof, words.format, not words.no_images, words.qc
    )
    try:
        with pair_outputs.only_batch_in(folder):
            results, skipped = run(rows, folder, options)
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    print(summary(results, skipped, folder))
    bad = {"failed", results_csv.ERROR}
    return 1 if any(r["status"] in bad for r in results) else 0


def run(
    rows: Sequence[pairs_csv.Row], folder: Path, options: pair_outputs.Options
) -> tuple[list[results_csv.Result], int]:
    """Register all pairs whose outputs are not there or are of other inputs.

    Results of other pairs that are in the folder's table stay in it.

    Returns:
        The results in the order of the rows, and how many of them were there.

    Raises:
        UserError: an output would be written over an input, or the folder's table is
            none or cannot be written.
    """
    pair_outputs.check(rows, folder, options)
    path = folder / "results.csv"
    if not path.exists():
        pair_outputs.check_new(rows, folder, options)
        results_csv.write(path, [])
    kept = results_csv.read(path)
    order = {row.name: None for row in rows}
    skipped, results = 0, []
    for number, row in enumerate(_with_a_bar(rows), start=1):
        inputs = results_csv.fingerprint(row, options._asdict())
        outputs = pair_outputs.of(row, folder, options)
        if _is_there(kept.get(row.name), inputs, outputs.files):
            skipped += 1
        else:
            if row.name in kept:  # what an older run wrote must not be taken for this
                for output in outputs.files:
                    output.unlink(missing_ok=True)
            begin = time.monotonic()
            kept[row.name] = _registered(row, outputs, options, inputs)
            told = f"{row.name}: {kept[row.name]['status']}"
            seconds = time.monotonic() - begin
            tqdm.tqdm.write(
                f"{number}/{len(rows)} {told}, {seconds:.1f} s", file=sys.stderr
            )
            others = [name for name in kept if name not in order]
            names = [*(name for name in order if name in kept), *others]
            results_csv.write(path, [kept[name] for name in names])
        results.append(kept[row.name])
    return results, skipped


def summary(results: Sequence[results_csv.Result], skipped: int, folder: Path) -> str:
    """Lines that say how many pairs went how, and which ones to look at first."""
    counts = {s: sum(r["status"] == s for r in results) for s in results_csv.STATUSES}
    told = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    pairs = "1 pair" if len(results) == 1 else f"{len(results)} pairs"
    lines = [f"{pairs}: {told}."]
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


def _with_a_bar(rows: Sequence[pairs_csv.Row]) -> Iterator[pairs_csv.Row]:
    with tqdm.tqdm(rows, unit="pair", disable=None) as bar:
        for row in bar:
            bar.set_postfix_str(row.name)
            yield row


def _registered(
    row: pairs_csv.Row,
    outputs: pair_outputs.Outputs,
    options: pair_outputs.Options,
    inputs: str,
) -> results_csv.Result:
    """Register a pair and write its outputs, or say why that cannot be."""
    # Imported here: it brings JAX, for which --help need not wait.
    from mdvit_jax.registration import register

    begin = time.monotonic()
    try:
        labels = image.open_series(row.labels, labels=True) if row.labels else None
        found = register.register(
            row.fixed,
            row.moving,
            dof=options.dof,
            fixed_mask=row.fixed_mask,
            moving_mask=row.moving_mask,
        )
        pair_outputs.write(outputs, found, labels, options)
    except errors.UserError as error:
        sentence = str(error)
    except Exception as error:  # the pairs after it are worth more than a stop
        tqdm.tqdm.write(f"{row.name}: {traceback.format_exc()}", file=sys.stderr)
        words = " ".join(str(error).split())
        sentence = f"a bug: {type(error).__name__}: {words}; its traceback was printed."
    else:
        seconds = time.monotonic() - begin
        return results_csv.of_registration(row, found, seconds, inputs)
    for path in outputs.files:  # one that was written before the other could not be
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return results_csv.of_error(row, sentence, inputs)


def _is_there(
    result: Mapping[str, str] | None, inputs: str, outputs: Sequence[Path]
) -> bool:
    return (
        result is not None
        and result["inputs"] == inputs
        and result["status"] != results_csv.ERROR
        and all(path.is_file() for path in outputs)
    )
