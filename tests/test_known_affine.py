"""The study of known affines, and the losses minimised without a network."""

import numpy as np
import pandas as pd
import pytest

from helpers import people
from mdvit_jax.data import conform, dataset
from mdvit_jax.evaluation import scoring
from mdvit_jax.studies import known_affine, perturbations, runner
from mdvit_jax.studies.compute import Setting


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study on two synthetic people at 32³: section, text and folder."""
    folder = tmp_path_factory.mktemp("known_affine")
    two = {"data__split": "(2, 2, 2)", "data__synthetic__people": "6"}
    config = people.config(data__size="32", loss__stride="1", **two)
    scans = dataset.open_part(config, "test")
    setting = Setting(config, scans, None, (), [], folder, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_affine, "GAMMAS", (1.0,))
        text = runner.run_study("known_affine", setting, command="python eval.py")
        records = pd.read_csv(folder / "known_affine.csv", dtype={"error": str})
        records = records.fillna({"error": ""})
        section = known_affine.report(setting, records)
    return section, records, folder, text


def errors_in_mm(records, method, perturbation) -> list[float]:
    """One for each person, in the order of their names."""
    rows = (records.method == method) & (records.perturbation == perturbation)
    return records[rows].sort_values("moving").mm.tolist()


def test_a_loss_finds_the_affine_of_equal_contrast(study):
    _, records, _, _ = study
    for name in ("affine 0", "affine 1"):
        start = errors_in_mm(records, "Initial (CoM)", name)
        assert len(start) == 2 and min(start) > 8
        assert max(errors_in_mm(records, "NTG minimised", name)) < 1
        assert max(errors_in_mm(records, "NCC minimised", name)) < 1


def test_the_error_is_over_people(study):
    section, records, _, text = study
    table, differences = section.tables
    assert [row[0] for row in table.rows] == [
        "NTG minimised",
        "NCC minimised",
        "Initial (CoM)",
    ]
    ntg, ncc = (
        np.mean(
            [errors_in_mm(records, method, f"affine {seed}") for seed in (0, 1)],
            axis=0,
        )
        for method in ("NTG minimised", "NCC minimised")
    )
    assert table.rows[0][1] == f"{ntg.mean():.2f} ± {ntg.std(ddof=1) / np.sqrt(2):.2f}"
    (row,) = differences.rows
    assert row[0] == "NTG minimised − NCC minimised"
    assert row[1].startswith(f"{(ntg - ncc).mean():+.2f} ± ")
    assert table.rows[0][1] in text


def test_the_files_of_the_study(study):
    _, records, folder, _ = study
    assert len(records) == 2 * 2 * 3 and "mm" in records  # people, affines, methods
    assert (folder / "known_affine.png").is_file()


def test_millimetres_are_those_of_the_world():
    """Voxels of 2, 3 and 4 mm, and a brain off the centre."""
    mask = np.zeros((8, 10, 12), np.uint8)
    mask[1:3, 2:7, 3:11] = 1
    to_world = np.diag([2.0, -3, 4, 1])
    scan = conform.Conformed(mask.astype(np.float32), mask, None, to_world)
    voxels = np.array([[1.1, 0.1, 0, 2], [0, 0.9, 0.2, -1], [0.1, 0, 1, 0.5]])
    inside = np.argwhere(mask)
    ends = inside @ voxels[:, :3].T + voxels[:, 3]
    distance = np.linalg.norm((ends - inside) * [2, 3, 4], axis=1).mean()
    # Normalised: (2 i + 1) / n − 1.
    to_normalised = np.diag([*2 / np.array(mask.shape), 1.0])
    to_normalised[:3, 3] = 1 / np.array(mask.shape) - 1
    matrix = (
        to_normalised @ np.vstack([voxels, [0, 0, 0, 1]]) @ np.linalg.inv(to_normalised)
    )
    assert known_affine.mean_displacement(matrix, scan) == pytest.approx(distance)


def test_a_known_affine_is_undone_by_its_inverse():
    random = np.random.default_rng(0)
    image = np.zeros((32, 32, 32), np.float32)
    blocks = random.random((4, 5, 4)).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    image[10:22, 8:23, 11:23] = blocks
    scan = conform.Conformed(image, (image > 0).astype(np.uint8), None, np.eye(4))
    perturbation = perturbations.affine(3, 2.0, 256.0)
    to_original = perturbation.to_original
    assert perturbation.name == "affine 3, gamma 2"
    assert np.array_equal(to_original, perturbations.affine(3, 1.0, 256.0).to_original)
    other = perturbations.affine(4, 2.0, 256.0).to_original
    assert not np.array_equal(to_original, other)
    moved = perturbation.move(scan)
    back = scoring.warp_scan(moved, np.linalg.inv(to_original), threshold=0.5)
    inside = back.mask & scan.mask
    assert inside.sum() > 0.9 * scan.mask.sum()
    assert np.corrcoef(back.image[inside > 0], image[inside > 0])[0, 1] > 0.9
