"""Does a long training run grow? Its memory, files and processes over time.

    python -m benchmarks.endurance [--minutes 120] [--output FILE]

Trains a small network on synthetic people with one loading worker, by the same command
that a user gives, and validates, draws and saves every few seconds, as often in an hour
as a real training in days. Linux only: it reads /proc. Memory is what the run and its
workers have allocated, without the pages of libraries and other files, which the system
drops and reads again at any time. The growth is the slope of a line through all but the
first quarter, in which allocators and caches settle.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tqdm

from benchmarks import commands

SETTINGS = {
    "data.size": "16",
    "data.split": "(4, 2, 0)",
    "data.workers": "1",
    "data.synthetic.people": "6",
    "model.embedding": "8",
    "model.depth": "1",
    "loss.stride": "1",
    "optim.steps": "1000000000",
    "validation.every": "200",
    "checkpoint.every": "50",
}


def main() -> int:
    """Train, take a sample every ten seconds, and print what grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument(
        "--output", type=Path, help="JSON lines, a sample each, as they come"
    )
    options = parser.parse_args()
    # Else a SIGTERM would leave the run behind, without an end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder:
        cache, workdir = Path(folder, "cache"), Path(folder, "run")
        command = commands.prepared(cache, SETTINGS)
        command += [f"--config.workdir={workdir}"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as run:
            try:
                samples = watch(run, workdir, options.minutes, options.output)
            finally:
                run.send_signal(signal.SIGTERM)
        if run.returncode != 128 + signal.SIGTERM:
            print(f"the run ended with {run.returncode} instead of 143")
            return 1
    report(samples)
    return 0


def watch(
    run: subprocess.Popen, workdir: Path, minutes: float, output: Path | None
) -> list[dict]:
    """Sample the run until the time is over or the run ends."""
    record, start, samples = workdir / "metrics.jsonl", time.monotonic(), []
    with tqdm.tqdm(total=minutes, unit="min", bar_format="{l_bar}{bar}|") as bar:
        while (
            run.poll() is None and (passed := time.monotonic() - start) < 60 * minutes
        ):
            time.sleep(10)
            bar.update(passed / 60 - bar.n)
            if record.exists() and run.poll() is None:
                # A thread or a worker may end while it is read: no sample then.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    processes = family(run.pid)
                    sample = {
                        "seconds": passed,
                        "step": last_step(record),
                        "memory": sum(map(memory, processes)),
                        "files": sum(map(open_files, processes)),
                        "processes": len(processes),
                        "threads": threads(run.pid),
                    }
                    samples.append(sample)
                    if output:
                        with output.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(sample) + "\n")
    return samples


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    children = [int(child) for text in lists for child in text.split()]
    return [pid, *(process for child in children for process in family(child))]


def memory(pid: int) -> int:
    """Bytes, memory that is shared by n processes counting 1/n for each."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    parts = dict(line.split()[:2] for line in lines[1:])
    allocated = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")
    return 1024 * sum(int(parts[name]) for name in allocated)


def open_files(pid: int) -> int:
    """How many file descriptors the process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    """How many threads the process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def last_step(record: Path) -> int:
    """The step of the newest whole row; 0 before the first."""
    with record.open("rb") as file:
        file.seek(max(0, record.stat().st_size - 2000))
        whole = file.read().split(b"\n")[:-1]
    return json.loads(whole[-1])["step"] if whole else 0


def report(samples: list[dict]) -> None:
    """Print a dozen rows, and how much each grew in an hour."""
    names = ("step", "memory", "files", "processes", "threads")
    print("minutes      step    memory MB  files  processes  threads")
    for sample in samples[:: max(1, len(samples) // 12)] + samples[-1:]:
        step, size, *rest = (sample[name] for name in names)
        counts = "{:7}{:11}{:9}".format(*rest)
        print(f"{sample['seconds'] / 60:7.1f}{step:10}{size / 2**20:13.1f}{counts}")
    settled = samples[len(samples) // 4 :]
    hours = np.array([sample["seconds"] for sample in settled]) / 3600
    for name in names[1:]:
        values = np.array([sample[name] for sample in settled], float)
        scale, unit = (2**20, " MB") if name == "memory" else (1, "")
        slope = np.polyfit(hours, values / scale, 1)[0]
        print(
            f"{name}: {slope:+.2f}{unit} an hour, from {values.min() / scale:.1f} to "
            f"{values.max() / scale:.1f}{unit}"
        )


if __name__ == "__main__":
    sys.exit(main())
