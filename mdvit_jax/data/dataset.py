"""The conformed scans of one part of the cohort, by index.

They come from the cache where `config.data.cache` names one, else they are conformed
when they are asked for, which gives the same bits and takes a second or two each time.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_collections
import numpy as np

from mdvit_jax import errors
from mdvit_jax.data import cache, cohort, conform, synthetic_cohort
from mdvit_jax.data.scan import LoadingError, Scan
from mdvit_jax.io import image

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class ScanDataset:
    """Conformed scans by index; holds no data and no open file, so it can be pickled.

    Attributes:
        scans: where they come from.
        config: the whole configuration.
        stale: subject → what keeps its cached scan from being used.
    """

    scans: tuple[Scan, ...]
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
        try:
            return self._load(self.scans[index])
        except errors.UserError as error:
            raise LoadingError(str(error)) from error

    def _load(self, scan: Scan) -> conform.Conformed:
        if scan.subject in self.stale:
            raise errors.UserError(
                f"{cache.scan_folder(scan, self.config)} in the cache is missing or "
                f"out of date ({self.stale[scan.subject]}); {cache.PREPARE} again."
            )
        if self.config.data.cache:
            return cache.read(scan, self.config)
        return conform_scan(scan, self.config)


class InMemory:
    """Scans that stay in memory once they are read, for grids of a few voxels.

    Else each step opens several small files a scan, which takes longer than the step.
    """

    def __init__(self, scans: ScanDataset):
        """Of the scans of a data set, which are read when they are asked for."""
        self._scans = scans
        self._kept: dict[int, conform.Conformed] = {}

    def __len__(self) -> int:
        return len(self._scans)

    def __getitem__(self, index: int, /) -> conform.Conformed:
        if index not in self._kept:
            read = self._scans[index]
            # What is mapped from a file would keep it open.
            self._kept[index] = read._replace(image=np.array(read.image))
        return self._kept[index]


def open_part(
    config: ml_collections.ConfigDict,
    part: str,
    scans: Sequence[Scan] | None = None,
) -> ScanDataset:
    """The scans of one of `cohort.PARTS`; no voxel is read yet.

    Args:
        config: the whole configuration.
        part: its name.
        scans: the part as a run has begun with it, all of which stay in; None: that of
            the cohort, without the scans that the cache lists as bad, with a warning.

    Raises:
        UserError: the cohort is missing or wrong (`cohort.read`, `cohort.split`); or
            the cache is missing, incomplete, or made from other files or settings. With
            `config.data.skip_unreadable`, a scan to train with that is not there, or
            made from others, is refused when it is asked for.
    """
    begun = scans is not None
    if scans is None:
        scans = cohort.split(cohort.read(config), config)[part]
    folder = config.data.cache
    if not folder:
        _log.warning(
            "data.cache names no folder, so that each scan of the %s part is conformed "
            "whenever it is used, which is slower; %s and data.cache set.",
            part,
            cache.PREPARE,
        )
        return ScanDataset(tuple(scans), config)
    if not Path(folder).expanduser().is_dir():
        raise errors.UserError(
            f"data.cache is {folder}, which does not exist; {cache.PREPARE} first."
        )
    bad = {} if begun else cache.read_bad(config)
    good = [scan for scan in scans if not cache.is_bad(scan, config, bad)]
    stale = {
        scan.subject: why
        for scan in good
        if (why := cache.stale_reason(scan, config)) is not None
    }
    skip = part == "train" and config.data.skip_unreadable
    if stale and not skip:
        subject, why = next(iter(stale.items()))
        without = ", or train without them: --config.data.skip_unreadable=True"
        raise errors.UserError(
            f"{len(stale)} of {len(scans)} scans in the cache {folder} are missing or "
            f"out of date ({subject}: {why}); {cache.PREPARE} again"
            f"{without if part == 'train' else ''}."
        )
    if len(good) < len(scans):
        _log.warning(
            "%d of the %d scans of the %s part are bad and left out; %s says why.",
            len(scans) - len(good),
            len(scans),
            part,
            Path(folder) / "bad.json",
        )
    return ScanDataset(tuple(good), config, stale)


def conform_scan(scan: Scan, config: ml_collections.ConfigDict) -> conform.Conformed:
    """Conform a scan from its files, or make a synthetic person.

    Raises:
        UserError: a file cannot be used; the message names it.
    """
    if config.data.layout == "synthetic":
        return synthetic_cohort.generate(
            config.data, int(scan.image.name), config.seed
        ).scan
    return conform.conform(
        image.load(scan.image),
        None if scan.labels is None else _load_labels(scan.labels),
        None if scan.mask is None else image.load_mask(scan.mask),
        size=config.data.size,
        field_of_view=config.data.field_of_view,
        name=str(scan.image),
    )


def _load_labels(path: Path) -> image.Image:
    labels = image.load_labels(path)
    extreme = max(labels.data.min().item(), labels.data.max().item(), key=abs)
    if not -(2**31) <= extreme < 2**31:
        raise errors.UserError(
            f"{path} holds the label {extreme}, which does not fit 32 bits; renumber "
            "the labels."
        )
    return labels
