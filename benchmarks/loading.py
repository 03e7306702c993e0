"""What the input costs: preparing a scan, reading pairs, starting on a large cohort.

    python -m benchmarks.loading [--sizes 64 128] [--cohorts 100 1000 3453]

Scans are 256³ of int16 at 1 mm, gzipped as they come, of smooth noise; the large
cohorts are of tiny files. Pairs are read from the prepared cache by 0, 1 and 2
workers, faster than any step takes them; the limit beside them is copying as many
bytes within memory.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from mdvit_jax.config import load_config
from mdvit_jax.data import cache, cohort, dataset, pairs, pipeline

_PAIRS = 200


def main() -> None:
    """Measure the three, and print a row of Markdown for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--cohorts", type=int, nargs="+", default=[100, 1000, 3453])
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        print(
            "| size | conform a scan (s) | cached scan (MB) | pairs/s, 0 workers |"
            " 1 | 2 | pairs/s, copied in memory |\n|---|---|---|---|---|---|---|"
        )
        scans = Path(folder, "scans")
        write_scans(scans, count=4, size=256)
        for size in arguments.sizes:
            print(pairs_row(scans, Path(folder, f"cache{size}"), size), flush=True)
        print(
            "\n| scans in the cohort | to open a run's part (s) | to draw a pair (µs) |"
            "\n|---|---|---|"
        )
        for count in arguments.cohorts:
            scans = Path(folder, f"cohort{count}")
            write_scans(scans, count=count, size=8)
            print(cohort_row(scans, Path(folder, f"tiny{count}")), flush=True)


def write_scans(folder: Path, *, count: int, size: int) -> None:
    """Files 0000.nii.gz …, a smooth ball in noise."""
    folder.mkdir()
    axes = np.ogrid[(slice(-1, 1, complex(0, size)),) * 3]
    ball = np.sqrt(sum(axis**2 for axis in axes)) < 0.8
    noise = np.random.default_rng(0).normal(size=(size,) * 3)
    values = (ball * (500 + 2000 * ndimage.gaussian_filter(noise, 2))).astype(np.int16)
    affine = np.diag([256 / size] * 3 + [1.0])
    for number in range(count):
        image = nibabel.Nifti1Image(values, affine)
        nibabel.save(image, folder / f"{number:04d}.nii.gz")


def configured(root: Path, folder: Path, size: int):
    """A cohort of whose scans all but one each are for training."""
    settings = {
        "data.root": str(root),
        "data.cache": str(folder),
        "data.size": str(size),
        "data.split": f"({len(list(root.iterdir())) - 2}, 1, 1)",
    }
    config = load_config("configs/default.py", settings)
    folder.mkdir()
    for scan in cohort.read(config):
        cache.write(scan, dataset.conform_scan(scan, config), config)
    return config


def pairs_row(root: Path, folder: Path, size: int) -> str:
    """How long a scan takes to conform, and how many pairs come a second."""
    count = len(list(root.iterdir()))
    start = time.perf_counter()
    config = configured(root, folder, size)
    conform = (time.perf_counter() - start) / count
    opened = dataset.open_part(config, "train")
    cells = []
    for workers in (0, 1, 2):
        stream = pipeline.batches(
            opened,
            None,
            persons=opened.persons,
            seed=0,
            task="reference",
            first_step=0,
            steps=_PAIRS,
            batch=1,
            workers=workers,
        )
        next(stream)  # the workers have started
        start = time.perf_counter()
        taken = sum(1 for _ in stream)
        cells.append(f"{taken / (time.perf_counter() - start):.0f}")
    volumes = np.random.default_rng(0).random((2, *[size] * 3), np.float32)
    start = time.perf_counter()
    for _ in range(20):
        volumes.copy()
    copied = 20 / (time.perf_counter() - start)
    stored = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / count
    return (
        f"| {size}³ | {conform:.2f} | {stored / 2**20:.1f} | {' | '.join(cells)} | "
        f"{copied:.0f} |"
    )


def cohort_row(root: Path, folder: Path) -> str:
    """How long the start takes, and the draw of a pair."""
    config = configured(root, folder, 16)
    start = time.perf_counter()
    opened = dataset.open_part(config, "train")
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    for step in range(100):
        pairs.draw(0, step, 1, opened.persons, "reference")
    drawn = (time.perf_counter() - start) / 100
    return f"| {len(list(root.iterdir()))} | {seconds:.2f} | {1e6 * drawn:.0f} |"


if __name__ == "__main__":
    main()
