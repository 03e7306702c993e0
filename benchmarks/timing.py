"""Forms of one computation, timed beside each other, and the report of a benchmark.

The forms take turns within one run, so that a busy machine slows them alike; the
minimum is the time, and the median shows how busy the machine was.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mdvit_jax.models.ops import dense

_ENOUGH = 20.0  # seconds after which a slow form takes no further turn
_SHORT = 0.02  # seconds; what is shorter runs several times in a row in one turn
_EDGE = 2048  # of the matrices, and of the copied array


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has: --size, --batch, --repeats, --output."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=128, help="voxels along each axis")
    parser.add_argument("--batch", type=int, default=1, help="pairs at once")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each form")
    parser.add_argument(
        "--output", type=Path, help="JSON file; default: after the table"
    )
    return parser


def compare(
    what: str,
    forms: Mapping[str, Callable],
    inputs: Sequence[Any],
    repeats: int,
    *,
    limit: float = math.nan,
) -> list[dict[str, Any]]:
    """Time jitted forms of `what` on the same inputs; print and return a row for each.

    Rows hold seconds, and the memory beside inputs and outputs in bytes and in volumes
    of the first input's size (NaN where the backend does not report it). The ratio is
    the time of the first form, the reference, divided by the form's own. A form that
    the platform cannot compile or run gets a row with the reason.

    Args:
        limit: seconds that no form can be faster than (`least_seconds`), if known.
    """
    compiled: dict[str, Callable] = {}
    rows: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = {}
    for name, program in compile_all(forms, {name: inputs for name in forms}).items():
        rows[name] = {"what": what, "form": name}
        if isinstance(program, Exception):
            rows[name]["failed"] = f"{type(program).__name__}: {program}"
            continue
        memory = program.executable.memory_analysis()
        extra = memory.temp_size_in_bytes if memory else math.nan
        rows[name] |= {"compile_s": program.seconds, "extra_bytes": extra}
        rows[name]["extra_volumes"] = extra / jax.tree.leaves(inputs[0])[0].nbytes
        try:
            jax.block_until_ready(program.executable(*inputs))
        except jax.errors.JaxRuntimeError as error:
            rows[name]["failed"] = f"{type(error).__name__}: {error}"
            continue
        compiled[name], times[name] = program.executable, []
    for _ in range(repeats):
        for name, function in compiled.items():
            if sum(times[name]) <= _ENOUGH:
                times[name].append(once(function, inputs))
    reference = min(times.get(next(iter(forms)), [math.nan]))
    for name, row in rows.items():
        if "failed" in row:
            print(f"{what:40}{name:22}{row['failed'].splitlines()[0][:80]}", flush=True)
            continue
        turns = times[name]
        row["min_s"], row["median_s"] = min(turns), statistics.median(turns)
        row["turns"], row["ratio"] = len(turns), reference / min(turns)
        row["limit_s"] = limit
        print(
            f"{what:40}{name:22}{1e3 * row['min_s']:10.3f}"
            f"{1e3 * row['median_s']:10.3f}{row['ratio']:8.1f}{1e3 * limit:10.3f}"
            f"{row['extra_volumes']:15.2f}{row['compile_s']:11.2f}",
            flush=True,
        )
    return list(rows.values())


def print_header() -> None:
    """The head of the table whose rows `compare` prints."""
    print(
        f"{'what':40}{'form':22}{'min ms':>10}{'median':>10}{'ratio':>8}{'limit':>10}"
        f"{'extra volumes':>15}{'compile s':>11}",
        flush=True,
    )


class Program(NamedTuple):
    """A compiled function, and how long its compiler took."""

    executable: Any
    seconds: float


def compile_all(
    functions: Mapping[str, Callable], inputs: Mapping[str, Sequence[Any]]
) -> dict[str, Program | Exception]:
    """Compile functions for their inputs; an exception takes the place of a failure.

    On accelerators the compilers run beside each other.
    """

    def compile_one(name: str) -> Program | Exception:
        start = time.perf_counter()
        try:
            executable = jax.jit(functions[name]).lower(*inputs[name]).compile()
        except Exception as error:  # whatever a platform has against a form
            return error
        return Program(executable, time.perf_counter() - start)

    threads = 1 if jax.default_backend() == "cpu" else os.cpu_count()
    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(functions, pool.map(compile_one, functions), strict=True))


def least_seconds(function: Callable, inputs: Sequence[Any], rate: float) -> float:
    """To read the inputs and write the outputs once at a rate of bytes in a second."""
    outputs = jax.eval_shape(function, *inputs)
    leaves = [*jax.tree.leaves(inputs), *jax.tree.leaves(outputs)]
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves) / rate


def copy_rate(repeats: int) -> float:
    """Bytes read and written in a second of a large copy."""
    large = jnp.ones((16, _EDGE, _EDGE))  # does not fit into any cache
    return 2 * large.nbytes / seconds(lambda a: a + 1, (large,), repeats)


def product_rate(dtype: jnp.dtype, repeats: int) -> float:
    """Floating-point operations in a second of products of large matrices."""
    edge = _EDGE if jax.default_backend() == "cpu" else 4 * _EDGE
    square = jax.random.normal(jax.random.key(0), (edge, edge)).astype(dtype)
    taken = seconds(lambda a: dense.contract(a, a, 1, 0), (square,), repeats)
    return 2 * edge**3 / taken


def seconds(function: Callable, inputs: Sequence[Any], repeats: int) -> float:
    """The shortest of several runs of a function, compiled and warm."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*inputs))
    return min(once(compiled, inputs) for _ in range(repeats))


def once(function: Callable, inputs: Sequence[Any]) -> float:
    """Seconds of one run of a compiled function; a short one runs often in a row.

    So that starting it, which takes a device as long as a small operation, is hidden
    behind the run before.
    """
    start = time.perf_counter()
    jax.block_until_ready(function(*inputs))
    taken = time.perf_counter() - start
    if taken > _SHORT:
        return taken
    runs = int(_SHORT / taken) + 1
    start = time.perf_counter()
    for _ in range(runs):
        results = function(*inputs)
    jax.block_until_ready(results)
    return (time.perf_counter() - start) / runs


def shortest(function: Callable, repeats: int) -> float:
    """The shortest of several runs of a function that is done when it returns."""
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return min(durations)


def peak_bytes() -> int:
    """The peak memory of this process, on its device where that reports it."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        return statistics["peak_bytes_in_use"]
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
