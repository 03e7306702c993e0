"""Where the time of the input goes: preparing a scan, and reading a pair.

    python -m benchmarks.loading_parts [--size 128] [--repeats 5]

The scans are those of `benchmarks.loading`. The parts of preparing a scan come from a
profile of the program; the parts of reading a pair are timed one by one, in the
training process. The limit of a part is the shortest possible time: inflating the file,
or reading and writing its bytes once at the rate of a copy within memory.
"""

import argparse
import cProfile
import gzip
import logging
import pstats
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import loading, timing
from mdvit_jax.data import cache, cohort, dataset, pairs
from mdvit_jax.data.loading import Load
from mdvit_jax.io import image

# Part of preparing a scan → the function that is it.
_FUNCTIONS = {
    "read and inflate the file": ("image.py", "load"),
    "average image and brain": ("resample.py", "average"),
    "find the brightest voxels": ("_function_base_impl.py", "percentile"),
    "write to the cache": ("cache.py", "write"),
}


def main() -> None:
    """Print a row of Markdown for each part of the two."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=128, help="voxels along each axis")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        scans = Path(folder, "scans")
        loading.write_scans(scans, count=4, size=256)
        config = loading.configured(scans, Path(folder, "cache"), arguments.size)
        print_scan(config, arguments.repeats)
        print_pair(config, arguments.repeats)


def print_scan(config, repeats: int) -> None:
    """The parts of preparing one scan, in the order of the work."""
    scan = cohort.read(config)[0]
    with cProfile.Profile() as profile:
        for _ in range(repeats):
            cache.write(scan, dataset.conform_scan(scan, config), config)
    calls = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    whole = sum(row[2] for row in calls.values()) / repeats
    packed = scan.image.read_bytes()
    values = image.load(scan.image).data
    brain = int(np.count_nonzero(values))
    cached = config.data.size**3 * 5  # float32 and uint8
    limits = {
        "read and inflate the file": timing.shortest(
            lambda: gzip.decompress(packed), repeats
        ),
        # Image and brain are read as float32 where the brain is, and sums written.
        "average image and brain": copying(2 * 4 * brain, repeats),
        "find the brightest voxels": copying(4 * brain, repeats),
        "write to the cache": copying(cached, repeats),
    }
    print("| preparing a scan | s | share | limit (s) |\n|---|---|---|---|")
    rest = whole
    for name, (file, function) in _FUNCTIONS.items():
        seconds = sum(
            row[3]
            for (path, _, called), row in calls.items()
            if Path(path).name == file and called == function
        )
        seconds /= repeats
        rest -= seconds
        print(
            f"| {name} | {seconds:.3f} | {seconds / whole:.0%} | {limits[name]:.3f} |"
        )
    print(
        f"| the rest: masks, checks, conversions | {rest:.3f} | {rest / whole:.0%} | |"
    )
    print(f"| the whole | {whole:.3f} | | |\n")


def print_pair(config, repeats: int) -> None:
    """The parts of reading one pair from the cache, in the training process."""
    opened = dataset.open_part(config, "train")
    load = Load(
        scans=opened,
        template=None,
        persons=opened.persons,
        seed=0,
        task="reference",
        batch=1,
        rows=slice(0, 1),
        skip_unreadable=False,
        shared=False,
    )

    def copy_anew() -> list[np.ndarray]:
        """Of files just opened, as copying is what reads them."""
        return [load._stack([opened[scan].image]) for scan in (0, 1)]

    def shortest(part) -> float:
        return timing.shortest(part, 10 * repeats)

    opening = shortest(lambda: [opened[0], opened[1]])
    parts = {
        "draw the pair": shortest(
            lambda: pairs.draw(0, 1, 1, opened.persons, "reference")
        ),
        "open two scans": opening,
        "copy their volumes": shortest(copy_anew) - opening,
    }
    whole = shortest(lambda: load(1))
    limits = {"copy their volumes": copying(2 * opened[0].image.nbytes, repeats)}
    print("| reading a pair | ms | share | limit (ms) |\n|---|---|---|---|")
    for name, seconds in parts.items():
        limit = f" {1e3 * limits[name]:.2f}" if name in limits else ""
        share = f"{seconds / whole:.0%}"
        print(f"| {name} | {1e3 * seconds:.2f} | {share} |{limit} |")
    rest = whole - sum(parts.values())
    print(f"| the rest: a batch of it | {1e3 * rest:.2f} | {rest / whole:.0%} | |")
    print(f"| the whole | {1e3 * whole:.2f} | | |")


def copying(size: int, repeats: int) -> float:
    """Seconds to copy so many bytes between two arrays that are already allocated."""
    values, copied = np.ones((2, size), np.uint8)
    return timing.shortest(lambda: np.copyto(copied, values), repeats)


if __name__ == "__main__":
    main()
