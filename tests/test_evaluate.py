"""Evaluation of pairs with a known transform, and the table of a trained run."""

import csv
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from helpers.people import config
from mdvit_jax import errors, geometry, models
from mdvit_jax.data import conform, dataset, template
from mdvit_jax.evaluation import methods, scoring
from mdvit_jax.models import import_torch
from mdvit_jax.studies import runner

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = Path(__file__).resolve().parents[1]


def box(shift=0) -> conform.Conformed:
    """A brain of 8 × 10 × 12 voxels of 2 mm with two labels."""
    mask = np.zeros((24, 24, 24), np.uint8)
    mask[6 + shift : 14 + shift, 5:15, 4:16] = 1
    labels = mask.astype(np.int32)
    labels[6 + shift : 10 + shift] *= 2
    return conform.Conformed(
        mask.astype(np.float32), mask, labels, np.diag([2.0, 2, 2, 1])
    )


def shift_by(voxels: float) -> np.ndarray:
    matrix = np.eye(4, dtype=np.float32)
    matrix[0, 3] = voxels * 2 / 24
    return matrix


def test_a_known_shift_is_undone_exactly():
    fixed, moving = box(), box(shift=3)
    aligned = scoring.warp_scan(moving, shift_by(3), threshold=0.5)
    np.testing.assert_array_equal(aligned.mask, fixed.mask)
    np.testing.assert_array_equal(aligned.labels, fixed.labels)
    scores = scoring.score_overlap(fixed, aligned, {"a": (1,), "b": (2,)})
    assert scores["dsc"] == scores["jaccard"] == 1 and scores["hd95"] == 0
    assert scores["regions"] == {"a": 1.0, "b": 1.0}


def test_a_remaining_shift_is_measured_in_mm_or_voxels():
    fixed, moving = box(), box(shift=2)
    warped = scoring.warp_scan(moving, np.eye(4, dtype=np.float32), threshold=0.5)
    scores = scoring.score_overlap(fixed, warped, {"b": (2,)})
    assert scores["dsc"] == pytest.approx(6 / 8)
    assert scores["regions"]["b"] == pytest.approx(2 / 4)
    assert scores["hd95"] == pytest.approx(4)
    voxels = scoring.score_overlap(fixed, warped, {}, hausdorff_unit="voxels")
    assert voxels["hd95"] == pytest.approx(2) and voxels["regions"] == {}
    with pytest.raises(errors.UserError, match="hausdorff_unit"):
        scoring.score_overlap(fixed, warped, {}, hausdorff_unit="inch")


def test_the_authors_threshold_grows_the_mask():
    half = shift_by(3.25)
    ours = scoring.warp_scan(box(shift=3), half, threshold=0.5).mask
    theirs = scoring.warp_scan(box(shift=3), half, threshold=0.0).mask
    assert ours.sum() == box().mask.sum() and theirs.sum() > ours.sum()


def test_methods_place_the_centres():
    fixed, moving = box(), box(shift=3)
    np.testing.assert_array_equal(methods.initial().align(fixed, moving), np.eye(4))
    np.testing.assert_allclose(
        methods.centres_of_mass().align(fixed, moving), shift_by(3), atol=1e-6
    )


def test_only_labels_of_one_scheme_are_compared():
    assert set(scoring.compared_regions(config())) == {
        "cerebrospinal fluid", "grey matter", "white matter"
    }  # fmt: skip
    assert scoring.compared_regions(config(data__label_scheme="freesurfer")) == {}
    reference = config(data__label_scheme="freesurfer", data__task="reference")
    assert len(scoring.compared_regions(reference)) == 12
    assert scoring.compared_regions(config(data__label_scheme="")) == {}


def test_eval_names_a_folder_that_is_no_run(tmp_path):
    command = [sys.executable, "eval.py", "--config", "configs/quickstart.py"]
    run = subprocess.run(
        [*command, "--checkpoint", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert "is not the folder of a run" in run.stderr and run.stderr.count("\n") == 1


def test_eval_with_weights_of_pytorch_equals_the_library(golden_file, tmp_path):
    settings = config(
        data__size="32",
        model__dilated_form="none",
        model__embedding="32",
        model__depth="2",
        evaluation__pictures="0",
    )
    runner.run_studies(
        settings, checkpoints=[golden_file], output=tmp_path, command="python eval.py"
    )
    rows = list(csv.DictReader((tmp_path / "table1.csv").open()))
    rows = [row for row in rows if row["method"] == "C2FViT (PyTorch)"]

    settings.model.torch_coordinates = True
    params = import_torch.load(golden_file, settings)
    network = models.create(settings)
    align = jax.jit(network.apply)
    fixed_scan, _ = template.load(settings.data)
    fixed = fixed_scan.image[None]
    scans = dataset.open_part(settings, "test")
    assert len(rows) == len(scans) == 3
    for row, scan in zip(rows, scans, strict=True):
        moving = scan.image[None]
        start = geometry.centre_shift(fixed, moving)
        matrix = align(params, fixed, moving, initial=start).matrix[0]
        written = np.array(row["matrix"].split(), float).reshape(4, 4)
        np.testing.assert_allclose(written, matrix, atol=2e-6)
        assert np.abs(written - start[0]).max() > 0.1  # the weights were used
        pair = scoring.Pair(row["fixed"], row["moving"], fixed_scan, scan)
        _, values = scoring.warp_and_score(pair, np.asarray(matrix), settings)
        assert float(row["dsc"]) == pytest.approx(values["dsc"], abs=1e-6)


def test_weights_of_another_network_are_named(golden_file, tmp_path):
    with pytest.raises(errors.UserError, match="--output"):
        runner.run_studies(config(), checkpoints=[golden_file], command="")
    with pytest.raises(errors.UserError, match="squeeze_1.*this configuration"):
        runner.run_studies(
            config(), checkpoints=[golden_file], output=tmp_path, command=""
        )
