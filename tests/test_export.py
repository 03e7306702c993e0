"""An exported network gives the same matrix in a program with JAX and flatbuffers."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import default
from helpers.run import untrained
from mdvit_jax import __main__, geometry
from mdvit_jax.models import weights_file

pytestmark = pytest.mark.usefixtures("quick_compilation")

# To be installed, and what comes with jax.
NEEDED = ("jax", "jaxlib", "flatbuffers", "numpy", "scipy", "ml_dtypes", "opt_einsum")
ALONE = """
import numpy as np
from jax import export
network = export.deserialize(open("network.jax", "rb").read())
fixed, moving = np.load("pair.npy")
np.save("matrix.npy", network.call(fixed, moving))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of one step, and its network with its parameters."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = default.get_config()
    config.workdir = str(folder)
    config.data.size = 32
    config.model.update(embedding=8, depth=1, dilations=(1,))
    config.model.update(patches=(3, 7), strides=(2, 4))  # quicker to compile
    return folder, *untrained(config)


def test_jax_and_flatbuffers_alone_run_it(run, tmp_path, capsys):
    folder, network, params = run
    words = ["export", "--checkpoint", str(folder)]
    words += ["--output", str(tmp_path / "network.jax")]
    assert __main__.main(words) == 0
    assert "32" in capsys.readouterr().out
    pair = np.random.default_rng(0).random((2, 1, 32, 32, 32)).astype(np.float32)
    pair[1, :, :9] = 0  # so that the centres of mass differ
    np.save(tmp_path / "pair.npy", pair)
    (tmp_path / "installed").mkdir()
    for name in NEEDED:
        package = Path(importlib.util.find_spec(name).origin).parent
        (tmp_path / "installed" / name).symlink_to(package)
    environ = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    alone = [sys.executable, "-S", "-c", ALONE]  # -S: nothing else that is installed
    subprocess.run(alone, cwd=tmp_path, env=environ, check=True)
    start_of = geometry.centre_shift(*pair)
    expected = jax.jit(network.apply)(params, *pair, initial=start_of).matrix
    result = np.load(tmp_path / "matrix.npy")
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert np.abs(result - np.eye(4)).max() > 0.1


def test_weights_alone_are_written(run, tmp_path):
    output = tmp_path / "network.safetensors"
    words = ["export", "--checkpoint", str(run[0]), "--output", str(output)]
    assert __main__.main(words) == 0
    saved = weights_file.load(output)
    assert (saved.network, saved.size) == (run[1], 32)
    for one, other in zip(*map(jax.tree.leaves, (saved.params, run[2])), strict=True):
        np.testing.assert_allclose(one, other, rtol=6e-4, atol=1e-7)


@pytest.mark.parametrize(("name", "file"), weights_file.PRETRAINED.items())
def test_the_weights_of_this_package_are_copied(tmp_path, capsys, name, file):
    output = tmp_path / "network.safetensors"
    words = ["export", "--checkpoint", name, "--output", str(output)]
    assert __main__.main(words) == 0
    assert output.read_bytes() == weights_file.pretrained_file(file).read_bytes()
    assert f"({name})" in capsys.readouterr().out


def test_an_existing_output_is_not_overwritten(run, tmp_path, capsys):
    (tmp_path / "network.jax").write_text("mine")
    words = ["export", "--checkpoint", str(run[0])]
    words += ["--output", str(tmp_path / "network.jax")]
    assert __main__.main(words) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "network.jax").read_text() == "mine"
    assert __main__.main([*words, "--overwrite"]) == 0
