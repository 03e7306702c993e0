"""The record of a run that was interrupted."""

import json
import logging
import os
from pathlib import Path

import pytest

from mdvit_jax.training import metrics_log


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_after_the_checkpoint_are_dropped_when_a_run_goes_on(tmp_path):
    with metrics_log.MetricsLog(tmp_path, from_step=0) as record:
        for step in range(1, 6):
            record.write(step, {"loss": step / 10})
            if step == 3:
                record.write(step, {"dsc": 0.5})
    with record.path.open("a") as file:
        file.write('{"step": 3, "lo')  # cut short by a kill
    with metrics_log.MetricsLog(tmp_path, from_step=3) as record:
        record.write(4, {"loss": 0.7})
    kept = rows(record.path)
    assert [row["step"] for row in kept] == [1, 2, 3, 3, 4]
    assert kept[-1] == {"step": 4, "loss": 0.7}


def test_a_new_run_begins_empty(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1}\n')
    with metrics_log.MetricsLog(tmp_path / "new", from_step=0) as record:
        pass
    assert rows(record.path) == []
    with metrics_log.MetricsLog(tmp_path, from_step=0) as record:
        pass
    assert rows(record.path) == []


@pytest.mark.parametrize(
    "odd",
    [
        b"[1, 2]",
        b'{"loss": 1}',
        b'{"step": "x',
        b"\xf7\x00{\n\xff",
        bytes(300),
        b"\n\n",
    ],
)
@pytest.mark.parametrize("place", [0, 2, 3])
def test_lines_that_are_no_rows_are_dropped(tmp_path, caplog, odd, place):
    with metrics_log.MetricsLog(tmp_path, from_step=0) as record:
        for step in (1, 2, 3):
            record.write(step, {"loss": step / 10})
    lines = record.path.read_bytes().splitlines(keepends=True)
    end = b"\n" if place < 3 else b""
    record.path.write_bytes(b"".join([*lines[:place], odd + end, *lines[place:]]))
    assert not metrics_log.is_validated(tmp_path, 2)
    with metrics_log.MetricsLog(tmp_path, from_step=3):
        assert record.path.read_bytes() == b"".join(lines)
    assert not caplog.records


@pytest.mark.parametrize("kept", [0, 3])
def test_lost_rows_are_one_warning(tmp_path, caplog, kept):
    with metrics_log.MetricsLog(tmp_path, from_step=0) as record:
        for step in range(1, kept + 1):
            record.write(step, {"loss": 0.5})
        record.write(7, {"dsc": 0.9})
    if not kept:
        record.path.unlink()
    with metrics_log.MetricsLog(tmp_path, from_step=7) as record:
        record.write(8, {"loss": 0.5})
    (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    lost = f"{7 - kept} of the first 7 steps, from step {kept + 1} to step 7;"
    assert warning.getMessage().startswith(f"{record.path} lacks the rows of {lost}")
    assert rows(record.path)[-1]["step"] == 8


def test_rows_are_json_also_for_values_that_are_not_finite(tmp_path):
    with metrics_log.MetricsLog(tmp_path, from_step=0) as record:
        record.write(1, {"hd95": float("inf"), "dsc": float("nan"), "loss": 0.5})

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "metrics.jsonl").read_text()
    row = json.loads(text, parse_constant=refuse)
    assert row == {"step": 1, "hd95": None, "dsc": None, "loss": 0.5}


def test_rows_are_on_the_disk_when_asked_for(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file)))
    with metrics_log.MetricsLog(tmp_path, from_step=0) as record:
        record.write(1, {"loss": 0.5})
        synced.clear()
        record.sync()
        (file,) = synced
    assert file.st_ino == record.path.stat().st_ino
    assert file.st_size == record.path.stat().st_size > 0  # nothing left in Python


def test_the_record_shows_which_steps_were_validated(tmp_path):
    assert not metrics_log.is_validated(tmp_path, 1)
    with metrics_log.MetricsLog(tmp_path, from_step=0) as record:
        record.write(1, {"loss": 0.5})
        record.write(2, {"dsc": 0.9})
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 3, "ds')
    assert [metrics_log.is_validated(tmp_path, step) for step in (1, 2, 3)] == [
        False,
        True,
        False,
    ]


def test_tensorboard_gets_the_same_values(tmp_path):
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import masked_crc32c

    with metrics_log.MetricsLog(tmp_path, from_step=0) as record:
        record.write(3, {"loss": 0.5, "dsc": 0.75})
    (path,) = (tmp_path / "tensorboard").glob("events.*")
    content, values = path.read_bytes(), {}
    while content:  # records: length, its checksum, event, its checksum
        size = int.from_bytes(content[:8], "little")
        event = content[12 : 12 + size]
        checksum = int.from_bytes(content[12 + size : 16 + size], "little")
        assert checksum == masked_crc32c(event)
        parsed = event_pb2.Event.FromString(event)
        for value in parsed.summary.value:
            values[value.tag] = (parsed.step, value.simple_value)
        content = content[16 + size :]
    assert values == {"loss": (3, 0.5), "dsc": (3, 0.75)}


@pytest.mark.parametrize("full", ["metrics.jsonl", "tensorboard"])
def test_a_row_that_does_not_fit_on_the_disk_is_an_error(tmp_path, full):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here, where any write finds the disk full")

    def write():
        with metrics_log.MetricsLog(tmp_path, from_step=0) as record:
            board = record._board._py_recordio_writer._writer
            stream = {"metrics.jsonl": record._file, "tensorboard": board}[full]
            with open("/dev/full", "wb") as device:
                os.dup2(device.fileno(), stream.fileno())
            for step in range(1, 1000):
                record.write(step, {"loss": 0.5})

    with pytest.raises(OSError, match="No space left"):
        write()
