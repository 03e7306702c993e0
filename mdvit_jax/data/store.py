"""The conformed scans of one part of the cohort, by index.

They come from the cache where `config.data.cache` names one, else they are conformed
when they are asked for, which gives the same bits and takes a second or two each time.

The cache is a folder with one folder for each scan: image.npy, mask.npy, labels.npy if
it has labels, and scan.json with `to_world` and the recipe (`recipe`), that is all that
the scan was made from. A scan's folder gets its name when all is in it, so that there
is never half a scan. bad.json names the scans that could not be used, and why.
"""

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib import parse

import ml_collections
import numpy as np

from mdvit_jax import errors
from mdvit_jax.data import cohort, conform, nifti, synthetic

PARTIAL = ".partial-"  # how the names of unfinished folders begin

_VERSION = 1  # of the cache; raised when conforming changes what it gives
_PREPARE = "run `python -m mdvit_jax prepare` with this configuration"

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Store:
    """Conformed scans by index; holds no data and no open file, so it can be pickled.

    Attributes:
        scans: where they come from.
        config: the whole configuration.
        stale: subject → what keeps its cached scan from being used.
    """

    scans: tuple[cohort.Scan, ...]
    config: ml_collections.ConfigDict
    stale: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The scans' names."""
        return tuple(scan.subject for scan in self.scans)

    @property
    def persons(self) -> tuple[str, ...]:
        """The person that each scan shows."""
        return tuple(scan.person for scan in self.scans)

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, index: int, /) -> conform.Conformed:
        scan = self.scans[index]
        if scan.subject in self.stale:
            raise errors.UserError(
                f"{_folder(scan, self.config)} in the cache is missing or out of date "
                f"({self.stale[scan.subject]}); {_PREPARE} again."
            )
        if self.config.data.cache:
            return read(scan, self.config)
        return make(scan, self.config)


def open_part(
    config: ml_collections.ConfigDict,
    part: str,
    scans: Sequence[cohort.Scan] | None = None,
) -> Store:
    """The scans of one of `cohort.PARTS`; no voxel is read yet.

    Args:
        config: the whole configuration.
        part: its name.
        scans: the part as a run has begun with it, all of which stay in; None: that of
            the cohort, without the scans that preparing the cache found bad, of which
            a warning tells.

    Raises:
        UserError: the cohort is missing or wrong (`cohort.read`, `cohort.split`); or
            the cache is missing, incomplete, or made from other files or settings. With
            `config.data.skip_unreadable`, a scan to train with that is not there, or
            made from others, is refused when it is asked for.
    """
    if part not in cohort.PARTS:
        raise errors.UserError(
            f'"{part}" is no part of a cohort; choose one of {", ".join(cohort.PARTS)}.'
        )
    begun = scans is not None
    if scans is None:
        scans = cohort.split(cohort.read(config), config)[part]
    cache = config.data.cache
    if not cache:
        _log.warning(
            "data.cache names no folder, so that each scan of the %s part is conformed "
            "whenever it is used, which is slower; %s and data.cache set.",
            part,
            _PREPARE,
        )
        return Store(tuple(scans), config)
    if not Path(cache).expanduser().is_dir():
        raise errors.UserError(
            f"data.cache is {cache}, which does not exist; {_PREPARE} first."
        )
    bad = {} if begun else read_bad(config)
    good = [scan for scan in scans if not _is_bad(scan, config, bad)]
    stale = {
        scan.subject: why
        for scan in good
        if (why := why_stale(scan, config)) is not None
    }
    skip = part == "train" and config.data.skip_unreadable
    if stale and not skip:
        subject, why = next(iter(stale.items()))
        without = ", or train without them: --config.data.skip_unreadable=True"
        raise errors.UserError(
            f"{len(stale)} of {len(scans)} scans in the cache {cache} are missing or "
            f"out of date ({subject}: {why}); {_PREPARE} again"
            f"{without if part == 'train' else ''}."
        )
    if len(good) < len(scans):
        _log.warning(
            "%d of the %d scans of the %s part are bad and left out; %s says why.",
            len(scans) - len(good),
            len(scans),
            part,
            Path(cache) / "bad.json",
        )
    return Store(tuple(good), config, stale)


def make(scan: cohort.Scan, config: ml_collections.ConfigDict) -> conform.Conformed:
    """Conform a scan from its files, or make a synthetic person.

    Raises:
        UserError: a file cannot be used; the message names it.
    """
    if config.data.layout == "synthetic":
        return synthetic.generate(config.data, int(scan.image.name), config.seed).scan
    return conform.conform(
        nifti.load(scan.image),
        None if scan.labels is None else nifti.load_labels(scan.labels),
        None if scan.mask is None else nifti.load_mask(scan.mask),
        size=config.data.size,
        field_of_view=config.data.field_of_view,
        name=str(scan.image),
    )


def recipe(scan: cohort.Scan, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """All that a conformed scan depends on, as JSON has it: settings and files.

    A file is told by its path, and by size and time of change of it and its partner.
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


def why_stale(scan: cohort.Scan, config: ml_collections.ConfigDict) -> str | None:
    """What keeps the cached scan from being used; None if it is up to date."""
    try:
        saved = json.loads((_folder(scan, config) / "scan.json").read_text())["recipe"]
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError, KeyError):
        return "damaged"
    wanted = recipe(scan, config)
    changed = [key for key in wanted if saved.get(key) != wanted[key]]
    return f"another {' and '.join(changed)}" if changed else None


def read(scan: cohort.Scan, config: ml_collections.ConfigDict) -> conform.Conformed:
    """A scan from the cache, memory-mapped.

    Raises:
        UserError: it is not there, or damaged.
    """
    folder = _folder(scan, config)
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
            f"{folder} in the cache is damaged ({error}); delete it and {_PREPARE}."
        ) from error
    return conform.Conformed(image, mask, labels, np.array(to_world, np.float64))


def write(
    scan: cohort.Scan, conformed: conform.Conformed, config: ml_collections.ConfigDict
) -> None:
    """Put a scan into the cache, in one step, in place of an older one.

    Raises:
        OSError: the cache cannot be written.
    """
    folder = _folder(scan, config)
    partial = folder.with_name(f"{PARTIAL}{os.getpid()}-{folder.name}")
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


def read_bad(config: ml_collections.ConfigDict) -> dict[str, dict[str, Any]]:
    """Subject → {"why": a sentence, "recipe": what it was tried with} of bad scans."""
    path = _cache(config) / "bad.json"
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
    partial = _cache(config) / f"{PARTIAL}bad.json"
    partial.write_text(json.dumps(bad, indent=1))
    partial.replace(_cache(config) / "bad.json")


def _is_bad(scan: cohort.Scan, config, bad: dict[str, dict[str, Any]]) -> bool:
    # Of a file that was replaced since, the list says nothing.
    return scan.subject in bad and bad[scan.subject]["recipe"] == recipe(scan, config)


def _stamp(path: Path | None) -> list[Any] | None:
    if path is None:
        return None
    stamp: list[Any] = [os.path.abspath(path)]
    try:
        for file in nifti.files(path):
            status = file.stat()
            stamp += [status.st_size, status.st_mtime_ns]
    except (errors.UserError, OSError):
        pass  # reading it will say what is wrong
    return stamp


def quoted(name: str) -> str:
    """A name as that of a file: without /, :, * and the like."""
    return parse.quote(name, safe=" ,+=@")


def _folder(scan: cohort.Scan, config: ml_collections.ConfigDict) -> Path:
    name = quoted(scan.subject)
    return _cache(config) / (name.replace(".", "%2E", 1) if name[0] == "." else name)


def _cache(config: ml_collections.ConfigDict) -> Path:
    return Path(config.data.cache).expanduser()
