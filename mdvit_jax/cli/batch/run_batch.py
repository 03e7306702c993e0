"""`mdvit batch`: pairs of a CSV file or a BIDS dataset, and a table of how each went.

The way of the data: `pairs_csv` or `bids_pairs` name the pairs, `pair_engine` hands
them to processes, each of which runs `pair_task`, and the table of `results_csv` is
written here, by one process, as the results come.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import tqdm

from mdvit_jax import errors
from mdvit_jax.cli import option_values, startup
from mdvit_jax.cli.batch import (
    bids_outputs,
    bids_pairs,
    pair_engine,
    pair_outputs,
    pair_task,
    pairs_csv,
    part_tables,
    results_csv,
)
from mdvit_jax.cli.batch.pair_task import PairTask
from mdvit_jax.cli.batch.part_tables import Part
from mdvit_jax.cli.review import ratings_csv, review_page
from mdvit_jax.io import named_templates

_NAMED = 10  # pairs in the summary
_PAGE_SECONDS = 60  # from one page of a batch at work to the next


def run_batch(options: argparse.Namespace) -> int:
    """Run the command with its options; return its exit code."""
    startup.start()
    folder = Path(options.output).absolute()
    if options.merge:
        return _merge(folder)
    if options.ratings:
        return _add_ratings(Path(options.ratings), folder)
    if options.scheduler and options.jobs > 1:
        raise errors.UserError(
            "--jobs and --scheduler both say where pairs are registered; leave one out."
        )
    part = part_tables.parse(options.part) if options.part else None
    derivatives = None
    if options.bids:
        tasks, derivatives = _list_bids_tasks(options, folder)
    else:
        tasks = _list_csv_tasks(options, folder)
    if part:
        tasks = tasks[part.number - 1 :: part.total]
    begin = time.monotonic()
    try:
        with part_tables.hold_folder(folder, part):
            if derivatives and (part is None or part.number == 1):
                bids_outputs.write_dataset_files(derivatives)
            results, skipped = register_pairs(
                tasks,
                folder,
                part=part,
                jobs=options.jobs,
                scheduler=options.scheduler,
                retry_errors=options.retry_errors,
            )
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    table = folder / (part.table if part else part_tables.WHOLE)
    print(summarise(results, skipped, table, time.monotonic() - begin))
    return _exit_code(results)


def register_pairs(
    tasks: Sequence[PairTask],
    folder: Path,
    *,
    part: Part | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    retry_errors: bool = False,
) -> tuple[list[results_csv.Result], int]:
    """Register all pairs whose outputs are missing or come from other inputs.

    Results of other pairs that are in the folder's table stay in it.

    Args:
        tasks: the pairs.
        folder: of the table.
        part: that the tasks are; its table is written, and results.csv read only.
        jobs, scheduler: see `pair_engine.register_all`.
        retry_errors: also those that ended in an error with the same inputs.

    Returns:
        The results in the order of the tasks, and how many were current already.

    Raises:
        UserError: an output would be written over an input, or the folder's table is
            not one of a batch or cannot be written.
    """
    pair_task.check_inputs_stay(tasks)
    whole = folder / part_tables.WHOLE
    path = folder / part.table if part else whole
    if not (path.exists() or whole.exists()):
        pair_task.check_outputs_new(tasks, folder / review_page.PAGE)
    kept = results_csv.read(path)
    known = results_csv.read(whole) | kept
    pending = []
    for task in tasks:
        result = known.get(task.row.name)
        again = retry_errors and result and result["status"] == results_csv.ERROR
        if again or not pair_task.is_current(task, result):
            pending.append(task)
            kept.pop(task.row.name, None)
    skipped = len(tasks) - len(pending)
    if pending or not path.exists():
        results_csv.write(path, kept.values())
    outcomes = pair_engine.register_all(pending, jobs=jobs, scheduler=scheduler)
    begin = page_written = time.monotonic()
    with (
        contextlib.closing(outcomes),
        tqdm.tqdm(total=len(tasks), initial=skipped, unit="pair", disable=None) as bar,
    ):
        for number, (task, (result, traceback)) in enumerate(outcomes, start=1):
            result = results_csv.add_outputs(result, task.outputs, folder)
            results_csv.append(path, result)
            kept[task.row.name] = result
            if not part and time.monotonic() - page_written > _PAGE_SECONDS:
                remaining = len(pending) - number
                review_page.write_batch(folder, kept.values(), remaining=remaining)
                page_written = time.monotonic()
            if traceback:
                tqdm.tqdm.write(f"{task.row.name}: {traceback}", file=sys.stderr)
            tqdm.tqdm.write(
                f"{skipped + number}/{len(tasks)} {task.row.name}: {result['status']}, "
                f"{float(result['seconds']):.1f} s",
                file=sys.stderr,
            )
            minutes = (time.monotonic() - begin) / 60
            bar.set_postfix_str(f"{number / minutes:.3g} pairs/min", refresh=False)
            bar.update()
    if pending:  # which came in any order
        names = {task.row.name: None for task in tasks} | dict.fromkeys(kept)
        kept = {name: kept[name] for name in names if name in kept}
        results_csv.write(path, kept.values())
    if not part:
        review_page.write_batch(folder, kept.values())
    known |= kept
    return [known[task.row.name] for task in tasks], skipped


def summarise(
    results: Sequence[results_csv.Result], skipped: int, table: Path, seconds: float
) -> str:
    """Lines that say how many pairs went how, and which ones to look at first."""
    counts = {s: sum(r["status"] == s for r in results) for s in results_csv.STATUSES}
    summary = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    pairs = "1 pair" if len(results) == 1 else f"{len(results)} pairs"
    lines = [f"{pairs}: {summary}." if results else "No pair."]
    if len(results) > skipped:
        rate = 60 * (len(results) - skipped) / seconds
        lines.append(f"Registered now: {len(results) - skipped}, {rate:.3g} a minute.")
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
    lines.append(f"All results: {table}")
    if table.name == part_tables.WHOLE:
        lines.append(f"To look at them: {table.with_name(review_page.PAGE)}")
    return "\n".join(lines)


def _list_csv_tasks(options: argparse.Namespace, folder: Path) -> list[PairTask]:
    for_bids = "to", "space", "suffix", "entity", "session", "participant_label"
    option_values.refuse(options, "means nothing with --pairs", *for_bids)
    chosen = _pair_options(options, options.dof or "affine")
    rows = pairs_csv.read(Path(options.pairs))
    outputs = [pair_outputs.name_outputs(row, folder, chosen) for row in rows]
    return [PairTask(*both, chosen) for both in zip(rows, outputs, strict=True)]


def _list_bids_tasks(
    options: argparse.Namespace, folder: Path
) -> tuple[list[PairTask], bids_outputs.Derivatives]:
    root = Path(options.bids).absolute()
    if not options.to:
        raise errors.UserError(
            "--bids needs --to: mni152, the file of a template, or T1w for that of "
            "each session."
        )
    selection = bids_pairs.Selection(
        options.suffix,
        options.participant_label,
        options.session,
        bids_pairs.parse_entities(options.entity),
    )
    if options.to == bids_pairs.T1W:
        option_values.refuse(options, "means nothing with --to T1w", "space")
        pairs, notes = bids_pairs.pair_with_t1w(root, selection)
        derivatives = bids_outputs.Derivatives(root, folder, bids_pairs.T1W, None)
    else:
        template = Path(options.to)
        if not named_templates.is_name(options.to):
            template = template.expanduser().absolute()
        space = bids_outputs.name_space(options.to, options.space)
        pairs, notes = bids_pairs.pair_with_template(root, template, selection)
        derivatives = bids_outputs.Derivatives(root, folder, space, template)
    bids_outputs.check_folder(derivatives)
    # Of one person the shape stays; to a template it changes.
    dof = options.dof or ("affine" if derivatives.template else "rigid")
    pair_options = _pair_options(options, dof)
    tasks = [bids_outputs.create_task(p, derivatives, pair_options) for p in pairs]
    for note in notes:
        print(note, file=sys.stderr)
    return tasks, derivatives


def _pair_options(options: argparse.Namespace, dof: str) -> pair_outputs.Options:
    return pair_outputs.Options(dof, options.format, not options.no_images, options.qc)


def _merge(folder: Path) -> int:
    results, missing = part_tables.merge(folder)
    review_page.write_batch(folder, results)
    if missing:
        print(
            f"Parts without a table, which never began: {', '.join(missing)}.",
            file=sys.stderr,
        )
    print(summarise(results, len(results), folder / part_tables.WHOLE, 0.0))
    return 1 if missing else _exit_code(results)


def _add_ratings(path: Path, folder: Path) -> int:
    """Read the ratings of a file into the table, and show them on the page."""
    table = folder / part_tables.WHOLE
    if not table.is_file():
        raise errors.UserError(
            f"{folder} has no {part_tables.WHOLE} whose pairs could be rated; name the "
            "--output of a batch."
        )
    with part_tables.hold_folder(folder):
        rated = ratings_csv.add_ratings(path, results_csv.read(table))
        results_csv.write(table, rated.results.values())
        review_page.write_batch(folder, rated.results.values())
    print(ratings_csv.summarise(rated))
    print(f"All results: {table}")
    return 0


def _exit_code(results: Sequence[results_csv.Result]) -> int:
    bad = {"failed", results_csv.ERROR}
    return 1 if any(result["status"] in bad for result in results) else 0
