"""How far off in millimetres, where the affine is known: beside the paper's Fig. 3.

A DSC that contrast does not change may still be of a wrong affine. Each scan is moved
by affines that are known, its contrast is changed, and it is aligned with itself.
"""

import dataclasses

import numpy as np

from mdvit_jax.evaluation import scoring
from mdvit_jax.evaluation.methods import centres_of_mass
from mdvit_jax.plots import lines as plots
from mdvit_jax.studies import cases, changes, contrast, tables
from mdvit_jax.studies.case import Case, by, matrix_of
from mdvit_jax.studies.minimised import minimised
from mdvit_jax.studies.section import Section, Table
from mdvit_jax.training import step

GAMMAS = (0.5, 0.7, 1.0, 1.5, 2.0)
_AFFINES = 2  # the same for each person; their errors are averaged first


def run(setting: cases.Setting) -> tuple[Section, list[Case]]:
    """Networks, classical methods, both losses minimised without a network, and CoM."""
    config = setting.config
    losses = [minimised(step.with_loss(config, name)) for name in ("ntg", "ncc")]
    # Last, so that a method has the colour that it has in the other plots.
    methods = *setting.networks, *setting.classical, *losses, centres_of_mass()
    moves = [
        changes.known_affine(seed, gamma, config.data.field_of_view)
        for gamma in GAMMAS
        for seed in range(_AFFINES)
    ]
    found: list[Case] = []

    def seen(case: Case, pair: scoring.Pair) -> None:
        apart = np.nan if case.error else millimetres(case, pair)
        found.append(dataclasses.replace(case, mm=apart))

    itself = [(index, index) for index in range(len(setting.scans))]
    cases.run(setting, methods, moves, pairs=itself, seen=seen)
    of_method = {method: _of_people(own) for (method,), own in by(found, "method")}
    table = Table(
        ("Method", *(f"γ {gamma:g}" for gamma in GAMMAS)),
        [(method, *_texts(values)) for method, values in of_method.items()],
        tables.left_out(found),
    )
    lines = {
        method: (np.array(GAMMAS), *contrast.mean_and_error(values))
        for method, values in of_method.items()
    }
    figure = plots.lines(
        lines,
        title="Error of affines that are known",
        x_name="gamma of the moving image",
        y_name="error (mm)",
        x_ticks=GAMMAS,
        log_x=True,
        log_y=True,
    )
    text = (
        f"Each of {len(setting.scans)} scans moved by {_AFFINES} known affines "
        f"({changes.KNOWN_AFFINE}) and aligned with itself, the contrast of the moved "
        "one changed: mean distance over the brain from where a point belongs, in mm. "
        "Mean ± standard error over people, of each person the mean over the affines; "
        "bands: the same. “Minimised” is the loss itself, without a network, descended "
        "from the centres of mass. Not in the paper, which reports the DSC alone."
    )
    pairs = _differences(of_method)
    section = Section(
        "known_affine",
        "Known affines, in millimetres",
        text,
        [table, *pairs],
        {"known_affine": figure},
    )
    return section, found


def millimetres(case: Case, pair: scoring.Pair) -> float:
    """Mean distance over the brain from where a point belongs.

    The matrix leads back to the scan before it was moved, which is the fixed one: the
    truth is the identity.
    """
    inside = np.argwhere(pair.fixed.mask > 0)
    shape = np.array(pair.fixed.mask.shape)
    points = (2 * inside + 1) / shape - 1  # normalised
    apart = (matrix_of(case).astype(np.float64) - np.eye(4))[:3]
    offsets = points @ apart[:, :3].T + apart[:, 3]
    voxel = np.linalg.norm(pair.fixed.to_world[:3, :3], axis=0)
    return float(np.linalg.norm(offsets * shape / 2 * voxel, axis=1).mean())


def _of_people(own: list[Case]) -> np.ndarray:
    """[people, gammas] of one method, those of whom nothing failed."""
    rows = []
    for _, of_person in by(own, "moving"):
        # In the order in which they were made: all affines of a gamma, then the next.
        values = np.array([case.mm for case in of_person])
        rows.append(values.reshape(len(GAMMAS), _AFFINES).mean(axis=1))
    values = np.array(rows)
    return values[np.isfinite(values).all(axis=1)]


def _texts(values: np.ndarray, sign: str = "") -> list[str]:
    means, spreads = contrast.mean_and_error(values)
    return [f"{m:{sign}.2f} ± {e:.2f}" for m, e in zip(means, spreads, strict=True)]


def _differences(of_method: dict[str, np.ndarray]) -> list[Table]:
    """NTG against NCC of the same people, with and without a network."""
    rows = []
    for one, other in (
        ("NTG minimised", "NCC minimised"),
        ("C2FViT (NTG)", "C2FViT (NCC)"),
    ):
        mine, theirs = of_method.get(one), of_method.get(other)
        if mine is not None and theirs is not None and len(mine) == len(theirs):
            rows.append((f"{one} − {other}", *_texts(mine - theirs, sign="+")))
    heads = "Difference in mm", *(f"γ {gamma:g}" for gamma in GAMMAS)
    note = "Of the same people, mean ± standard error; below 0 NTG is the more exact."
    return [Table(heads, rows, note)] if rows else []
