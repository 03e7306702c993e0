"""Programs that are kept: traced once for each set of shapes and state of the code."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from mdvit_jax import register
from mdvit_jax.io import programs
from mdvit_jax.registration import DOF, refinement, similarity_metrics
from mdvit_jax.registration import register as register_module
from oracle import heads


class Pair(NamedTuple):
    one: Any
    other: Any


PAIR = Pair(np.arange(3, dtype=np.float32), np.ones(3, np.float32))


def add(pair, factor):
    return Pair(pair.one + factor * pair.other, pair.one.sum())


def must_not_be_traced(*arguments):
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


def test_a_program_is_prepared_and_read_once(folder):
    compute(add)
    program = programs.Program(must_not_be_traced, "add", (Pair,))
    program.prepare(Pair(*np.zeros((2, 3), np.float32)), 0.0)
    for file in folder.glob("add-*"):
        file.unlink()
    assert program(PAIR, np.float32(2)).other == 3
    assert program(PAIR, 2.0).other == 3


@pytest.mark.parametrize("dof", ["affine", "rigid"])
def test_a_registration_needs_what_is_prepared(monkeypatch, dof):
    """All of it, and nothing else but for the last step of a rigid one."""
    shape, affine = heads.grid(40, 5.0)
    scan = heads.head(shape, affine), affine
    every = *refinement._PROGRAMS.values(), similarity_metrics._comparison
    prepare = register_module._prepare_programs
    for thread in [thread for each in DOF for thread in prepare(each)]:
        thread.join()  # one of an earlier test may be at work
    for program in every:
        monkeypatch.setattr(program, "_loaded", {})
    prepare.cache_clear()
    for thread in prepare(dof):
        thread.join()
    prepared = [set(program._loaded) for program in every]
    first = register(scan, scan, dof=dof).matrix
    needed = [set(program._loaded) for program in every]
    rigid = DOF.index("rigid")
    assert len(needed[rigid]) == (dof == "rigid") and not prepared[rigid]
    del needed[rigid], prepared[rigid]
    assert needed == prepared and sum(map(len, needed)) == 4 + (dof == "rigid")
    # In another process nothing would be traced.
    for program in every:
        monkeypatch.setattr(program, "_loaded", {})
        monkeypatch.setattr(program, "_jitted", jax.jit(must_not_be_traced))
    np.testing.assert_array_equal(register(scan, scan, dof=dof).matrix, first)
