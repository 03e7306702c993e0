"""Forms of one computation, timed beside each other, and the report of a benchmark.

The forms take turns within one run, so that a busy machine slows them alike; the
minimum is the time, and the median tells how busy the machine was.
"""

import argparse
import json
import math
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

_ENOUGH = 20.0  # seconds after which a slow form takes no further turn


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has: --size, --repeats and --output."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", type=int, default=128, help="voxels along each axis")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each form")
    parser.add_argument(
        "--output", type=Path, help="JSON file; default: after the table"
    )
    return parser


def compare(
    what: str, forms: Mapping[str, Callable], inputs: Sequence[jax.Array], repeats: int
) -> list[dict[str, Any]]:
    """Time jitted forms of `what` on the same inputs; one row for each form.

    Rows hold seconds, and the memory beside inputs and outputs in bytes (None where
    the backend does not say). The ratio is the time of the first form, the reference,
    divided by the form's own.
    """
    compiled: dict[str, Callable] = {}
    rows: list[dict[str, Any]] = []
    for name, form in forms.items():
        start = time.perf_counter()
        compiled[name] = executable = jax.jit(form).lower(*inputs).compile()
        taken = time.perf_counter() - start
        memory = executable.memory_analysis()
        extra = memory.temp_size_in_bytes if memory else None
        rows.append(
            {"what": what, "form": name, "compile_s": taken, "extra_bytes": extra}
        )
        jax.block_until_ready(executable(*inputs))
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, function in compiled.items():
            if sum(times[name]) > _ENOUGH:
                continue
            start = time.perf_counter()
            jax.block_until_ready(function(*inputs))
            times[name].append(time.perf_counter() - start)
    reference = min(times[next(iter(forms))])
    for row, turns in zip(rows, times.values(), strict=True):
        row["min_s"], row["median_s"] = min(turns), statistics.median(turns)
        row["turns"], row["ratio"] = len(turns), reference / min(turns)
    return rows


def report(rows: list[dict[str, Any]], volume_bytes: int, output: Path | None) -> None:
    """Print the table, and write or print the JSON with what was measured on."""
    header = f"{'what':34}{'form':24}{'min ms':>9}{'median':>9}{'ratio':>8}"
    print(header + f"{'extra volumes':>15}{'compile s':>11}")
    for row in rows:
        extra = (row["extra_bytes"] or math.nan) / volume_bytes
        print(
            f"{row['what']:34}{row['form']:24}{1e3 * row['min_s']:9.1f}"
            f"{1e3 * row['median_s']:9.1f}{row['ratio']:8.1f}"
            f"{extra:15.2f}{row['compile_s']:11.2f}"
        )
    # ru_maxrss counts kilobytes, on macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    print(f"peak memory of the process: {peak / 2**20:.0f} MB")
    device = jax.devices()[0]
    machine = {
        "backend": jax.default_backend(),
        "device": device.device_kind,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
    found = {
        "machine": machine,
        "volume_bytes": volume_bytes,
        "peak_bytes": peak,
        "rows": rows,
    }
    text = json.dumps(found, indent=1)
    if output is None:
        print(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
