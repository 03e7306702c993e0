"""The start of a command: the folder of compiled programs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mdvit_jax.cli import startup
from mdvit_jax.io import processors

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import os, sys
import jax
from mdvit_jax.cli import startup
for user in map(int, sys.argv[1:]):  # once all is imported, which it may not read
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
startup.start()
def step(x):
    return x + 1
print(jax.jit(step)(1.0), jax.config.jax_compilation_cache_dir)
"""
NOBODY = 54321  # neither root, who may write anywhere, nor anyone with a home


def compute(*user, **environ):
    """Run the program in an environment; return its stdout and stderr."""
    kept = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, user)],
        cwd=ROOT,
        env={**kept, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **environ},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    value, folder = done.stdout.split()
    assert value == "2.0"
    return folder, done.stderr


THREADS = f"{processors.count()}_threads"


def entries(folder):
    return {path.name: path.read_bytes() for path in folder.glob("jit_step-*-cache")}


def test_programs_are_kept_in_the_users_cache(tmp_path):
    environ = {"HOME": str(tmp_path)}
    kept = str(tmp_path / ".cache/mdvit_jax" / THREADS)
    assert compute(**environ) == (kept, "")
    environ["XDG_CACHE_HOME"] = str(tmp_path / "xdg")
    assert compute(**environ) == (str(tmp_path / "xdg/mdvit_jax" / THREADS), "")


def test_programs_for_another_number_of_threads_are_kept_apart(tmp_path):
    environ = {"HOME": str(tmp_path), "NPROC": "7"}
    assert compute(**environ) == (str(tmp_path / ".cache/mdvit_jax/7_threads"), "")


@pytest.mark.parametrize(
    ("number", "folder"), [("3", "3_threads"), ("many", THREADS), ("", THREADS)]
)
def test_a_named_folder_has_one_for_each_number(monkeypatch, caplog, number, folder):
    assert startup.folder_of_programs("") == "", "no programs are kept"
    monkeypatch.setenv("NPROC", number)
    assert startup.folder_of_programs("gs://bucket/c") == f"gs://bucket/c/{folder}"
    assert not caplog.text


def test_a_damaged_program_is_replaced(tmp_path):
    environ = {"HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "c")}
    folder = tmp_path / "c" / THREADS
    assert compute(**environ) == (str(folder), "")
    ((name, whole),) = entries(folder).items()
    for length in (0, 100):
        (folder / name).write_bytes(whole[:length])
        _, printed = compute(**environ)
        assert printed == f"A damaged program in {folder} is compiled again.\n"
        assert len(entries(folder)[name]) > 100
    assert compute(**environ)[1] == ""


def test_a_file_in_place_of_the_cache_is_reported_once(tmp_path):
    (tmp_path / "file").write_text("mine")
    for environ in (
        {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "file")},
        {"XDG_CACHE_HOME": str(tmp_path / "file")},
    ):
        _, printed = compute(HOME=str(tmp_path), **environ)
        assert printed.startswith(f"Compiled programs cannot be kept in {tmp_path}/fi")
        assert printed.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_user_without_a_home_or_a_writable_cache(tmp_path):
    folder, printed = compute(NOBODY)
    assert printed == "" and not Path(folder).exists()  # one for the process only
    _, printed = compute(NOBODY, JAX_COMPILATION_CACHE_DIR=str(tmp_path))
    folder = tmp_path / THREADS
    assert printed.startswith(f"Compiled programs cannot be kept in {folder} (Perm")
    assert printed.count("\n") == 1
