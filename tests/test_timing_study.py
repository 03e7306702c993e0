"""The study of training time, on a network that compiles quickly."""

import pytest

from helpers import people
from mdvit_jax.data import dataset, template
from mdvit_jax.studies import timing
from mdvit_jax.studies.compute import Setting

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = {
    "data__size": "16",
    "model__dilated_form": "none",
    "model__embedding": "8",
    "model__depth": "1",
    "model__patches": "(3,)",
    "model__strides": "(4,)",
    "loss__stride": "1",
    "loss__levels": "1",
    "loss__windows": "(7,)",
}


def test_training_steps_are_timed_with_both_losses(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "_ROUNDS", 1)
    monkeypatch.setattr(timing, "_STEPS", 1)
    config = people.config(**SMALL)
    scans, fixed = dataset.open_part(config, "test"), template.load(config.data)[0]
    setting = Setting(config, scans, fixed, (), (), tmp_path, {})
    records = timing.compute(setting)
    assert records.loss.tolist() == ["NTG", "NCC"] * 2
    assert records["round"].tolist() == [0, 0, 1, 1]
    rows = timing.report(setting, records).tables[0].rows
    assert [row[0] for row in rows] == ["NTG", "NCC"]
    assert [row[2] for row in rows] == [f"{s:.3f}" for s in records.seconds[2:]]
