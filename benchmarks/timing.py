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
    """Time jitted forms of `what` on the same inputs; print and return a row for each.

    Rows hold seconds, and the memory beside inputs and outputs in bytes and in volumes
    of the first input's size (NaN where the backend does not say). The ratio is the
    time of the first form, the reference, divided by the form's own.
    """
    compiled: dict[str, Callable] = {}
    rows: list[dict[str, Any]] = []
    for name, form in forms.items():
        start = time.perf_counter()
        compiled[name] = executable = jax.jit(form).lower(*inputs).compile()
        taken = time.perf_counter() - start
        memory = executable.memory_analysis()
        extra = memory.temp_size_in_bytes if memory else math.nan
        rows.append({"what": what, "form": name, "compile_s": taken})
        rows[-1]["extra_bytes"] = extra
        rows[-1]["extra_volumes"] = extra / inputs[0].nbytes
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
        print(
            f"{what:40}{row['form']:20}{1e3 * row['min_s']:9.1f}"
            f"{1e3 * row['median_s']:9.1f}{row['ratio']:8.1f}"
            f"{row['extra_volumes']:15.2f}{row['compile_s']:11.2f}",
            flush=True,
        )
    return rows


def print_header() -> None:
    """The head of the table whose rows `compare` prints."""
    print(
        f"{'what':40}{'form':20}{'min ms':>9}{'median':>9}{'ratio':>8}"
        f"{'extra volumes':>15}{'compile s':>11}"
    )


def seconds(function: Callable, inputs: Sequence[Any], repeats: int) -> float:
    """The shortest of several runs of a function, compiled and warm."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*inputs))
    return shortest(lambda: jax.block_until_ready(compiled(*inputs)), repeats)


def shortest(function: Callable, repeats: int) -> float:
    """The shortest of several runs of a function that is done when it returns."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def peak_bytes() -> int:
    """The most memory that this process has had so far."""
    # ru_maxrss counts kilobytes, on macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def report(rows: list[dict[str, Any]], output: Path | None) -> None:
    """Print the peak memory; write or print the JSON with what was measured on."""
    peak = peak_bytes()
    print(f"peak memory of the process: {peak / 2**20:.0f} MB")
    machine = {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
    text = json.dumps({"machine": machine, "peak_bytes": peak, "rows": rows}, indent=1)
    if output is None:
        print(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
