"""Pairs in a second, memory and time to compile of training, by network and size.

    python -m benchmarks.throughput [--sizes 64 128] [--batches 1 2]
        [--dtypes float32 bfloat16] [--output FILE]

MDViT (the paper's form) and C2FViT, each with NTG and NCC, at the paper's width and
depth: whole training steps, each setting in a process of its own (`steps`), whose peak
memory it is, the device's where it reports one. The forward pass is timed in the same
process. "float32" multiplies in full float32; "tf32" rounds the factors as GPUs do by
default, and is float32 on a CPU.
"""

import argparse
import itertools
import json
from pathlib import Path

from benchmarks import steps

NETWORKS = {"MDViT": "channels", "C2FViT": "none"}
LOSSES = {"NTG": ("ntg", "5"), "NCC": ("ncc", "3")}  # each with its own pooling
# → `model.compute_dtype`, and JAX's precision of products.
DTYPES = {
    "float32": ("float32", "float32"),
    "tf32": ("float32", "tensorfloat32"),
    "bfloat16": ("bfloat16", "float32"),
}
HEAD = (
    "| size | batch | network | loss | dtype | step (ms) | pairs/s | forward (ms) | "
    "peak (GB) | compile (s) |\n|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Time every combination in turn, and print a row of Markdown for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32"])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=[*LOSSES])
    parser.add_argument(
        "--beside",
        type=int,
        default=1,
        help="settings that are compiled beside each other; each is timed alone",
    )
    parser.add_argument(
        "--compile-only",
        action="store_true",
        help="time nothing; what is compiled lies in JAX_COMPILATION_CACHE_DIR then",
    )
    parser.add_argument("--output", type=Path, help="JSON file of all rows")
    options = parser.parse_args()
    print(HEAD, flush=True)
    rows = []
    combinations = [
        *itertools.product(
            options.sizes,
            options.batches,
            options.networks,
            options.losses,
            options.dtypes,
        )
    ]
    for first in range(0, len(combinations), options.beside):
        group = combinations[first : first + options.beside]
        then = "compile-only" if options.compile_only else "wait"
        started = [(settings, start(*settings, then)) for settings in group]
        if options.compile_only:
            for _, process in started:
                steps.result(process)
            continue
        for _, process in started:
            steps.wait_until_compiled(process)
        for settings, process in started:
            rows.append(timed(settings, process))
            if options.output:  # each time, as a job may end
                text = json.dumps(rows, indent=1) + "\n"
                options.output.write_text(text, encoding="utf-8")


def start(
    size: int, batch: int, network: str, loss: str, dtype: str, then: str
) -> steps.Running:
    """A process that compiles the setting, and then waits to be let go on, or ends."""
    name, pool = LOSSES[loss]
    compute_dtype, precision = DTYPES[dtype]
    settings = {
        "data.size": str(size),
        "optim.batch": str(batch),
        "model.dilated_form": NETWORKS[network],
        "model.compute_dtype": compute_dtype,
        "loss.name": name,
        "loss.pool": pool,
        "forward": "yes",
        then: "yes",
    }
    environ = {
        "JAX_DEFAULT_MATMUL_PRECISION": precision,
        # Not three quarters of a GPU for each process.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    return steps.run(settings, environ=environ)


def timed(settings: tuple, process: steps.Running) -> dict:
    """Let a process go on, print its row of Markdown, and return it."""
    size, batch, network, loss, dtype = settings
    row = dict(
        zip(("size", "batch", "network", "loss", "dtype"), settings, strict=True)
    )
    head = f"| {size}³ | {batch} | {network} | {loss} | {dtype} | "
    try:
        measured = steps.result(process)
    except steps.Failed as error:
        reason = str(error).strip().splitlines()[-1]
        print(f"{head}{reason[:200]} | | | | |", flush=True)
        return row | {"failed": str(error)}
    assert measured is not None  # it is alone, and so the first process
    print(
        f"{head}{1e3 * measured['step_s']:.1f} | "
        f"{batch / measured['step_s']:.3f} | {1e3 * measured['forward_s']:.1f} | "
        f"{measured['peak_bytes'] / 2**30:.2f} | {measured['compile_s']:.1f} |",
        flush=True,
    )
    return row | measured


if __name__ == "__main__":
    main()
