"""Fixtures that several test files share."""

import os
import subprocess
import sys
from pathlib import Path

# Tests, and the commands that they start, share compiled programs; set before JAX is
# imported.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "jax"),
)
# As in commands; JAX itself keeps none of the quick ones.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

# The threads of ANTs and elastix sum in any order, and there is a process per core.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import jax
import jaxtyping
import numpy as np
import pytest

from helpers import array_types
from mdvit_jax.cli import startup

array_types.install()
jax.config.update(
    "jax_compilation_cache_dir",
    startup.folder_of_programs(os.environ["JAX_COMPILATION_CACHE_DIR"]),
)

_SHARED = Path(__file__).resolve().parents[2] / "shared"
_DATA = Path(os.environ.get("MDVIT_DATA", _SHARED / "data"))
_GOLDEN = Path(os.environ.get("MDVIT_GOLDEN", _SHARED / "golden"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with the public scans ds002748/ and oasis1_malf/."""
    if not (_DATA / "oasis1_malf").is_dir() or not (_DATA / "ds002748").is_dir():
        pytest.skip(f"no real scans in {_DATA}; MDVIT_DATA names another folder")
    return _DATA


@pytest.fixture(scope="session")
def whole_heads(real_data) -> Path:
    """The same folder, if it has the whole heads lhdata/ and open_ms/, too."""
    if not (real_data / "lhdata").is_dir() or not (real_data / "open_ms").is_dir():
        pytest.skip(f"no whole heads in {_DATA}; MDVIT_DATA names another folder")
    return real_data


@pytest.fixture
def unchecked_shapes():
    """Switch off the checks of shapes, to test a function's own message."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def golden_file() -> Path:
    """Weights and outputs of an independent PyTorch C2FViT on two small volumes."""
    path = _GOLDEN / "c2fvit_small.npz"
    if not path.is_file():
        pytest.skip(f"no golden values in {_GOLDEN}; MDVIT_GOLDEN names another folder")
    return path


@pytest.fixture(scope="session")
def golden(golden_file) -> dict[str, np.ndarray]:
    """The arrays of `golden_file` by name."""
    with np.load(golden_file) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def quick_compilation():
    """Compile without optimising, in the module's commands too.

    A tiny network of a few steps spends its time in the compiler, and the results are
    the same but for rounding. Registration computes more than it compiles: not for it.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        jax.clear_caches()  # or programs of other modules would be used
        yield
    jax.config.update("jax_disable_most_optimizations", before)
    jax.clear_caches()


@pytest.fixture(scope="module")
def shared_programs(quick_compilation):
    """The module's training runs in this process trace their programs once."""
    from helpers import traced_once

    with traced_once.shared_programs() as programs:
        yield programs


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> dict[str, str]:
    """`recorded_run.TINY` with its people in a cache, which commands read at once."""
    from helpers import people, recorded_run
    from mdvit_jax.config import load_config

    settings = recorded_run.TINY | {"data.cache": str(tmp_path_factory.mktemp("cache"))}
    people.fill(load_config(recorded_run.ROOT / "configs/default.py", settings))
    return settings


@pytest.fixture(scope="session")
def run_python():
    """Run a program in a new Python at the root; it must exit with 0."""

    def run(program: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            cwd=Path(__file__).resolve().parents[1],
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    return run
