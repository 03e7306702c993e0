"""Programs that are kept: traced once for each set of shapes and state of the code."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from mdvit_jax import register
from mdvit_jax.io import programs
from mdvit_jax.registration import refinement, similarity_metrics
from mdvit_jax.registration import register as register_module
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


def test_of_several_threads_one_traces(folder):
    """A trace that fails leaves the program usable."""
    traces = []

    def add_or_fail(pair, factor):
        traces.append(pair)
        if len(traces) == 1:
            raise RuntimeError
        return add(pair, factor)

    program = programs.Program(add_or_fail, "add", (Pair,))
    with pytest.raises(RuntimeError):
        program(PAIR, np.float32(2))
    meeting = threading.Barrier(4)

    def call(factor):
        meeting.wait()
        return program(PAIR, np.float32(factor)).one

    with ThreadPoolExecutor(4) as threads:
        for factor, one in enumerate(threads.map(call, range(4))):
            np.testing.assert_array_equal(one, PAIR.one + factor * PAIR.other)
    assert len(traces) == 2


def test_other_code_and_damaged_files_are_traced_again(folder, monkeypatch):
    compute(add)
    (file,) = folder.glob("add-*")
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


def test_preloading_loads_what_is_kept(folder):
    program = programs.Program(must_not_be_traced, "add", (Pair,))
    program.preload()  # nothing
    compute(add)
    (folder / f"add-{programs._code()}-damaged").write_text("")
    program.preload()
    for file in folder.glob("add-*"):
        file.unlink()
    assert program(PAIR, np.float32(2)).other == 3
    assert program(PAIR, 2.0).other == 3


def test_a_second_registration_traces_nothing(monkeypatch):
    """What the first one kept is loaded before the second one aligns."""
    shape, affine = heads.grid(40, 5.0)
    scan = heads.head(shape, affine), affine
    every = refinement._program, register_module._preload
    for cached in every:
        cached.cache_clear()
    monkeypatch.setattr(similarity_metrics._comparison, "_loaded", {})
    first = register(scan, scan).matrix
    for cached in every:
        cached.cache_clear()
    monkeypatch.setattr(similarity_metrics._comparison, "_loaded", {})
    monkeypatch.setattr(programs.Program, "_read_or_trace", must_not_be_traced)
    np.testing.assert_array_equal(register(scan, scan).matrix, first)
    for cached in every:
        cached.cache_clear()
