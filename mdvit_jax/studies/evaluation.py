"""What eval.py does: networks and methods by name → studies on one cohort."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import ml_collections

import mdvit_jax
from mdvit_jax import errors
from mdvit_jax.data import dataset, template
from mdvit_jax.evaluation import methods, regions, scoring
from mdvit_jax.studies import STUDIES, cases
from mdvit_jax.studies import run as studies
from mdvit_jax.training import pretrained

_log = logging.getLogger(__name__)

_USUAL = "register", "ants", "elastix"


def run(
    config: ml_collections.ConfigDict, options: argparse.Namespace, *, command: str
) -> str:
    """Run the studies that the command line of eval.py asks for; return their tables.

    Raises:
        UserError: networks, methods, data or values that cannot be used.
    """
    if config.evaluation.split not in ("train", "validation", "test"):
        raise errors.UserError(
            f'evaluation.split is "{config.evaluation.split}"; choose "train", '
            '"validation" or "test".'
        )
    if not options.checkpoint and not options.study:
        raise errors.UserError(
            "nothing to evaluate: name the folder of a run with --checkpoint, or "
            "studies of the classical methods with --study."
        )
    runs = [path for path in options.checkpoint if not path.is_file()]
    if not runs and not options.output:
        raise errors.UserError("name the folder of the results with --output.")
    asked = options.study or ["table1"]
    every = "all" in asked
    names = STUDIES if every else dict.fromkeys(asked)
    chosen = {name: _chosen(name, options) for name in names}
    networks = load(config, options.checkpoint)
    output = options.output or runs[0] / "evaluation"
    scans = dataset.open_part(config, config.evaluation.split)
    fixed, fixed_name = None, ""
    if config.data.task == "template":
        fixed, fixed_name = template.load(config.data)
    about = describe(config, scans, fixed_name, networks)
    setting = cases.Setting(config, scans, fixed, networks, [], output, about)
    texts = []
    for name in names:
        own = setting._replace(classical=chosen[name])
        try:
            texts.append(studies.run(name, own, command=command))
        except cases.Lacking as lacking:
            if not every:
                raise
            _log.warning("The study %s is left out: %s", name, lacking)
    return "\n\n".join([*texts, f"Written to {output}"])


def load(
    config: ml_collections.ConfigDict, runs: Sequence[Path]
) -> list[methods.Method]:
    """Trained networks as methods, with names that differ.

    Args:
        config: the network of weights that PyTorch wrote is that of `config.model`.
        runs: folders that training wrote, or files of PyTorch weights.

    Raises:
        UserError: no such run, or people whom it learned from would be tested.
    """
    trained = []
    for run in runs:
        if run.is_file():
            trained.append(pretrained.imported_network(config, run))
        else:
            pretrained.check_held_out(config, run)
            trained.append(pretrained.trained_network(run))
    found = []
    names = [network.name for network in trained]
    for run, network in zip(runs, trained, strict=True):
        name = network.name
        if names.count(name) > 1:
            name = f"{name}, {run.name}"
        about = f"{run}, {network.origin}"
        method = methods.network(name, network.network, network.params, about=about)
        found.append(method)
    return found


def describe(
    config: ml_collections.ConfigDict,
    scans: dataset.ScanDataset,
    template_name: str,
    networks: Sequence[methods.Method],
) -> dict[str, str]:
    """What a report says of the data, the networks and the program."""
    data, settings = config.data, config.evaluation
    compared = scoring.regions_of(config)
    missing = regions.missing(data.label_scheme) if compared else ()
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
        "regions that the labels lack": _lacking(compared, missing),
        "mdvit_jax": mdvit_jax.__version__,
    }


def _lacking(compared, missing: Sequence[str]) -> str:
    if not compared:
        return "all"
    if len(missing) == len(regions.PAPER_REGIONS):
        return "all of the paper's"
    return ", ".join(missing) or "none"


def _chosen(study: str, options: argparse.Namespace) -> list[methods.Method]:
    """The classical methods of a study; one whose package is missing is named."""
    if options.methods is not None:
        return [methods.classical(name) for name in options.methods]
    if not options.study:
        return []
    usual = _USUAL[:1] if study in studies.WITH_REGISTER else _USUAL
    found = []
    for name in usual:
        try:
            found.append(methods.classical(name))
        except errors.UserError as error:
            _log.warning("%s", error)
    return found
