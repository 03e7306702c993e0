"""The error in millimetres where the affine is known: beside the paper's Fig. 3.

A DSC that contrast does not change may still be of a wrong affine. Each scan is moved
by known affines, its contrast is changed, and it is aligned with itself.
"""

import numpy as np
import pandas as pd

from mdvit_jax.data import conform
from mdvit_jax.evaluation.methods import centres_of_mass
from mdvit_jax.plots import lines
from mdvit_jax.studies import perturbations, tables
from mdvit_jax.studies.compute import Setting, compute_records
from mdvit_jax.studies.loss_minimisation import minimise_loss
from mdvit_jax.studies.record import parse_matrix
from mdvit_jax.studies.report.section import Section, Table
from mdvit_jax.training import step

GAMMAS = (0.5, 0.7, 1.0, 1.5, 2.0)
_AFFINES = 2  # the same for each person; their errors are averaged first


def compute(setting: Setting) -> pd.DataFrame:
    """Networks, classical methods, both losses minimised without a network, and CoM.

    Returns:
        Records with the column `mm`, the mean distance over the brain from where a
        point belongs.
    """
    config, scans = setting.config, setting.scans
    minimised = [minimise_loss(step.with_loss(config, loss)) for loss in ("ntg", "ncc")]
    # Last, so that a method has the colour that it has in the other plots.
    methods = *setting.networks, *setting.classical, *minimised, centres_of_mass()
    records = compute_records(
        setting,
        methods,
        [one for gamma in GAMMAS for one in _affines(setting, gamma)],
        indices=[(index, index) for index in range(len(scans))],
    )
    records["mm"] = np.nan
    for index, subject in enumerate(scans.subjects):
        matrices = records.loc[records["moving"] == subject, "matrix"]
        matrices = matrices[matrices != ""]
        scan = scans[index]
        errors = [mean_displacement(parse_matrix(text), scan) for text in matrices]
        records.loc[matrices.index, "mm"] = errors
    return records


def report(setting: Setting, records: pd.DataFrame) -> Section:
    """Errors in mm over gamma, and those of NTG minus those of NCC."""
    records = tables.mean_over_seeds(records, setting.families)
    errors = {
        method: _by_gamma(setting, own)
        for method, own in records.groupby("method", sort=False)
    }
    heads = tuple(f"γ {gamma:g}" for gamma in GAMMAS)
    table = Table(
        ("Method", *heads),
        [(method, *_mean_errors(values)) for method, values in errors.items()],
        note=tables.exclusions(records),
    )
    differences = _differences(errors, heads)
    figure = lines.lines(
        {
            method: (np.array(GAMMAS), *tables.mean_and_error(values.to_numpy()))
            for method, values in errors.items()
        },
        title="Error on known affines",
        x_name="gamma of the moving image",
        y_name="error (mm)",
        x_ticks=GAMMAS,
        log_x=True,
        log_y=True,
    )
    text = (
        f"Each of {len(setting.scans)} scans moved by {_AFFINES} known affines "
        f"({perturbations.AFFINES}) and aligned with itself, the contrast of the moved "
        "one changed: mean distance over the brain from where a point belongs, in mm. "
        "Mean ± standard error over people, of each person the mean over the affines; "
        "bands: the same. “Minimised” is the loss itself, without a network, minimised "
        "from the centres of mass. Not in the paper, which reports the DSC alone."
    )
    title = "Known affines, in millimetres"
    return Section(title, text, [table, *differences], {"known_affine": figure})


def mean_displacement(matrix: np.ndarray, scan: conform.Conformed) -> float:
    """Mean distance in mm over the brain between a point and where it is moved to.

    Args:
        matrix: 4×4, normalised coordinates of the scan → of the same scan; the truth
            is the identity.
        scan: its mask is the brain.
    """
    shape = np.array(scan.mask.shape)
    points = (2 * np.argwhere(scan.mask > 0) + 1) / shape - 1  # normalised
    change = (matrix - np.eye(4))[:3]
    offsets = points @ change[:, :3].T + change[:, 3]
    voxel = np.linalg.norm(scan.to_world[:3, :3], axis=0)
    return float(np.linalg.norm(offsets * shape / 2 * voxel, axis=1).mean())


def _affines(setting: Setting, gamma: float) -> list[perturbations.Perturbation]:
    field_of_view = setting.config.data.field_of_view
    return [perturbations.affine(s, gamma, field_of_view) for s in range(_AFFINES)]


def _by_gamma(setting: Setting, records: pd.DataFrame) -> pd.DataFrame:
    """[people, gammas] of one method, people for whom nothing failed."""
    wide = records.pivot(index="moving", columns="perturbation", values="mm")
    means = {
        gamma: wide[[one.name for one in _affines(setting, gamma)]].mean(
            axis=1, skipna=False
        )
        for gamma in GAMMAS
    }
    return pd.DataFrame(means).dropna()


def _mean_errors(values: pd.DataFrame, sign: str = "") -> list[str]:
    means, spreads = tables.mean_and_error(values.to_numpy())
    return [f"{m:{sign}.2f} ± {e:.2f}" for m, e in zip(means, spreads, strict=True)]


def _differences(
    errors: dict[str, pd.DataFrame], heads: tuple[str, ...]
) -> list[Table]:
    """NTG against NCC on the same people, with and without a network."""
    rows = []
    for ntg, ncc in (
        ("NTG minimised", "NCC minimised"),
        ("C2FViT (NTG)", "C2FViT (NCC)"),
    ):
        if ntg in errors and ncc in errors:
            difference = (errors[ntg] - errors[ncc]).dropna()
            rows.append((f"{ntg} − {ncc}", *_mean_errors(difference, sign="+")))
    note = "On the same people, mean ± standard error; below 0 NTG is more exact."
    return [Table(("Difference in mm", *heads), rows, note=note)] if rows else []
