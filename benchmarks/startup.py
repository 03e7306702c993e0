"""How long the user waits: from the command to the first step of training.

    python -m benchmarks.startup [--sizes 64 128]

Starts `train.py` with the default network on prepared synthetic people, waits for the
first row of its record, and ends it; with an empty compilation cache, and again with
what the first start left there.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import commands

SETTINGS = {
    "data.split": "(2, 2, 0)",
    "data.workers": "1",
    "data.synthetic.people": "4",
}


def main() -> None:
    """Start each size twice, and print a row of Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    arguments = parser.parse_args()
    print("| size | first start (s) | second start (s) |\n|---|---|---|", flush=True)
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            settings = SETTINGS | {"data.size": str(size)}
            command = commands.prepared(Path(folder, "cache"), settings)
            compiled = Path(folder, "compiled")
            cold, cached = (
                first_step(command, Path(folder, name), compiled)
                for name in ("cold", "cached")
            )
        print(f"| {size}³ | {cold:.1f} | {cached:.1f} |", flush=True)


def first_step(command: list[str], workdir: Path, compiled: Path) -> float:
    """Seconds until the run's record has its first row."""
    record = workdir / "metrics.jsonl"
    command = [*command, f"--config.workdir={workdir}"]
    environ = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    start = time.perf_counter()
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as run:
        while not (record.exists() and record.stat().st_size):
            if run.poll() is not None:
                raise SystemExit(f"train.py ended with {run.returncode}")
            time.sleep(0.02)
        passed = time.perf_counter() - start
        run.kill()
    return passed


if __name__ == "__main__":
    main()
