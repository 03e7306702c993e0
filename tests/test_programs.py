"""Programs that are kept: traced once for each set of shapes and state of the code."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from mdvit_jax import register
from mdvit_jax.registration import programs, search, similarity_metrics
from oracle import heads


class Pair(NamedTuple):
    one: Any
    other: Any


PAIR = Pair(np.arange(3, dtype=np.float32), np.ones(3, np.float32))


def add(pair, factor):
    return Pair(pair.one + factor * pair.other, pair.one.sum())


def must_not_be_traced(pair, factor):
    raise AssertionError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "programs"))
    yield tmp_path / "programs"
    jax.config.update("jax_compilation_cache_dir", before)


def compute(function, pair=PAIR):
    program = programs.Program(function, "add", (Pair,))
    result = program(pair, np.float32(2))
    np.testing.assert_array_equal(result.one, pair.one + 2 * pair.other)
    assert result.other == pair.one.sum()


def test_a_program_is_traced_once(folder):
    compute(add)
    compute(must_not_be_traced)
    with pytest.raises(AssertionError):  # of another shape
        compute(must_not_be_traced, Pair(*[np.ones(4, np.float32)] * 2))


def test_other_code_and_damaged_files_are_traced_again(folder, monkeypatch):
    compute(add)
    (file,) = folder.glob("add-*-traced")
    file.write_bytes(file.read_bytes()[:100])
    compute(add)
    compute(must_not_be_traced)
    monkeypatch.setattr(programs, "_code", lambda: "changed")
    with pytest.raises(AssertionError):
        compute(must_not_be_traced)


def test_without_a_folder_nothing_is_kept(tmp_path, folder):
    for place in (None, "gs://bucket/programs", str(tmp_path / "file" / "programs")):
        (tmp_path / "file").write_text("mine")
        jax.config.update("jax_compilation_cache_dir", place)
        compute(add)
        with pytest.raises(AssertionError):
            compute(must_not_be_traced)


def test_preloading_loads_what_is_kept_only(folder):
    shapes = jax.tree.map(programs.array_shape, (PAIR, np.float32(2)))
    program = programs.Program(must_not_be_traced, "add", (Pair,))
    program.preload(*shapes)
    compute(add)
    program.preload(*shapes)
    assert program(PAIR, np.float32(2)).other == 3


def test_registration_preloads_what_it_computes(monkeypatch):
    """Of two images in one orientation, so that a command need not wait for it."""
    loaded, called = set(), set()
    load = programs.Program._load

    def preload(self, *shapes):
        loaded.add((self._name, str(shapes)))

    def record(self, shapes):
        called.add((self._name, str(shapes)))
        return load(self, shapes)

    monkeypatch.setattr(programs.Program, "preload", preload)
    monkeypatch.setattr(programs.Program, "_load", record)
    search.preload("affine")
    similarity_metrics.preload()
    shape, affine = heads.grid(40, 5.0)
    scan = heads.head(shape, affine), affine
    register(scan, scan)
    assert called and called <= loaded
