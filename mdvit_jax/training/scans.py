"""The scans that a run learns from and validates with, the same until its end.

A layout finds the scans whose files are there. A file that is lost between two starts
of a run would change who is in which part, and all pairs to come; so the first start
writes the scans' names into `WORKDIR/scans.json`, and later ones use that list.
"""

import json
from pathlib import Path

import ml_collections
from etils import epath

from mdvit_jax import errors
from mdvit_jax.data import cohort, dataset
from mdvit_jax.data.scan import Scan
from mdvit_jax.io import atomic

_PARTS = ("train", "validation")


def open_parts(
    config: ml_collections.ConfigDict, workdir: epath.Path
) -> tuple[dataset.ScanDataset, dataset.ScanDataset]:
    """The scans for training and for validation, as the run began with them.

    A scan that the cohort no longer has keeps its place, and cannot be read. Scans that
    were added to the cohort since stay out.

    Raises:
        UserError: as `dataset.open_part`; or the run's list of scans is damaged.
    """
    if not (workdir / "scans.json").exists():
        training, held_out = (dataset.open_part(config, part) for part in _PARTS)
        return training, held_out
    now = {scan.subject: scan for scan in cohort.read(config)}
    training, held_out = (
        dataset.open_part(
            config,
            part,
            [now.get(s.subject, s)._replace(person=s.person) for s in begun_with],
        )
        for part, begun_with in _saved(workdir).items()
    )
    return training, held_out


def save(
    workdir: epath.Path, training: dataset.ScanDataset, held_out: dataset.ScanDataset
) -> None:
    """Write down what a run begins with; of a run that goes on, nothing changes."""
    if (workdir / "scans.json").exists():
        return
    parts = {
        part: [[s.subject, s.person, str(s.image)] for s in opened.scans]
        for part, opened in zip(_PARTS, (training, held_out), strict=True)
    }
    atomic.write_text(workdir / "scans.json", json.dumps(parts, indent=1) + "\n")


def _saved(workdir: epath.Path) -> dict[str, list[Scan]]:
    path = workdir / "scans.json"
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))
        return {
            part: [
                Scan(subject, person, Path(image), labels=None, mask=None, split="")
                for subject, person, image in parts[part]
            ]
            for part in _PARTS
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.UserError(
            f"{path}, which lists the scans of the run, is damaged ({error}); copy it "
            "again, or name another folder with --config.workdir."
        ) from error
