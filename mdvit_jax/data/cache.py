"""Conformed scans on disk, so that they are made once and read quickly.

The cache (`config.data.cache`) is a folder with one folder for each scan: image.npy,
mask.npy, labels.npy if it has labels, and scan.json with `to_world` and the recipe
(`recipe`), that is all that the scan was made from. A scan's folder gets its name when
all is in it, so that there is never half a scan. bad.json names the scans that could
not be used, and why.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any
from urllib import parse

import ml_collections
import numpy as np

from mdvit_jax import errors
from mdvit_jax.data import conform
from mdvit_jax.data.scan import Scan
from mdvit_jax.io import atomic, gzip_files

PREPARE = "run `python -m mdvit_jax prepare` with this configuration"

_PARTIAL = ".partial"  # how the names of unfinished folders and files begin
_VERSION = 1  # of the cache; raised when conforming changes what it gives


def recipe(scan: Scan, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """All that a conformed scan depends on, as JSON has it: settings and files.

    A file is identified by its path, and by the size and the time of change of it and
    its partner.
    """
    data = config.data
    ingredients: dict[str, Any] = {
        "version": _VERSION,
        "size": data.size,
        "field_of_view": data.field_of_view,
    }
    if data.layout == "synthetic":
        settings = data.synthetic.to_dict()
        del settings["people"]  # how many there are changes none of them
        ingredients |= {"person": scan.image.name, "seed": config.seed, **settings}
    else:
        for kind in ("image", "labels", "mask"):
            ingredients[kind] = _stamp(getattr(scan, kind))
    return json.loads(json.dumps(ingredients))


def stale_reason(scan: Scan, config: ml_collections.ConfigDict) -> str | None:
    """What keeps the cached scan from being used; None if it is up to date."""
    try:
        details = (scan_folder(scan, config) / "scan.json").read_text()
        saved = json.loads(details)["recipe"]
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError, KeyError):
        return "damaged"
    wanted = recipe(scan, config)
    changed = [key for key in wanted if saved.get(key) != wanted[key]]
    return f"another {' and '.join(changed)}" if changed else None


def read(scan: Scan, config: ml_collections.ConfigDict) -> conform.Conformed:
    """A scan from the cache, memory-mapped.

    Raises:
        UserError: it is not there, or damaged.
    """
    folder = scan_folder(scan, config)
    try:
        to_world = json.loads((folder / "scan.json").read_text())["to_world"]
        # Plain arrays: NumPy is slower with its own class of mapped ones.
        image, mask, labels = (
            np.asarray(np.load(file, mmap_mode="r")) if file.exists() else None
            for file in (folder / f"{name}.npy" for name in ("image", "mask", "labels"))
        )
        shape = (config.data.size,) * 3
        if image is None or mask is None or not image.shape == mask.shape == shape:
            raise ValueError("a volume is missing or has another size")
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise errors.UserError(
            f"{folder} in the cache is damaged ({error}); delete it and {PREPARE}."
        ) from error
    return conform.Conformed(image, mask, labels, np.array(to_world, np.float64))


def write(
    scan: Scan, conformed: conform.Conformed, config: ml_collections.ConfigDict
) -> None:
    """Put a scan into the cache, in one step, in place of an older one.

    Raises:
        OSError: the cache cannot be written.
    """
    folder = scan_folder(scan, config)
    partial = folder.with_name(f"{_PARTIAL}-{os.getpid()}-{folder.name}")
    partial.mkdir()
    for name in ("image", "mask", "labels"):
        volume = getattr(conformed, name)
        if volume is not None:
            np.save(partial / f"{name}.npy", volume)
    details = {"to_world": conformed.to_world.tolist(), "recipe": recipe(scan, config)}
    (partial / "scan.json").write_text(json.dumps(details, indent=1))
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)


def remove_unfinished(config: ml_collections.ConfigDict) -> None:
    """Remove what a run that was killed has left behind.

    Raises:
        OSError: it cannot be removed.
    """
    for left_over in _root(config).glob(f"{_PARTIAL}*"):
        if left_over.is_dir():
            shutil.rmtree(left_over)
        else:  # the list of bad scans
            left_over.unlink()


def read_bad(config: ml_collections.ConfigDict) -> dict[str, dict[str, Any]]:
    """The scans that could not be conformed, by subject.

    Returns:
        Subject → {"why": a sentence, "recipe": that of `recipe`}; empty without a list.

    Raises:
        UserError: the list is damaged.
    """
    path = _root(config) / "bad.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise errors.UserError(
            f"{path} is damaged ({error}); remove it, and prepare the cohort again."
        ) from error


def write_bad(
    bad: dict[str, dict[str, Any]], config: ml_collections.ConfigDict
) -> None:
    """Replace the list of bad scans, in one step."""
    atomic.write_text(_root(config) / "bad.json", json.dumps(bad, indent=1))


def is_bad(
    scan: Scan,
    config: ml_collections.ConfigDict,
    bad: dict[str, dict[str, Any]],
) -> bool:
    """Whether the list has this scan, unless its file was replaced since."""
    return scan.subject in bad and bad[scan.subject]["recipe"] == recipe(scan, config)


def scan_folder(scan: Scan, config: ml_collections.ConfigDict) -> Path:
    """Where a scan lies, or would lie, in the cache."""
    name = parse.quote(scan.subject, safe=" ,+=@")  # without /, :, * and the like
    return _root(config) / (name.replace(".", "%2E", 1) if name[0] == "." else name)


def _stamp(path: Path | None) -> list[Any] | None:
    if path is None:
        return None
    stamp: list[Any] = [os.path.abspath(path)]
    try:
        for file in gzip_files.image_files(path):
            status = file.stat()
            stamp += [status.st_size, status.st_mtime_ns]
    except (errors.UserError, OSError):
        pass  # reading it will say what is wrong
    return stamp


def _root(config: ml_collections.ConfigDict) -> Path:
    return Path(config.data.cache).expanduser()
