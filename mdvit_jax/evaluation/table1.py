"""The paper's Table 1 for one method on one cohort: overlap of brain masks and regions.

Rows are Initial, Initial (CoM) and the method; Fig. 5's regions stand below.
"""

from collections.abc import Iterable
from pathlib import Path

import ml_collections
import tqdm

import mdvit_jax
from mdvit_jax import errors
from mdvit_jax.data import pairs, store, template
from mdvit_jax.evaluation import evaluate, figures, methods, regions, report


def run(
    config: ml_collections.ConfigDict,
    name: str,
    method: methods.Method,
    output: str | Path,
    *,
    description: dict[str, object],
) -> str:
    """Evaluate on the people of `config.evaluation.split`; return the table.

    Every scan of the part is the moving one once (`data.pairs.cases`). Writes table.md,
    summary.json, cases.csv and, for the cases that the method aligns worst,
    `evaluation.pictures` overlays into the folder `output`.

    Args:
        config: the whole configuration; the network is not made from it.
        name: the row of the method.
        method: what is evaluated.
        output: folder, made if need be.
        description: what stands above the table, name → value.

    Raises:
        UserError: data or values that cannot be used.
    """
    data, settings = config.data, config.evaluation
    if settings.split not in ("train", "validation", "test"):
        raise errors.UserError(
            f'evaluation.split is "{settings.split}"; choose "train", "validation" or '
            '"test".'
        )
    scans = store.open_part(config, settings.split)
    fixed_template, template_name = (
        template.load(data) if data.task == "template" else (None, "")
    )
    cases = pairs.cases(scans.persons, data.task, config.seed).tolist()
    table = {
        "Initial": methods.initial,
        "Initial (CoM)": methods.centres_of_mass,
        name: method,
    }
    results = evaluate.evaluate(
        evaluate.pairs_of(cases, scans, fixed_template), table, config
    )
    bar = tqdm.tqdm(results, total=len(cases) * len(table), unit="case")
    found = _keep_worst(bar, name, settings.pictures, Path(output) / "pictures")
    compared = evaluate.regions_of(config)
    return report.write(
        output,
        found,
        config={
            **description,
            "data": f"{data.layout} {data.root or 'cohort'}, part {settings.split}, "
            f"{len(scans)} scans of {len(set(scans.persons))} people",
            "task": f"{data.task}-based" + (template_name and f", {template_name}"),
            "grid": f"{data.size}³ voxels of {data.field_of_view / data.size:g} mm",
            "moving mask": _threshold(settings.mask_threshold),
            "regions that the labels lack": _lacking(data.label_scheme, compared),
            "mdvit_jax": mdvit_jax.__version__,
        },
        hd95_unit=settings.hausdorff_unit,
        regions=tuple(compared),
    )


def _keep_worst(
    results: Iterable, name: str, count: int, folder: Path
) -> list[report.Case]:
    """All cases; draws the `count` ones with the lowest DSC of the method `name`."""
    cases, worst = [], []
    for case, pair, warped in results:
        cases.append(case)
        if case.method == name:
            worst.append((case.dsc, len(cases), case, pair, warped))
            worst = sorted(worst, key=lambda w: w[:2])[:count]
    for old in folder.glob("[0-9]*_*_to_*.png"):  # of another checkpoint
        old.unlink()
    for rank, (dsc, _, case, pair, warped) in enumerate(worst, start=1):
        title = f"{case.moving} to {case.fixed}, {name}, DSC {dsc:.3f}"
        figure = figures.overlay_figure(
            pair.fixed.image, pair.moving.image, warped.image, title=title
        )
        file = f"{rank}_{case.moving}_to_{case.fixed}.png"
        figures.save(figure, folder / store.quoted(file))
    return cases


def _threshold(value: float) -> str:
    how = f"≥ {value:g}" if value > 0 else "> 0, the authors' reading"
    return f"warped linearly, {how}"


def _lacking(scheme: str, compared: evaluate.Regions) -> str:
    if not compared:
        return "all: no labels are compared"
    missing = regions.missing(scheme)
    if len(missing) == len(regions.PAPER_REGIONS):
        return "all of the paper's"
    return ", ".join(missing) or "none"
