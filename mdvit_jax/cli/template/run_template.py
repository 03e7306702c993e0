"""`mdvit template`: scans in; their average, transforms and a table out."""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import mdvit_jax
from mdvit_jax import errors
from mdvit_jax.cli import startup
from mdvit_jax.cli.batch import pair_outputs, part_tables, results_csv
from mdvit_jax.cli.batch.pair_task import PairTask
from mdvit_jax.cli.review import review_page
from mdvit_jax.cli.template import scan_groups
from mdvit_jax.cli.template.scan_groups import ScanGroup
from mdvit_jax.io import image, json_file, series
from mdvit_jax.registration import quality, register
from mdvit_jax.templates import group_template
from mdvit_jax.templates.group_template import GroupTemplate

_DESCRIPTION = "template.json"


def run_template(options: argparse.Namespace) -> int:
    """Run the command with its options; return its exit code."""
    startup.start()
    if options.voxel is not None and not 0.1 <= options.voxel <= 20:
        raise errors.UserError(
            f"--voxel is {options.voxel:g}; give millimetres from 0.1 to 20."
        )
    groups = scan_groups.list_groups(options)
    if len(groups) == 1:
        return _run_group(groups[0], options)
    # Of many people, one with a wrong scan stops no other, and who is there already is
    # not averaged again.
    codes = []
    for group in groups:
        there = group.folder / part_tables.WHOLE
        if there.exists() and not options.overwrite:
            print(f"{group.folder.name}: there already (--overwrite makes it again)")
            continue
        try:
            codes.append(_run_group(group, options))
        except errors.UserError as error:
            print(f"{group.folder.name}: error: {error}", file=sys.stderr)
            codes.append(1)
    return max(codes, default=0)


def _run_group(group: ScanGroup, options: argparse.Namespace) -> int:
    tasks = _create_tasks(group, options)
    _check(group, tasks, options.overwrite)
    dof = tasks[0].options.dof
    begin = time.monotonic()
    with part_tables.hold_folder(group.folder):
        result = group_template.build_template(
            [row.moving for row in group.rows],
            masks=[row.moving_mask for row in group.rows],
            dof=dof,
            voxel=options.voxel,
        )
        seconds = (time.monotonic() - begin) / len(tasks)
        try:
            rows = _write(group, tasks, result, seconds)
            _write_description(group, result, dof, options)
            review_page.write_batch(group.folder, rows)
            results_csv.write(group.folder / part_tables.WHOLE, rows)
        except errors.UserError:  # nothing half-written
            outputs = _list_outputs(group, tasks)
            for path in outputs:
                path.unlink(missing_ok=True)
            for folder in {path.parent for path in outputs} - {group.folder}:
                with contextlib.suppress(OSError):  # not there, or of other files
                    folder.rmdir()
            raise
    print(summarise(rows, result, group.folder))
    failed = any(row["status"] == quality.FAILED for row in rows)
    return 1 if failed or not result.converged else 0


def summarise(
    rows: Sequence[results_csv.Result], result: GroupTemplate, folder: Path
) -> str:
    """Lines that say how it went, and which scans to look at."""
    count = len(result.rounds) - 1
    ends = (
        f"No scan moves any more after {count} rounds"
        if result.converged
        else f"After {count} rounds, scans still moved by "
        f"{result.rounds[-2].shift:.2f} mm: look at them"
    )
    statuses = [row["status"] for row in rows]
    counted = ", ".join(
        f"{statuses.count(status)} {status}"
        for status in results_csv.STATUSES
        if status in statuses
    )
    lines = [
        f"{len(rows)} scans: {counted}.",
        f"{ends}; sharpness {result.rounds[0].sharpness:.4f} → "
        f"{result.rounds[-1].sharpness:.4f}.",
    ]
    lines += [
        f"  {row['name']} ({row['status']}): {row['reasons']}"
        for row in rows
        if row["status"] != quality.OK
    ]
    lines.append(f"Template: {folder / scan_groups.TEMPLATE}")
    lines.append(f"To look at the scans on it: {folder / review_page.PAGE}")
    return "\n".join(lines)


def _create_tasks(group: ScanGroup, options: argparse.Namespace) -> list[PairTask]:
    dof = options.dof or ("rigid" if options.within_person else "affine")
    pair_options = pair_outputs.Options(
        dof, options.format, not options.no_images, options.qc
    )
    return [
        PairTask(
            row,
            pair_outputs.name_outputs(row, group.folder, pair_options),
            pair_options,
        )
        for row in group.rows
    ]


def _list_outputs(group: ScanGroup, tasks: Sequence[PairTask]) -> list[Path]:
    result = [path for task in tasks for path in task.outputs.files]
    own = scan_groups.TEMPLATE, _DESCRIPTION, part_tables.WHOLE, review_page.PAGE
    return [*(group.folder / name for name in own), *result]


def _check(group: ScanGroup, tasks: Sequence[PairTask], overwrite: bool) -> None:
    """Check before computing that all outputs can be written.

    Raises:
        UserError: one is an input, is there already, or two have one name.
    """
    outputs = _list_outputs(group, tasks)
    read = {
        path.resolve()
        for row in group.rows
        for path in (row.moving, row.moving_mask, row.labels)
        if path is not None
    }
    for path in outputs:
        if path.resolve() in read:
            raise errors.UserError(
                f"{path} would be written over a scan of the same name that is read; "
                "name another --output."
            )
        if not overwrite and os.path.exists(path):
            raise errors.UserError(
                f"{path} is there already; name another --output, or add --overwrite."
            )
    if len(set(outputs)) < len(outputs):
        raise errors.UserError(
            "two outputs would have one name, as of a scan that is called template; "
            "list the scans in a table (--pairs) with a column name."
        )


def _write(
    group: ScanGroup, tasks: Sequence[PairTask], built: GroupTemplate, seconds: float
) -> list[results_csv.Result]:
    """Write the template and what there is of each scan; return the rows of the table.

    The measures of the table are those of the scan on the template.
    """
    path = group.folder / scan_groups.TEMPLATE
    template = built.template
    image.save(path, template.data, template.grid)
    # Files that name their images are to name the template's.
    template = template._replace(grid=template.grid._replace(file=str(path)))
    rows = []
    for task, placed in zip(tasks, built.scans, strict=True):
        row = task.row
        registration = register.register(
            template,
            row.moving,
            dof=task.options.dof,
            start=placed.matrix,
            moving_mask=row.moving_mask,
            refine=False,
        )
        registration = dataclasses.replace(registration, quality=placed.quality)
        labels = series.open_series(row.labels, labels=True) if row.labels else None
        pair_outputs.write(task.outputs, registration, labels, task.options)
        result = results_csv.describe_registration(row, registration, seconds, "")
        rows.append(results_csv.add_outputs(result, task.outputs, group.folder))
    return rows


def _write_description(
    group: ScanGroup, result: GroupTemplate, dof: str, options: argparse.Namespace
) -> None:
    content = {
        "Sources": {row.name: str(row.moving) for row in group.rows},
        "DegreesOfFreedom": dof,
        "WithinPerson": options.within_person,
        "VoxelMillimetres": float(result.template.grid.voxel_sizes[0]),
        "Converged": result.converged,
        "Rounds": [
            {
                "Sharpness": round(average.sharpness, 6),
                "LargestShiftMillimetres": round(average.shift, 4),
            }
            for average in result.rounds
        ],
        "Versions": {
            "mdvit_jax": mdvit_jax.__version__,
            "jax": importlib.metadata.version("jax"),
        },
        "Command": options.command_line,
    }
    with errors.explain_write_errors(group.folder):
        json_file.write(group.folder / _DESCRIPTION, json_file.finite(content))
