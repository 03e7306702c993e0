"""The stream of batches: the same with any number of workers and processes."""

import contextlib
import gc
import itertools
import logging
import multiprocessing
import os
import re
import sys
import time

import numpy as np
import pytest

from mdvit_jax import errors
from mdvit_jax.data import conform, loading, pairs, pipeline

SIZE = 12  # 12³ float32 is above the size from which shared memory is used
PERSONS = ("a", "b", "c", "b", "d")
ARRAYS = ("fixed", "moving", "fixed_index", "moving_index")


@pytest.fixture(scope="module", autouse=True)
def little_garbage():
    """What earlier tests left is not searched for garbage after each stream."""
    gc.freeze()
    yield
    gc.unfreeze()


def scan(value: float) -> conform.Conformed:
    image = np.full((SIZE,) * 3, value, np.float32)
    image[0] = np.arange(SIZE)  # not the same in all directions
    return conform.Conformed(image, np.ones((SIZE,) * 3, np.uint8), None, np.eye(4))


class Store:
    """Scan i has brightness i; scans in `refused` raise a UserError."""

    def __init__(self, *refuse: int):
        self.refuse = refuse

    def __len__(self) -> int:
        return len(PERSONS)

    def __getitem__(self, index: int) -> conform.Conformed:
        if index in self.refuse:
            raise errors.UserError(f"scan {index} is damaged; copy it again.")
        return scan(index)


class Witness(Store):
    """Its images hold the process that read them, and whether JAX ran there."""

    def __getitem__(self, index: int) -> conform.Conformed:
        started = False
        if jax := sys.modules.get("jax"):  # Grain imports it
            before = jax.config.jax_num_cpu_devices
            try:
                jax.config.update("jax_num_cpu_devices", before + 1)
                jax.config.update("jax_num_cpu_devices", before)
            except RuntimeError:  # JAX refuses it once it has started
                started = True
        message = scan(float(started))
        message.image[1] = os.getpid()
        return message


def stream(scans=None, template=None, **changes):
    options = {
        "persons": PERSONS,
        "seed": 3,
        "task": "reference",
        "first_step": 0,
        "steps": 5,
        "batch": 4,
        "workers": 0,
    }
    return pipeline.batches(scans or Store(), template, **options | changes)


def read(**changes) -> list[loading.Batch]:
    with contextlib.closing(stream(**changes)) as batches:
        return list(batches)


def assert_same(result, expected):
    assert len(result) == len(expected)
    for one, other in zip(result, expected, strict=True):
        assert one["step"] == other["step"]
        assert one["unreadable"] == other["unreadable"]
        for name in ARRAYS:
            assert one[name].dtype == other[name].dtype
            assert np.array_equal(one[name], other[name])


def assert_all_ended():
    """No worker is left after a moment."""
    for _ in range(100):
        if not multiprocessing.active_children():
            return
        time.sleep(0.1)
    raise AssertionError(multiprocessing.active_children())


@pytest.fixture
def nobody_left():
    yield
    assert_all_ended()


def test_batches_hold_the_drawn_scans():
    for step, batch in enumerate(read()):
        drawn = pairs.draw(3, step, 4, PERSONS, "reference")
        assert batch["step"] == step
        assert np.array_equal(batch["fixed_index"], drawn[:, 0])
        assert np.array_equal(batch["moving_index"], drawn[:, 1])
        for name, column in (("fixed", 0), ("moving", 1)):
            expected = np.stack([scan(i).image for i in drawn[:, column]])
            assert batch[name].dtype == np.float32
            assert np.array_equal(batch[name], expected)


def test_the_template_is_the_fixed_image():
    template = scan(77.0)
    for batch in read(template=template, task="template"):
        assert (batch["fixed_index"] == pairs.TEMPLATE).all()
        assert np.array_equal(batch["fixed"], np.stack([template.image] * 4))


def read_in_halves(**changes):
    """The batches of two processes, joined."""
    halves = [read(process_index=i, process_count=2, **changes) for i in (0, 1)]
    return [
        {
            "step": a["step"],
            "unreadable": a["unreadable"] | b["unreadable"],
            **{name: np.concatenate([a[name], b[name]]) for name in ARRAYS},
        }
        for a, b in zip(*halves, strict=True)
    ]


def test_processes_share_the_batch():
    assert_same(read_in_halves(), read())


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_is_starting_later(workers, nobody_left):
    assert_same(read(first_step=3, workers=workers), read()[3:])
    assert read(first_step=5, workers=workers) == []


MESSAGE = f"scan 2 is damaged; copy it again. {loading._ADVICE}"


@pytest.mark.parametrize("workers", [0, 2])
def test_the_error_of_a_scan_is_passed_on_whole(workers, nobody_left):
    batches = stream(scans=Store(2), steps=50, workers=workers)
    with pytest.raises(errors.UserError) as caught:
        list(batches)
    assert str(caught.value) == MESSAGE


def readable_pair(step, row, drawn, refuse):
    """The first pair drawn for a row that has none of these scans."""
    for attempt in itertools.count(1):
        if not set(drawn.tolist()) & set(refuse):
            return drawn
        drawn = pairs.draw_again(3, step, row, attempt, PERSONS, "reference")


def test_an_unreadable_pair_is_redrawn_in_its_row():
    skipping = {"scans": Store(2, 4), "skip_unreadable": True}
    result, replaced = read(**skipping, steps=20), 0
    for step, batch in enumerate(result):
        drawn = pairs.draw(3, step, 4, PERSONS, "reference")
        used = [
            readable_pair(step, row, pair, (2, 4)) for row, pair in enumerate(drawn)
        ]
        assert np.array_equal(batch["fixed_index"], np.stack(used)[:, 0])
        assert np.array_equal(batch["moving_index"], np.stack(used)[:, 1])
        for name in ("fixed", "moving"):
            images = [scan(index).image for index in batch[f"{name}_index"]]
            assert np.array_equal(batch[name], np.stack(images))
        for index, why in batch["unreadable"].items():
            assert index in (2, 4) and f"scan {index} is damaged" in why
        assert bool(batch["unreadable"]) == (not np.array_equal(drawn, used))
        replaced += bool(batch["unreadable"])
    assert replaced > 5
    assert_same(read_in_halves(**skipping, steps=20), result)
    assert_same(read(skip_unreadable=True), read())


def test_scans_are_left_out_in_workers_and_after_resuming(nobody_left):
    # With scan 0, from which the size of a batch is computed.
    skipping = {"scans": Store(0, 2), "skip_unreadable": True}
    assert_same(read(**skipping, first_step=2, workers=1), read(**skipping)[2:])


def test_a_killed_worker_is_one_sentence(nobody_left):
    batches = stream(steps=10_000, workers=1)
    next(batches)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(errors.UserError, match="was killed from outside, most likely"):
        list(batches)


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_unreadable_scans_are_one_sentence(workers, nobody_left):
    one_person = Store(0, 2, 4)  # the two readable scans show one person: no pair
    with pytest.raises(errors.UserError) as caught:
        read(scans=one_person, skip_unreadable=True, workers=workers)
    assert re.fullmatch(
        "Too many scans cannot be read to go on without them, 3 of 5 at step 1, such "
        "as this one: scan [024] is damaged; copy it again.",
        str(caught.value),
    )


def test_closing_early_ends_the_workers(nobody_left):
    batches = stream(steps=1000, workers=2)
    first = next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert_all_ended()
    # What was taken out stays whole.
    assert_same([first], read()[:1])


def test_no_shared_memory_is_left(run_python):
    """Python's tracker reports at exit what was not freed."""
    program = """
import sys
sys.path.insert(0, "tests")
import test_pipeline
from mdvit_jax import errors
if __name__ == "__main__":
    kept = test_pipeline.read(workers=1)
    early = test_pipeline.stream(steps=50, workers=1)
    kept.append(next(early))
    early.close()
    try:
        refusing = test_pipeline.Store(2)
        list(test_pipeline.stream(scans=refusing, steps=50, workers=1))
    except errors.UserError as error:
        print(error)
    abandoned = test_pipeline.stream(steps=50, workers=1)
    kept.append(next(abandoned))
"""
    run = run_python(program)
    assert run.stdout == f"{MESSAGE}\n"
    assert "leaked" not in run.stderr and "Traceback" not in run.stderr


def test_the_device_is_left_to_the_parent(nobody_left):
    (batch,) = read(scans=Witness(), steps=1, workers=1)
    assert (batch["moving"][:, 2] == 0).all()  # no backend of JAX was started
    assert (batch["moving"][:, 1] != os.getpid()).all()


def test_workers_change_nothing_and_stay_within_the_shared_memory_counted(nobody_left):
    workers = 2
    with contextlib.closing(stream(steps=20, workers=workers)) as batches:
        loaded = [next(batches)]
        time.sleep(2)  # all queues are full now, or this shows nothing
        rested = time.monotonic()
        loaded += batches
    assert_same(loaded, read(steps=20))
    ready = sum(batch["loaded"] < rested for batch in loaded[1:])
    assert ready <= pipeline._HELD * workers


def test_a_small_shared_memory_means_fewer_workers(monkeypatch, caplog):
    class Usage:
        free = 4096

    monkeypatch.setattr(pipeline.shutil, "disk_usage", lambda path: Usage)
    monkeypatch.setattr(pipeline, "_SHARED_MEMORY", "/")
    with caplog.at_level(logging.WARNING):
        assert_same(read(workers=2), read())
    assert "room for the batches of 0 of the 2 workers" in caplog.text


def test_signals_to_all_of_a_terminal_leave_a_worker_to_its_parent(run_python):
    program = """
import signal
from mdvit_jax.data import pipeline
pipeline._start_worker(0, 1)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.raise_signal(number)
print("alive")
"""
    assert run_python(program).stdout == "alive\n"
