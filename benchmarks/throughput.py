"""Pairs in a second, memory and time to compile of training, by network and size.

    python -m benchmarks.throughput [--sizes 64 128] [--batches 1 2]
        [--dtypes float32 bfloat16] [--output FILE]

MDViT (the paper's form) and C2FViT, each with NTG and NCC, at the paper's width and
depth: whole training steps, each setting in a process of its own (`steps`), whose peak
memory it is. The forward pass is timed in the same process.
"""

import argparse
import itertools
import json
from pathlib import Path

from benchmarks import steps

NETWORKS = {"MDViT": "channels", "C2FViT": "none"}
LOSSES = {"NTG": ("ntg", "5"), "NCC": ("ncc", "3")}  # each with its own pooling
HEAD = (
    "| size | batch | network | loss | dtype | step (s) | pairs/s | forward (s) | "
    "peak (GB) | compile (s) |\n|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Time every combination in turn, and print a row of Markdown for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2])
    dtypes = ["float32", "bfloat16"]
    parser.add_argument("--dtypes", nargs="+", choices=dtypes, default=dtypes[:1])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=[*LOSSES])
    parser.add_argument("--output", type=Path, help="JSON file of all rows")
    given = parser.parse_args()
    print(HEAD, flush=True)
    rows = []
    for size, batch, network, loss, dtype in itertools.product(
        given.sizes, given.batches, given.networks, given.losses, given.dtypes
    ):
        name, pool = LOSSES[loss]
        settings = {
            "data.size": str(size),
            "optim.batch": str(batch),
            "model.dilated_form": NETWORKS[network],
            "model.compute_dtype": dtype,
            "loss.name": name,
            "loss.pool": pool,
        }
        row = steps.result(steps.run(settings | {"forward": "yes"}))
        assert row is not None  # it is alone, and so the first process
        rows.append(settings | row)
        print(
            f"| {size}³ | {batch} | {network} | {loss} | {dtype} | "
            f"{row['step_s']:.2f} | {batch / row['step_s']:.3f} | "
            f"{row['forward_s']:.2f} | {row['peak_bytes'] / 2**30:.2f} | "
            f"{row['compile_s']:.1f} |",
            flush=True,
        )
    if given.output:
        given.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
