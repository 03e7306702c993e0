"""What the engine of `mdvit batch` costs, and whether it loses pairs.

    python -m benchmarks.batches [--pairs 1000] [--kills 2]

All pairs are the same two small images under different names. Each process aligns them
once and remembers the result; what is left of a pair is that its outputs are written,
and the engine. Two processes of a Dask cluster work, and some are killed on the way.
Prints pairs a minute, how many pairs are missing in the table or stand there twice, how
many were computed twice, the processor time of the engine (scheduler and table), and
the memory of the process that keeps the table, after a tenth of the pairs and at
the end.
"""

import argparse
import collections
import csv
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import distributed
import nibabel as nib
import numpy as np
import psutil
from scipy import ndimage

from mdvit_jax.cli.batch import pair_outputs
from mdvit_jax.registration import register

_SIZE, _VOXEL = 32, 6.0  # of the images; mm


class RememberAlignment(distributed.WorkerPlugin):
    """Lets a process align equal pairs once, and note the pairs that it writes."""

    def __init__(self, log: str):
        self.log = log

    def setup(self, worker: object = None) -> None:
        """Called in each worker, also in one that replaces a dead one."""
        register.register = functools.cache(register.register)  # type: ignore[assignment]
        write = pair_outputs.write

        def note_and_write(outputs, *arguments):
            write(outputs, *arguments)
            with open(self.log, "a") as file:
                file.write(f"{outputs.transform.name}\n")

        pair_outputs.write = note_and_write


def main() -> None:
    """Run the batch and print its speed, its costs and what was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = make_pairs(folder, arguments.pairs)
        run_in_cluster(folder, pairs, arguments.pairs, arguments.kills)


def make_pairs(folder: Path, count: int) -> Path:
    """Two images of one blob, turned, and a table with a row for each pair."""
    random = np.random.default_rng(0).normal(size=(_SIZE,) * 3)
    texture = ndimage.gaussian_filter(random, 1.5)
    index = np.indices(texture.shape) - (_SIZE - 1) / 2
    inside = np.sqrt((index**2 / [[[[90]]], [[[140]]], [[[70]]]]).sum(0)) < 1
    blob = ((texture - texture.min()) * 1000 + 100) * inside
    affine = np.diag([_VOXEL, _VOXEL, _VOXEL, 1])
    turned = ndimage.rotate(blob, 8, reshape=False, order=1)
    for name, data in (("fixed", blob), ("moving", turned)):
        nib.save(nib.Nifti1Image(data.astype(np.int16), affine), folder / f"{name}.nii")
    rows = "".join(f"fixed.nii,moving.nii,p{n:06d}\n" for n in range(count))
    (folder / "pairs.csv").write_text("fixed,moving,name\n" + rows)
    return folder / "pairs.csv"


def run_in_cluster(folder: Path, pairs: Path, count: int, kills: int) -> None:
    """All pairs by two workers, which are killed in turn."""
    table = folder / "cluster/results.csv"
    log = folder / "log_cluster"
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.register_plugin(RememberAlignment(str(log)))
        words = ["--pairs", str(pairs), "--output", str(table.parent)]
        words += ["--scheduler", cluster.scheduler_address]
        begin = time.monotonic()
        command = [sys.executable, "-m", "mdvit_jax", "batch", *words]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as run:
            processes = [psutil.Process(run.pid), psutil.Process()]
            early = late = (0, 0.0, 0.0)
            killed = 0
            while run.poll() is None:
                time.sleep(0.5)
                done = len(log.read_text().splitlines()) if log.exists() else 0
                if killed < kills and done > (killed + 1) * count / (kills + 1):
                    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
                    killed += 1
                memory = processes[0].memory_info().rss / 2**20
                if memory:  # it has not ended
                    times = [process.cpu_times() for process in processes]
                    late = done, memory, sum(t.user + t.system for t in times)
                if done < count / 10:
                    early = late
        seconds = time.monotonic() - begin
    with table.open(newline="") as file:
        names = collections.Counter(row["name"] for row in csv.DictReader(file))
    written = collections.Counter(log.read_text().splitlines())
    print(
        f"two processes, {killed} killed: {60 * count / seconds:.0f} pairs a minute\n"
        f"in the table: {len(names)} of {count} pairs, "
        f"{sum(n > 1 for n in names.values())} twice\n"
        f"computed twice: {sum(n > 1 for n in written.values())}\n"
        f"engine: {1000 * (late[2] - early[2]) / (late[0] - early[0]):.0f} ms of one "
        "core a pair\n"
        f"memory of the table's process: {early[1]:.0f} MB after a tenth of the pairs, "
        f"{late[1]:.0f} MB at the end",
        flush=True,
    )


if __name__ == "__main__":
    main()
