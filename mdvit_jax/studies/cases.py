"""Methods on pairs, under changes of the moving scan: what all studies are made of."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
import tqdm

from mdvit_jax import errors, losses
from mdvit_jax.data import conform, dataset
from mdvit_jax.data import pairs as of_data
from mdvit_jax.evaluation import scoring
from mdvit_jax.evaluation.methods import Method, centres_of_mass, initial
from mdvit_jax.studies import changes, results
from mdvit_jax.studies.case import Case

_log = logging.getLogger(__name__)


class Lacking(errors.UserError):
    """A study compares what this setting does not have."""


class Setting(NamedTuple):
    """What a study is done on.

    Attributes:
        config: the whole configuration; of it the cohort, the task and `evaluation`.
        scans: of the part that is evaluated.
        template: the fixed scan of the task "template"; else None.
        networks: trained ones.
        classical: methods that need no training.
        output: folder of the results.
        about: what the report says of all this, name → value.
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


def run(
    setting: Setting,
    methods: Sequence[Method],
    of_changes: Sequence[changes.Change] = (changes.NONE,),
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    seen: Callable | None = None,
) -> list[Case]:
    """Every method on every pair of the evaluated part under every change.

    Results that are kept in the output folder are not computed again. Where a method
    fails, its case has an error and no numbers, and the others go on.

    Args:
        pairs: of indices (fixed, moving); by default those of the task.
        seen: called with each case and its pair, the moving scan not turned.
    """
    config = setting.config
    kept = results.Results(setting.output / "results.jsonl")
    found: list[Case] = []
    warm: set[str] = set()
    scans = setting.scans
    if pairs is None:
        of_task = of_data.cases(scans.persons, config.data.task, config.seed)
        pairs = of_task.tolist()
    total = len(pairs) * len(of_changes) * len(methods)
    with tqdm.tqdm(total=total, unit="case", dynamic_ncols=True) as bar:
        for pair in scoring.pairs_of(pairs, scans, setting.template):
            fixed = results.digest(pair.fixed)
            for change in of_changes:
                bright = pair._replace(moving=change.brightness(pair.moving))
                given = pair._replace(moving=change.turned(bright.moving))
                moving = results.digest(given.moving)
                for method in methods:
                    bar.set_postfix_str(f"{method.name} {change.name}", refresh=False)
                    key = results.key(fixed, moving, method, config)
                    names = _Names(
                        method.name, pair.fixed_name, pair.moving_name, change.name
                    )
                    case = _kept(kept.get(key), names)
                    if case is None:
                        case = _case(
                            method, given, bright, change.back, names, config, warm
                        )
                        if not case.error:
                            kept.add(key, case)
                    found.append(case)
                    if seen:
                        seen(case, bright)
                    bar.update()
    return found


class _Names(NamedTuple):
    """Of a case: who aligned what."""

    method: str
    fixed: str
    moving: str
    change: str


def _kept(row: dict | None, names: _Names) -> Case | None:
    """The kept numbers under the names of today."""
    if row is None:
        return None
    return Case(**{**row, **names._asdict(), "matrix": tuple(row["matrix"])})


def _case(
    method: Method,
    given: scoring.Pair,
    bright: scoring.Pair,
    back: np.ndarray | None,
    names: _Names,
    config: ml_collections.ConfigDict,
    warm: set[str],
) -> Case:
    """Align a pair as it is given, and measure it in one interpolation.

    A turned scan is measured where it was before: its mask has been resampled once and
    would lose its edge the second time. The time is the method's own, from arrays to a
    matrix, without compilation.
    """
    told = names._asdict()
    try:
        if method.name not in warm:
            method.align(given.fixed, given.moving)
            warm.add(method.name)
        start = time.perf_counter()
        matrix = method.align(given.fixed, given.moving)
        seconds = time.perf_counter() - start
    except Exception as raised:  # whatever a method raises, the others go on
        error = f"{type(raised).__name__}: {raised}".replace("\n", " ")
        _log.warning(
            "%s failed on %s to %s: %s", names.method, names.moving, names.fixed, error
        )
        return Case(**told, dsc=np.nan, hd95=np.nan, jaccard=np.nan, error=error)
    if back is not None:
        matrix = back @ matrix
    warped, values = scoring.align(bright, matrix, config)
    likeness = _likeness(bright.fixed.image, warped.image)
    return Case(
        **told,
        **values,
        seconds=seconds,
        ntg=float(likeness[0]),
        ncc=float(likeness[1]),
        matrix=tuple(float(f"{n:.9g}") for n in np.ravel(matrix)),
    )


@jax.jit
def _likeness(fixed, warped):
    """NTG (Eq. 2) and the NCC loss of two volumes, on their whole grid."""
    return losses.ntg(fixed, warped), losses.ncc(fixed, warped)
