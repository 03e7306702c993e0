"""Methods on pairs under perturbations of the moving scan: the records of all studies.

Records that are kept in the output folder are not computed again.
"""

import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
import pandas as pd
import tqdm

from mdvit_jax import errors, losses
from mdvit_jax.data import conform, dataset, pairs
from mdvit_jax.evaluation import scoring
from mdvit_jax.evaluation.methods import Method, centres_of_mass, initial
from mdvit_jax.studies import results
from mdvit_jax.studies.perturbations import UNPERTURBED, Perturbation
from mdvit_jax.studies.record import Record, tabulate

_log = logging.getLogger(__name__)


class NotApplicable(errors.UserError):
    """A study cannot be done with this setting."""


class Setting(NamedTuple):
    """The data and the methods of a study.

    Attributes:
        config: the whole configuration; the cohort, the task and `evaluation` are used.
        scans: the part of the cohort that is evaluated.
        template: the fixed scan of the task "template"; else None.
        networks: trained ones.
        classical: methods that need no training.
        output: folder of the results.
        about: description for the report, name → value.
    """

    config: ml_collections.ConfigDict
    scans: dataset.ScanDataset
    template: conform.Conformed | None
    networks: Sequence[Method]
    classical: Sequence[Method]
    output: Path
    about: dict[str, str]

    @property
    def methods(self) -> tuple[Method, ...]:
        """The rows of Table 1."""
        return initial(), centres_of_mass(), *self.classical, *self.networks

    @property
    def families(self) -> dict[str, str]:
        """Network → what it has in common with those that another seed made."""
        return {n.name: n.family for n in self.networks if n.family}


def compute_records(
    setting: Setting,
    methods: Sequence[Method],
    perturbations: Sequence[Perturbation] = (UNPERTURBED,),
    *,
    indices: Sequence[tuple[int, int]] | None = None,
) -> pd.DataFrame:
    """Evaluate every method on every pair under every perturbation.

    Where a method fails, its record has an error and no numbers, and the others go on.

    Args:
        setting: the scans, and the folder where results are kept.
        methods: the rows.
        perturbations: of the moving scans.
        indices: (fixed, moving) of the pairs; by default those of the task.

    Returns:
        A table as `record.tabulate` makes it.
    """
    config, scans = setting.config, setting.scans
    if indices is None:
        indices = pairs.cases(scans.persons, config.data.task, config.seed).tolist()
    kept = results.ResultsFile(setting.output / "results.jsonl")
    records: list[Record] = []
    compiled: set[str] = set()
    total = len(indices) * len(perturbations) * len(methods)
    with tqdm.tqdm(total=total, unit="case", dynamic_ncols=True) as bar:
        for pair in scoring.load_pairs(indices, scans, setting.template):
            fixed_hash = results.hash_scan(pair.fixed)
            for perturbation in perturbations:
                recoloured = pair._replace(moving=perturbation.recolour(pair.moving))
                moved = perturbation.move(recoloured.moving)
                moving_hash = results.hash_scan(moved)
                for method in methods:
                    bar.set_postfix_str(f"{method.name} {perturbation.name}", False)
                    key = results.hash_case(fixed_hash, moving_hash, method, config)
                    row = kept.get(key)
                    if row is None:
                        record = evaluate_pair(
                            *(method, recoloured, moved, perturbation.to_original),
                            config=config,
                            warm_up=method.name not in compiled,
                        )
                        if not record.error:
                            compiled.add(method.name)
                            kept.add(key, dataclasses.asdict(record))
                    else:
                        record = Record(**row)
                    record = dataclasses.replace(
                        record,
                        method=method.name,
                        fixed=pair.fixed_name,
                        moving=pair.moving_name,
                        perturbation=perturbation.name,
                    )
                    records.append(record)
                    bar.update()
    return tabulate(records)


def evaluate_pair(
    method: Method,
    pair: scoring.Pair,
    moved: conform.Conformed,
    to_original: np.ndarray | None,
    *,
    config: ml_collections.ConfigDict,
    warm_up: bool,
) -> Record:
    """Align a fixed and a moved scan, and score the result in one interpolation.

    A moved scan is scored at its original place: its mask has been resampled once, and
    a second time would blur it. The time is the method's own, from arrays to a matrix.

    Args:
        method: what aligns.
        pair: the scans, the moving one before it was moved.
        moved: the moving scan as the method gets it.
        to_original: 4×4, normalised coordinates of `moved` → of `pair.moving`; None
            where they are the same.
        config: as in `scoring.warp_and_score`.
        warm_up: align once before the timed run, to compile.

    Returns:
        Without a perturbation; with an error where the method failed.
    """
    names = method.name, pair.fixed_name, pair.moving_name, ""
    try:
        if warm_up:
            method.align(pair.fixed, moved)
        start = time.perf_counter()
        matrix = method.align(pair.fixed, moved)
        seconds = time.perf_counter() - start
    except Exception as error:  # whatever a method raises, the others go on
        text = f"{type(error).__name__}: {error}".replace("\n", " ")
        _log.warning("%s failed on %s and %s: %s", *names[:3], text)
        return Record(*names, error=text)
    if to_original is not None:
        matrix = to_original @ matrix
    warped, scores = scoring.warp_and_score(pair, matrix, config)
    ntg, ncc = _dissimilarities(pair.fixed.image, warped.image)
    return Record(
        *names,
        **scores,
        seconds=seconds,
        ntg=float(ntg),
        ncc=float(ncc),
        matrix=tuple(float(f"{number:.9g}") for number in np.ravel(matrix)),
    )


@jax.jit
def _dissimilarities(fixed, warped):
    """NTG (Eq. 2) and the NCC loss of two volumes, on their whole grid."""
    return losses.ntg(fixed, warped), losses.ncc(fixed, warped)
