"""What the TPU compiler makes of a training step, on a machine without a TPU.

    python -m benchmarks.tpu [--topology v5e:2x4] [--batch 1] [--size 128]
        [--dtype bfloat16] [--only warp step] [--output FILE]

Needs the extra `tpu` (libtpu, which brings the compiler). Each part of a step of the
default network, forward with gradient, is compiled for one chip of the slice, and so is
the whole forward pass; the whole step for all of it, with a batch for each chip. A row
says what the compiler counts on a chip: arithmetic, bytes read and written, and the
memory of temporaries. The limit is the longer of both at the chip's rates, times how
often the part runs in a step: no step is faster, and one that waits for something else
is slower.

The body of a loop is counted once by the compiler; `loops` lists how often each runs.
Bytes in fast memory count as well, and a kernel counts what it says of itself: that of
attention says the arithmetic of its forward pass alone.
"""

import argparse
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, SingleDeviceSharding

from benchmarks import parts as step_parts
from configs import default
from mdvit_jax import models
from mdvit_jax.geometry import forms
from mdvit_jax.training import optimizer, sharding, step


class Chip(NamedTuple):
    """Rates by Google's data sheets: flop/s in bfloat16, bytes/s, bytes of memory."""

    flops: float
    bandwidth: float
    memory: float


CHIPS = {
    "v4": Chip(275e12, 1228e9, 32e9),
    "v5e": Chip(197e12, 819e9, 16e9),
    "v5p": Chip(459e12, 2765e9, 95e9),
    "v6e": Chip(918e12, 1640e9, 32e9),
}
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
HEAD = (
    "| part | runs | Gflop | GB | limit (ms) | by | temporaries (GB) | loops | "
    "collectives | compile (s) |\n|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Compile every part in turn, and print a row of Markdown for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", default="v5e:2x4", help="as jax names it")
    parser.add_argument("--batch", type=int, default=1, help="pairs on each chip")
    parser.add_argument("--size", type=int, default=128, help="voxels along each axis")
    dtypes = ["float32", "bfloat16"]
    parser.add_argument("--dtype", choices=dtypes, default="bfloat16")
    parser.add_argument("--only", nargs="+", help="parts by the start of their name")
    parser.add_argument("--output", type=Path, help="JSON file of all rows")
    options = parser.parse_args()
    chip = CHIPS[options.topology.split(":")[0]]
    slice_ = topologies.get_topology_desc(
        platform="tpu", topology_name=options.topology
    )
    config = default.get_config()
    config.data.size, config.model.compute_dtype = options.size, options.dtype
    print(f"{options.topology}, {len(slice_.devices)} chips, {options.size}³, ", end="")
    print(f"{options.dtype}, {options.batch} a chip, jax {jax.__version__}\n")
    print(HEAD, flush=True)
    rows = []
    with forms.tracing_for("tpu"):
        for name, (lower, runs) in programs(config, options.batch, slice_).items():
            if options.only and not name.startswith(tuple(options.only)):
                continue
            rows.append({"part": name, "runs": runs, **compiled(lower, chip, runs)})
            print_row(rows[-1])
    if options.output:
        text = json.dumps({**vars(options), "rows": rows}, indent=1, default=str)
        options.output.write_text(text + "\n", encoding="utf-8")


def programs(
    config, batch: int, slice_
) -> dict[str, tuple[tuple[Callable, tuple], int]]:
    """Name → a function that lowers it, and how often it runs in a step."""
    one = SingleDeviceSharding(slice_.devices[0])
    dtype = jnp.dtype(config.model.compute_dtype)
    result: dict[str, tuple[tuple[Callable, tuple], int]] = {}
    for name, part in step_parts.parts(config, dtype, batch).items():
        function = step_parts.with_gradient(part) if part.learns else part.function
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), part.inputs
        )
        result[name] = (jax.jit(function).lower, shapes), part.count
    network = models.create(config)
    volume = jax.ShapeDtypeStruct((batch, *[config.data.size] * 3), "f4", sharding=one)
    params = jax.eval_shape(network.init, jax.random.key(0), volume, volume)
    inputs = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), params
    )
    forward = jax.jit(network.from_centres)
    result["forward"] = (forward.lower, (inputs, volume, volume)), 1
    grid = np.array(slice_.devices).reshape(-1, 1)
    axes = (sharding.DATA, sharding.MODEL)
    mesh = Mesh(grid, axes, axis_types=(AxisType.Auto,) * 2)
    config.optim.batch = batch * len(slice_.devices)
    volume = jax.ShapeDtypeStruct((config.optim.batch, *volume.shape[1:]), "f4")
    descent = optimizer.create(config.optim, params)
    state = jax.eval_shape(lambda: step.create_state(config, network, descent, mesh))
    train: Any = step.create_step(config, network, descent, mesh)
    result["step"] = (train.lower, (state, volume, volume)), 1
    return result


def compiled(program: tuple[Callable, tuple], chip: Chip, runs: int) -> dict[str, Any]:
    """Compile, and read what the compiler counts for one chip."""
    lower, shapes = program
    start = time.perf_counter()
    executable = lower(*shapes).compile()
    row: dict[str, Any] = {"compile_s": time.perf_counter() - start}
    cost, memory = executable.cost_analysis(), executable.memory_analysis()
    row["flops"], row["bytes"] = cost.get("flops", 0.0), cost["bytes accessed"]
    row["temporaries"] = memory.temp_size_in_bytes
    row["arguments"] = memory.argument_size_in_bytes
    times = {"arithmetic": row["flops"] / chip.flops}
    times["memory"] = row["bytes"] / chip.bandwidth
    row["by"] = max(times, key=lambda name: times[name])
    row["limit_s"] = runs * times[row["by"]]
    text = executable.as_text()
    row["loops"] = [int(n) for n in re.findall(r'known_trip_count\D*"?(\d+)', text)]
    counts = {c: len(re.findall(rf" {c}(?:-start)?\(", text)) for c in COLLECTIVES}
    row["collectives"] = {name: count for name, count in counts.items() if count}
    return row


def print_row(row: dict[str, Any]) -> None:
    """A row of the table."""
    loops = ", ".join(f"{n} ×" for n in row["loops"])
    met = ", ".join(f"{count} {name}" for name, count in row["collectives"].items())
    print(
        f"| {row['part']} | {row['runs']} | {row['runs'] * row['flops'] / 1e9:.1f} | "
        f"{row['runs'] * row['bytes'] / 1e9:.2f} | {1e3 * row['limit_s']:.2f} | "
        f"{row['by']} | {row['temporaries'] / 1e9:.2f} | {loops} | {met} | "
        f"{row['compile_s']:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
