"""Run studies by name on one cohort, for `eval.py`."""

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path

import ml_collections

import mdvit_jax
from mdvit_jax import errors
from mdvit_jax.config import differences, read_config
from mdvit_jax.data import dataset, template
from mdvit_jax.evaluation import methods, regions, scoring
from mdvit_jax.studies import STUDIES, held_out
from mdvit_jax.studies.compute import NotApplicable, Setting
from mdvit_jax.studies.report import render
from mdvit_jax.training import pretrained

_log = logging.getLogger(__name__)

_DEFAULT_METHODS = "register", "ants", "elastix"
# The many cases of these studies would take hours with the other methods.
_REGISTER_ONLY = "contrast", "rotation", "similarity", "known_affine"


def run_studies(
    config: ml_collections.ConfigDict,
    *,
    checkpoints: Sequence[Path] = (),
    studies: Sequence[str] = (),
    classical: Sequence[str] | None = None,
    output: Path | None = None,
    command: str,
) -> str:
    """Run studies of networks and classical methods; return their tables as Markdown.

    Each study writes NAME.csv, NAME.md, NAME.json and its pictures into the output
    folder, whose report.html shows all studies there.

    Args:
        config: the cohort, the task and `evaluation`.
        checkpoints: folders that training wrote, files of PyTorch weights, or
            "pretrained".
        studies: names of `STUDIES`, or "all"; by default Table 1 of the networks alone.
        classical: names of classical methods; by default those of each study.
        output: by default the folder `evaluation` of the first run.
        command: the command line, for the report.

    Raises:
        UserError: networks, methods, data or values that cannot be used.
    """
    if config.evaluation.split not in ("train", "validation", "test"):
        raise errors.UserError(
            f'evaluation.split is "{config.evaluation.split}"; choose "train", '
            '"validation" or "test".'
        )
    if not checkpoints and not studies:
        raise errors.UserError(
            "there is nothing to evaluate; name the folder of a run with --checkpoint, "
            "or studies of the classical methods with --study."
        )
    runs = [
        path
        for path in checkpoints
        if not path.is_file() and not pretrained.is_pretrained(path)
    ]
    if output is None:
        if not runs:
            raise errors.UserError("name the folder of the results with --output.")
        output = runs[0] / "evaluation"
    if classical is None and not studies:
        classical = []
    names = list(STUDIES) if "all" in studies else list(studies) or ["table1"]
    study_methods = {name: _classical_methods(name, classical) for name in names}
    networks = load_networks(config, checkpoints)
    scans = dataset.open_part(config, config.evaluation.split)
    fixed, fixed_name = None, ""
    if config.data.task == "template":
        fixed, fixed_name = template.load(config.data)
    about = describe(config, scans, fixed_name, networks)
    texts = []
    for name in names:
        own = study_methods[name]
        setting = Setting(config, scans, fixed, networks, own, output, about)
        try:
            texts.append(run_study(name, setting, command=command))
        except NotApplicable as error:
            if "all" not in studies:
                raise
            _log.warning("The study %s is left out: %s", name, error)
    return "\n\n".join([*texts, f"Written to {output}"])


def run_study(name: str, setting: Setting, *, command: str) -> str:
    """Run one study, write its files and the report; return its tables as Markdown.

    Args:
        name: of `STUDIES`.
        setting: what it is done on.
        command: the command line, for the report.

    Raises:
        NotApplicable: it needs what the setting does not have.
    """
    study = importlib.import_module(f"mdvit_jax.studies.{name}")
    records = study.compute(setting)
    section = study.report(setting, records)
    render.write_section(
        section,
        setting.output,
        name=name,
        records=records,
        about=setting.about,
        command=command,
    )
    return "\n\n".join(table.to_markdown() for table in section.tables)


def load_networks(
    config: ml_collections.ConfigDict, checkpoints: Sequence[Path]
) -> list[methods.Method]:
    """Trained networks as methods with different names.

    Args:
        config: describes the network of PyTorch weights, and the people tested.
        checkpoints: folders that training wrote, files of PyTorch weights, or
            "pretrained".

    Raises:
        UserError: there is no such run, it was trained on people who are tested, or
            the network of this package takes other volumes.
    """
    trained = []
    checkpoints = list(dict.fromkeys(checkpoints))  # each once
    for path in checkpoints:
        if pretrained.is_pretrained(path):
            trained.append(pretrained.trained_network(path))
            _check_volumes(config, trained[-1])
        elif path.is_file():
            trained.append(pretrained.imported_network(config, path))
        else:
            held_out.check_run(config, path)
            trained.append(pretrained.trained_network(path))
    own_names = [network.name for network in trained]
    names = distinct_names(own_names, checkpoints)
    networks = [
        methods.network(name, one.network, one.params, about=f"{path}, {one.origin}")
        for name, one, path in zip(names, trained, checkpoints, strict=True)
    ]
    runs: dict[str, list[Path]] = {}
    for name, path in zip(own_names, checkpoints, strict=True):
        runs.setdefault(name, []).append(path)
    repeated = {name for name, paths in runs.items() if _differ_by_seed(paths)}
    return [
        network._replace(family=name) if name in repeated else network
        for network, name in zip(networks, own_names, strict=True)
    ]


def _differ_by_seed(runs: Sequence[Path]) -> bool:
    """Whether there are several runs, and nothing but the seed sets them apart.

    Fine-tuned ones may start from runs that the seed sets apart.
    """
    if len(runs) < 2 or not all((run / "config.json").is_file() for run in runs):
        return False
    first, *others = map(read_config, runs)
    return all(
        set(differences(first, other)) - {"optim.start_from"} == {"seed", "workdir"}
        for other in others
    )


def _check_volumes(
    config: ml_collections.ConfigDict, network: pretrained.Trained
) -> None:
    """Raise a UserError if the network learned from other volumes."""
    data, size, field = config.data, network.size, network.field_of_view
    if (data.size, data.field_of_view) != (size, field):
        raise errors.UserError(
            f"{network.name} takes volumes of {size}³ voxels and {field:g} mm; add "
            f"--config.data.size={size} --config.data.field_of_view={field:g}."
        )


def distinct_names(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Distinct names: with the folder where they occur twice, or the whole path."""
    folders = [path.name for path in paths]
    if len({*folders}) < len(folders):
        folders = [str(path) for path in paths]
    return [
        f"{name}, {folder}" if names.count(name) > 1 else name
        for name, folder in zip(names, folders, strict=True)
    ]


def describe(
    config: ml_collections.ConfigDict,
    scans: dataset.ScanDataset,
    template_name: str,
    networks: Sequence[methods.Method],
) -> dict[str, str]:
    """The data, the networks and the program in words for a report, name → value."""
    data, settings = config.data, config.evaluation
    compared = scoring.compared_regions(config)
    missing = regions.missing_regions(data.label_scheme) if compared else ()
    if not compared:
        not_drawn = "all"
    elif missing == regions.PAPER_REGIONS:
        not_drawn = "all of the paper's"
    else:
        not_drawn = ", ".join(missing) or "none"
    threshold = settings.mask_threshold
    return {
        **{method.name: method.identity for method in networks},
        "data": f"{data.layout} {data.root or 'cohort'}, part {settings.split}, "
        f"{len(scans)} scans of {len(set(scans.persons))} people",
        "task": f"{data.task}-based" + (template_name and f", {template_name}"),
        "grid": f"{data.size}³ voxels of {data.field_of_view / data.size:g} mm",
        "moving mask": "warped linearly, "
        + (f"≥ {threshold:g}" if threshold > 0 else "> 0, the authors' reading"),
        "labels": data.label_scheme if compared else "none are compared",
        "regions that the labels do not draw": not_drawn,
        "mdvit_jax": mdvit_jax.__version__,
    }


def _classical_methods(study: str, names: Sequence[str] | None) -> list[methods.Method]:
    """The methods of these names; by default those that can run of the study's own."""
    if names is not None:
        return [methods.classical(name) for name in dict.fromkeys(names)]
    usual = _DEFAULT_METHODS[:1] if study in _REGISTER_ONLY else _DEFAULT_METHODS
    reasons = {name: methods.missing_package(name) for name in usual}
    for reason in filter(None, reasons.values()):
        _log.warning("%s", reason)
    return [methods.classical(name) for name in usual if not reasons[name]]
