"""Training on more devices and processes, each with the same work.

    python -m benchmarks.scaling [--size 64] [--repeats 2]

1, 2, 4 and 8 forced CPU devices of one process, and 1 and 2 processes over loopback,
one pair for each device and step, at a small width. One device uses all cores already:
what can be seen is what sharing them out costs. The last column is pairs/s over those
of one device; 1.00 means that it costs nothing.
"""

import argparse
import socket

from benchmarks import steps
from mdvit_jax.io import processors

# A device of a real machine has many times the arithmetic of the rest; so here.
NETWORK = {"model.embedding": "96", "model.depth": "2"}


def main() -> None:
    """Time each, and print a row of Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=64, help="voxels along each axis")
    parser.add_argument("--repeats", type=int, default=2, help="the best counts")
    arguments = parser.parse_args()
    cores = processors.count()
    print(f"{arguments.size}³, one pair a device and step, {cores} cores")
    print("| processes | devices | step (s) | pairs/s | relative to one device |")
    print("|---|---|---|---|---|", flush=True)
    alone = None
    for processes, devices in ((1, 1), (1, 2), (1, 4), (1, 8), (2, 2)):
        seconds = min(
            together(arguments.size, processes, devices)
            for _ in range(arguments.repeats)
        )
        rate = devices / seconds
        alone = alone or rate
        print(
            f"| {processes} | {devices} | {seconds:.3f} | {rate:.2f} | "
            f"{rate / alone:.2f} × |",
            flush=True,
        )


def together(size: int, processes: int, devices: int) -> float:
    """Seconds of a step in so many processes with so many devices in all."""
    settings = NETWORK | {"data.size": str(size), "optim.batch": str(devices)}
    environ = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices // processes),
    }
    if processes > 1:
        environ["JAX_COORDINATOR_ADDRESS"] = f"127.0.0.1:{free_port()}"
        environ["JAX_NUM_PROCESSES"] = str(processes)
    started = [
        steps.run(settings, environ=environ | {"JAX_PROCESS_ID": str(index)})
        if processes > 1
        else steps.run(settings, environ=environ)
        for index in range(processes)
    ]
    rows = [steps.result(process) for process in started]
    [row] = [row for row in rows if row is not None]
    return row["step_s"]


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


if __name__ == "__main__":
    main()
