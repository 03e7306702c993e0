"""A stall is told once, with where and what; progress is not."""

import socket
import time

from mdvit_jax.training import watchdog


def told(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def wait_until(true) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come true in 10 s")


def test_each_stall_is_told_once(caplog):
    with watchdog.Watchdog(0.05) as watch:
        watch.waits_for("the scans of step 3")
        wait_until(lambda: len(told(caplog)) == 1)
        time.sleep(0.2)
        watch.waits_for("the device at step 3")
        wait_until(lambda: len(told(caplog)) == 2)
    scans, device = told(caplog)
    assert scans.startswith(
        f"{socket.gethostname()}, process 0 of 1 has waited for the"
    )
    assert "the scans of step 3 for" in scans and "the device at step 3" in device


def test_progress_is_silent(caplog):
    with watchdog.Watchdog(60) as watch:
        watch.waits_for("the scans of step 1")
        time.sleep(0.1)
    assert not told(caplog)
