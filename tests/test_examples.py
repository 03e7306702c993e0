"""The notebooks of examples/ run from top to bottom, and their asserts hold."""

from pathlib import Path

import jax
import nbclient
import nbformat
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem
)
def test_a_notebook_runs(path, monkeypatch):
    # The folder that the tests' own compiled programs are in.
    programs = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", programs)
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": EXAMPLES.parent}}
    )
    client.execute()
    assert not any(cell.get("outputs") for cell in nbformat.read(path, 4).cells), (
        "the notebook is kept without outputs"
    )
