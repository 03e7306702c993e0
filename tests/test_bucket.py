"""A run's folder in a bucket, held by an emulator of Google Cloud Storage."""

import os

import gcsfs.retry
import jax
import numpy as np
import pytest
from etils import epath
from gcp_storage_emulator import server as emulator

from helpers.recorded_run import TINY, free_port
from helpers.run import final_bytes
from mdvit_jax import errors
from mdvit_jax.config import read_config
from mdvit_jax.training import checkpoint, loop, metrics_log, pretrained
from test_checkpoint import resume, save, write_scores
from test_loop import signal_when
from test_survival import config

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture(scope="module")
def bucket():
    """The address of an empty bucket, for epath (gcsfs) and for TensorStore."""
    address = "127.0.0.1", free_port()
    url = "http://{}:{}".format(*address)
    settings = {
        "STORAGE_EMULATOR_HOST": url,
        "TENSORSTORE_GCS_HTTP_URL": url,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        "NO_GCE_CHECK": "true",
        "no_proxy": "127.0.0.1",
    }
    server = emulator.create_server(*address, in_memory=True, default_bucket="bucket")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        # It cannot move objects: gcsfs copies them, after 12 s of asking again.
        patch.setattr(gcsfs.retry, "is_retriable", lambda error: False)
        server.start()
        yield "gs://bucket"
        server.stop()


@pytest.fixture
def workdir(bucket, request):
    return epath.Path(bucket) / request.node.name


def test_checkpoints_in_a_bucket(workdir, caplog):
    save(workdir, 1, 2)
    (workdir / "checkpoints/2/params/_METADATA").write_text("")
    (workdir / "checkpoints/3/params/d").mkdir(parents=True)
    (workdir / "checkpoints/3/params/d/0").write_text("a save that was killed")
    with checkpoint.Checkpoints(workdir, keep=None) as saved:
        assert saved.steps() == [1, 2]
    caplog.clear()
    assert resume(workdir) == 1
    unfinished, damaged = (
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("mdvit_jax")
    )
    assert "checkpoints/3: removed the unfinished save" in unfinished
    assert "2.damaged" in damaged
    write_scores(workdir, s1=0.9)
    save(workdir, 4, 5, keep=1)
    names = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    assert names == ["1", "2.damaged", "5"]
    with checkpoint.Checkpoints(workdir, keep=None) as saved:
        assert (saved.best, saved.latest) == (1, 5)


def test_a_run_in_a_bucket_is_the_run_on_a_disk(tiny, workdir, tmp_path, monkeypatch):
    """Stopped in the middle, started again, and evaluated."""
    settings = tiny | {"optim.steps": "4", "validation.every": "2"}
    assert loop.train(config(tmp_path / "disk", settings)) == 0
    signal_when(
        monkeypatch, metrics_log.MetricsLog, "write", lambda _, step, __: step == 2
    )
    assert loop.train(config(workdir, settings)) == 143
    monkeypatch.undo()
    assert loop.train(config(workdir, settings)) == 0
    record = (tmp_path / "disk/metrics.jsonl").read_text()
    assert (workdir / "metrics.jsonl").read_text() == record
    assert final_bytes(workdir) == final_bytes(tmp_path / "disk")
    names = {path.name for path in (tmp_path / "disk").iterdir()}
    others = {path.name for path in workdir.iterdir()}
    assert others == names - {".lock", "tensorboard"}
    assert (workdir / "curves.png").read_bytes()[1:4] == b"PNG"
    pictures = sorted(path.name for path in (workdir / "validation").iterdir())
    assert pictures == ["0000002.png", "0000004.png"]
    runs = os.fspath(workdir), tmp_path / "disk"
    one, other = (pretrained.trained_network(run) for run in runs)
    assert one.origin == other.origin
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    with pytest.raises(errors.UserError, match=r"holds a run with optim.lr"):
        loop.train(config(workdir, settings | {"optim.lr": "1"}))


@pytest.mark.parametrize("folder", ["s3://bucket/run", "nowhere://bucket/run"])
def test_an_unreachable_bucket_is_one_sentence(folder):
    """Without the package of its service, or of no service."""
    with pytest.raises(errors.UserError, match=rf"^The bucket of {folder} cannot be"):
        loop.train(config(folder, TINY))
    with pytest.raises(errors.UserError, match=rf"^The bucket of {folder} cannot be"):
        read_config(folder)
