"""Train for a fixed time, towards whose end the learning rate falls.

    PYTHONPATH=. python launch/train_for.py SECONDS RUN OUT --config FILE [OPTIONS]

The configuration has a rate that is constant after its rise (optim.schedule "cosine"
with optim.cooldown). Of SECONDS, less two starts, seven tenths are trained at that
rate; then the run is stopped and resumed with as many steps as the rest has time for,
over which the rate falls to 0. RUN is the run's folder; OUT gets its newest weights,
its record, its curves and its output.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_LEVEL = 0.7  # of the time for steps
_SURE = 0.92  # of the steps that the rest of the time should hold
_END = 20.0  # seconds to save, and to write the weights


def main() -> int:
    """Train twice, and write the weights."""
    seconds, run, out = float(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    options = sys.argv[4:]
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "train.py", *options, f"--config.workdir={run}"]

    def left() -> float:
        return seconds - (time.monotonic() - start)

    # Both numbers are changed when the run is resumed.
    level = [*command, "--config.optim.steps=100000000", "--config.optim.cooldown=1"]
    with (out / "train.txt").open("w") as log:
        process = _start(level, log)
        while (steps := _steps(run)) < 20 and process.poll() is None and left() > 0:
            time.sleep(0.5)
        setup, first_steps = seconds - left(), steps
        first = time.monotonic()
        until = _LEVEL * (left() - setup - _END)
        print(f"{setup:.0f} s to start; {until:.0f} s at a constant rate", flush=True)
        while time.monotonic() - first < until and process.poll() is None:
            time.sleep(0.5)
        rate = (_steps(run) - first_steps) / (time.monotonic() - first)
        _stop(process)
        done = _steps(run)
        more = int(_SURE * rate * (left() - setup - _END))
        print(f"{done} steps, {rate:.1f} a second; {more} more", flush=True)
        if process.returncode == 128 + signal.SIGTERM and more > 0:
            falling = [f"--config.optim.steps={done + more}"]
            falling.append(f"--config.optim.cooldown={more}")
            process = _start([*command, *falling], log)
            try:
                process.wait(max(left() - _END / 2, 1))
            except subprocess.TimeoutExpired:
                _stop(process)
    print(f"{_steps(run)} steps after {seconds - left():.0f} s", flush=True)
    export = [sys.executable, "-m", "mdvit_jax", "export", "--checkpoint", str(run)]
    weights = out / "network.safetensors"
    subprocess.run([*export, "--newest", "--overwrite", "--output", weights])
    for name in ("metrics.jsonl", "curves.png", "config.json"):
        if (run / name).exists():
            shutil.copy(run / name, out / name)
    return process.returncode


def _start(command: list[str], log) -> subprocess.Popen:
    return subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ}
    )


def _stop(process: subprocess.Popen) -> None:
    """By SIGTERM, at which a run saves."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _steps(run: Path) -> int:
    """The steps that a run has recorded."""
    try:
        with (run / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4000))
            lines = file.read().splitlines()
        return max(json.loads(line)["step"] for line in lines[1:-1])
    except (OSError, ValueError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
