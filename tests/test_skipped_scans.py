"""Unreadable scans are named once, and left out by all processes or by none."""

import logging

import jax
import pytest

from helpers.recorded_run import ROOT
from mdvit_jax import errors
from mdvit_jax.config import load_config
from mdvit_jax.data import skipped_scans
from mdvit_jax.training import setup


def test_each_scan_is_named_once_and_counted(caplog):
    # As `distributed.join` does in all processes but the first.
    caplog.set_level(logging.ERROR, "mdvit_jax")
    caplog.handler.setLevel(logging.NOTSET)
    batches = [{"unreadable": known} for known in ({}, {2: "C."}, {2: "D.", 0: "A."})]
    assert list(skipped_scans.warn(iter(batches), ("s0", "s1", "s2"))) == batches
    assert [record.getMessage() for record in caplog.records] == [
        "s2 cannot be read and is left out, 1 of 3 scans so far: C.",
        "s0 cannot be read and is left out, 2 of 3 scans so far: A.",
    ]


def test_processes_that_share_pairs_skip_no_scan(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    configs = [
        load_config(
            ROOT / "configs/default.py",
            {"data.skip_unreadable": value, "mesh.model": "2"},
        )
        for value in ("false", "true")
    ]
    setup.check_skipping(configs[0], 2)
    setup.check_skipping(configs[1], 4)
    with pytest.raises(errors.UserError, match="4 processes load the same 2 parts"):
        setup.check_skipping(configs[1], 2)
