"""Where scans for training lie in MNI152: by `register`, in a file, for a run."""

import json
import logging
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import default
from helpers import people
from mdvit_jax import __main__, errors, geometry
from mdvit_jax.data import cache, conform_cohort, dataset, pairs, synthetic_cohort
from mdvit_jax.data import template as templates
from mdvit_jax.evaluation import methods
from mdvit_jax.training import setup, template_affines


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Three people made from MNI152 in voxels of 8 mm, two of them for training."""
    config = default.get_config()
    config.data.layout = "synthetic"
    config.data.synthetic.people = 3
    config.data.synthetic.deformation = 0.0
    config.data.split = (2, 1, 0)
    config.data.size = 32
    config.data.cache = str(tmp_path_factory.mktemp("cache"))
    config.loss.people = True
    config.loss.known = 0.05
    people.fill(config)
    return config


@pytest.fixture(scope="module")
def prepared(config):
    template_affines.prepare(config)
    return config


def files(config) -> list[Path]:
    scans = dataset.open_part(config, "train").scans
    return [cache.scan_folder(scan, config) / "to_template.json" for scan in scans]


def test_a_person_lies_where_it_was_made(prepared):
    scans = dataset.open_part(prepared, "train")
    mni152, _ = templates.load(prepared.data)
    matrices = template_affines.read(scans, mni152)
    assert matrices.dtype == np.float32 and matrices.shape == (3, 4, 4)
    half = prepared.data.field_of_view / 2
    for matrix, scan, conformed in zip(matrices, scans.scans, scans, strict=False):
        person = synthetic_cohort.generate(
            prepared.data, int(scan.image.name), prepared.seed
        )
        brain = np.argwhere(conformed.mask)
        world = brain @ conformed.to_world[:3, :3].T + conformed.to_world[:3, 3]
        truth = np.linalg.inv(person.template_to_person)
        expected = world @ truth[:3, :3].T + truth[:3, 3]
        normalised = (2 * brain + 1) / prepared.data.size - 1
        places = half * (normalised @ matrix[:3, :3].T + matrix[:3, 3])
        off = np.linalg.norm(places - expected, axis=1)
        assert off.mean() < 0.5 and off.max() < 1.5
    # The template is its own, with its middle at x = 0.
    inside = np.argwhere(mni152.mask)
    normalised = (2 * inside + 1) / prepared.data.size - 1
    matrix = matrices[pairs.TEMPLATE]
    places = half * (normalised @ matrix[:3, :3].T + matrix[:3, 3])
    world = inside @ mni152.to_world[:3, :3].T + mni152.to_world[:3, 3]
    np.testing.assert_allclose(places, world, atol=1e-3)
    assert abs(places[:, 0].mean()) < 0.5


def test_what_is_there_stays(prepared, monkeypatch):
    before = [path.stat().st_mtime_ns for path in files(prepared)]
    monkeypatch.setattr(methods, "classical", lambda name: pytest.fail(name))
    template_affines.prepare(prepared)
    assert [path.stat().st_mtime_ns for path in files(prepared)] == before


def test_the_command_prepares_them(prepared, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(conform_cohort, "conform_cohort", lambda config: 1)
    monkeypatch.setattr(template_affines, "prepare", done.append)
    words = ["prepare", "--config", "configs/default.py", "--config.data.cache=x"]
    assert __main__.main([*words, "--config.loss.people=True"]) == 1
    assert [config.data.cache for config in done] == ["x"]
    assert __main__.main(words) == 1 and len(done) == 1


def test_a_wrong_answer_is_not_known(prepared, monkeypatch):
    path = files(prepared)[0]
    kept = path.read_bytes()
    path.unlink()
    away = np.eye(4)
    away[0, 3] = 0.5
    wrong = methods.Method("register", lambda fixed, moving: away, "")
    monkeypatch.setattr(methods, "classical", lambda name: wrong)
    template_affines.prepare(prepared)
    assert json.loads(path.read_text()) is None
    matrices = template_affines.read(dataset.open_part(prepared, "train"))
    assert np.isnan(matrices[0]).all() and np.isfinite(matrices[1]).all()
    assert np.isnan(matrices[pairs.TEMPLATE]).all()  # no template is in use
    path.write_bytes(kept)


@pytest.mark.parametrize("text", [None, "", "[1, 2]", "{"])
def test_a_missing_or_damaged_file_is_named(prepared, text):
    path = files(prepared)[1]
    kept = path.read_bytes()
    path.unlink()
    if text is not None:
        path.write_text(text)
    message = r"to_template.json, which loss.people needs.*prepare"
    with pytest.raises(errors.UserError, match=message):
        template_affines.read(dataset.open_part(prepared, "train"))
    path.write_bytes(kept)


def test_what_cannot_be_used_is_refused(prepared, caplog):
    caplog.set_level(logging.ERROR)
    changed = prepared.copy_and_resolve_references()
    changed.data.cache = ""
    with pytest.raises(errors.UserError, match="loss.people needs a cache"):
        template_affines.read(dataset.open_part(changed, "train"))
    changed = prepared.copy_and_resolve_references()
    changed.loss.known, changed.data.task = 0.0, "template"
    with pytest.raises(errors.UserError, match=r"loss.people .* loss.known"):
        setup.create(changed, Path("none"))


def test_the_affine_of_two_people_follows(prepared):
    """From where both lie: the person made from the template, onto the other one."""
    scans = dataset.open_part(prepared, "train")
    one, other, _ = template_affines.read(scans)
    matrix = np.linalg.inv(other) @ one
    mask, fixed = (np.asarray(s.mask, np.float32) for s in (scans[1], scans[0]))
    warped = np.asarray(jax.jit(geometry.warp_affine)(mask, matrix)) >= 0.5
    shared = 2 * (warped & (fixed > 0)).sum() / (warped.sum() + fixed.sum())
    assert shared > 0.95
