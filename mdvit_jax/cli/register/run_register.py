"""`mdvit register`: two files in; image, transform, picture and report out."""

import argparse
import functools
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mdvit_jax import transforms
from mdvit_jax.cli import startup
from mdvit_jax.cli.register import register_outputs
from mdvit_jax.io import bucket, coerce, reheader, series
from mdvit_jax.registration import quality
from mdvit_jax.registration.register import register
from mdvit_jax.registration.registration_result import Registration
from mdvit_jax.transforms import application

FAILED = 3  # exit code
_TURNED = 25.0  # degrees between orientations that count as different
_log = logging.getLogger(__name__)


def run_register(options: argparse.Namespace) -> int:
    """Register, write the outputs, print a summary.

    Args:
        options: those that `register_options.check` has completed.

    Returns:
        The exit code: 0, or `FAILED` where the verdict is.
    """
    startup.start()
    level = logging.DEBUG if options.verbose else logging.INFO
    logging.getLogger("mdvit_jax").setLevel(logging.WARNING if options.quiet else level)
    begin = time.perf_counter()
    if options.header_only:
        reheader.check(options.moving)
    cure = "use --also-labels, or --force if it is an image"
    additional = [
        (output, False, series.open_series(path))
        if options.force
        else (output, False, series.open_continuous_series(path, cure=cure))
        for path, output in options.also
    ]
    additional += [
        (output, True, series.open_series(path, labels=True))
        for path, output in options.also_labels
    ]
    result, details = _registered(options)
    seconds = time.perf_counter() - begin
    _log.debug("Registered after %.2f s.", seconds)
    writers = _writers(options, result, additional)
    if options.qc:
        writers[options.qc] = _qc_writer(options, result, seconds)
    if options.report:
        from mdvit_jax.cli.register import register_report

        content = register_report.report(
            result,
            command=options.command_line,
            inputs=register_outputs.list_inputs(options),
            outputs=register_outputs.list_outputs(options),
            options=details,
            seconds=seconds,
        )
        writers[options.report] = functools.partial(
            register_report.write, content=content
        )
    register_outputs.write_all(writers)
    if options.quiet and result.quality.reasons:
        reasons = "; ".join(result.quality.reasons)
        _log.warning("%s: %s, as %s.", options.moving, result.quality.status, reasons)
    if not options.quiet:
        seconds = time.perf_counter() - begin
        print(summarise(result, options, list(writers), seconds))
    return FAILED if result.quality.status == quality.FAILED else 0


def _registered(options) -> tuple[Registration, dict[str, Any]]:
    """The result, and the options that led to it."""
    details = {
        name: getattr(options, name)
        for name in ("dof", "contrast", "start", "refine", "seed", "force")
    }
    fixed, moving, start = options.fixed, options.moving, options.start
    if bucket.in_bucket(start) or Path(start).is_dir():
        # Imported here: flax and orbax take seconds, and only a run needs them.
        from mdvit_jax.training import pretrained

        names = options.fixed, options.moving
        fixed, moving = map(coerce.to_image, (fixed, moving), names)
        estimate = pretrained.estimate(start, (fixed, moving), names)
        _log.debug("Starting from %s.", estimate.network)
        start = estimate.matrix
        details["network"] = estimate.network
    result = register(
        fixed,
        moving,
        dof=options.dof,
        contrast=options.contrast,
        start=start,
        fixed_mask=options.fixed_mask,
        moving_mask=options.moving_mask,
        refine=options.refine,
        seed=options.seed,
        force=options.force,
    )
    return result, details


def _writers(options, result: Registration, additional) -> dict[str, Any]:
    """A function that writes each output, by its path."""
    writers: dict[str, Callable[[Path], object]] = {}
    fixed, moving = result.fixed, result.moving
    if options.output:
        writers[options.output] = functools.partial(
            result.save, interpolation=options.interpolation, fill=options.fill
        )
    for path, matrix, one, other in (
        (options.transform, result.matrix, fixed, moving),
        (options.inverse, result.inverse, moving, fixed),
    ):
        if path:
            writers[path] = functools.partial(
                transforms.write,
                fixed_to_moving=matrix,
                fixed=one.grid,
                moving=other.grid,
                format=options.transform_format,
            )
    if options.header_only:
        writers[options.header_only] = functools.partial(
            reheader.write,
            moving=options.moving,
            affine=result.inverse @ moving.affine,
            space=fixed.grid.space,
        )
    for output, is_labels, additional_series in additional:
        writers[output] = functools.partial(
            application.write_resampled,
            series=additional_series,
            fixed_to_moving=result.matrix,
            grid=fixed.grid,
            labels=is_labels,
            interpolation=None if is_labels else options.interpolation,
            fill="auto" if is_labels else options.fill,
        )
    return writers


def _qc_writer(
    options, result: Registration, seconds: float
) -> Callable[[Path], object]:
    """What writes the picture, or the page."""
    if options.qc.lower().endswith(".html"):
        return functools.partial(_write_page, options, result, seconds)
    from mdvit_jax.cli.review import qc  # it brings matplotlib

    names = (Path(path).name for path in (options.moving, options.fixed))
    # Bytes that are not UTF-8 have no letters.
    title = os.fsencode(" on ".join(names)).decode("utf-8", "replace")
    return functools.partial(qc.save, result=result, title=f"{title}, {options.dof}")


def _write_page(options, result: Registration, seconds: float, path: Path) -> None:
    from mdvit_jax.cli.batch import results_csv
    from mdvit_jax.cli.batch.pairs_csv import Row
    from mdvit_jax.cli.review import review_page, thumbnail

    fixed, moving = Path(options.fixed), Path(options.moving)
    row = Row(moving.name, fixed, moving, None, None, None)
    files = {"image": options.output, "transform": options.transform}
    described = {
        **results_csv.describe_registration(row, result, seconds, inputs=""),
        **{
            column: os.path.relpath(file, Path(options.qc).parent)
            for column, file in files.items()
            if file
        },
    }
    review_page.write_single(path, described, thumbnail.encode(result))


def summarise(
    result: Registration,
    options: argparse.Namespace,
    written: Sequence[str],
    seconds: float,
) -> str:
    """A summary of a few lines, to be printed."""
    before, after, parts = result.before, result.after, result.components
    lines = [
        f"{result.quality.status}: {options.moving} on {options.fixed}, "
        f"{options.dof if options.refine else 'not refined'}, {seconds:.1f} s"
    ]
    lines += [f"  because {reason}" for reason in result.quality.reasons]
    rotation = f"{_triple(parts.rotation, '.2f')}° (about x, y, z)"
    scale = f"moving {_triple(parts.scale, '.4f')} times as large (x, y, z)"
    rows = [
        ("local correlation", f"{before.correlation:.3f} → {after.correlation:.3f}"),
        ("soft overlap", f"{before.overlap:.3f} → {after.overlap:.3f}"),
        ("NTG", f"{before.ntg:.3f} → {after.ntg:.3f}"),
        ("translation", f"{_triple(parts.translation, '.2f')} mm (x, y, z)"),
        ("rotation", f"{rotation}; {parts.angle:.2f}° as one"),
        ("scale", scale),
        ("shear", f"{_triple(parts.shear, '.4f')} (xy, xz, yz)"),
    ]
    if result.alignment and result.alignment.searched:
        orientation = (
            "all were searched, and the header's fits best"
            if parts.angle < _TURNED
            else f"the header's did not fit; turned {parts.angle:.0f}° from it"
        )
        rows.append(("orientation", orientation))
    rows += [("written", path) for path in written]
    return "\n".join(lines + [f"  {name:18}{row}" for name, row in rows])


def _triple(values: np.ndarray, form: str) -> str:
    return ", ".join(format(round(float(v), 6) + 0.0, form) for v in values)
