"""The images of a BIDS dataset, known by their names alone; no file is opened.

A name is entities, a suffix and an ending: sub-01_ses-1_run-2_T1w.nii.gz. The rules are
those of https://bids-specification.readthedocs.io (1.10).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mdvit_jax import errors

_ENDING = re.compile(r"\.nii(\.gz)?$")
# Where files lie below a dataset; the first is not BIDS, but some keep them so.
_PLACES = ("sub-*.nii*", "sub-*/*/sub-*.nii*", "sub-*/ses-*/*/sub-*.nii*")
# Entities that come after `space` in a name.
_LATE = ("split", "recording", "chunk", "seg", "res", "den", "label", "desc")


class BidsImage(NamedTuple):
    """An image of a BIDS dataset.

    Attributes:
        path: of the file.
        entities: such as {"sub": "01", "run": "2"}, in the order of its name.
        suffix: such as "T1w".
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str

    @property
    def session(self) -> tuple[str, str]:
        """The person and the session, "" where there are none."""
        return self.entities["sub"], self.entities.get("ses", "")


def find(root: Path) -> list[BidsImage]:
    """All images of a dataset, but for those of its derivatives, in order of names.

    Raises:
        UserError: it is not a BIDS dataset, or has no images.
    """
    if not (root / "dataset_description.json").is_file():
        raise errors.UserError(
            f"{root} is not a BIDS dataset, as it has no dataset_description.json; "
            "name its top folder."
        )
    paths = {path for place in _PLACES for path in root.glob(place)}
    images = [image for path in sorted(paths) if (image := _parse(path))]
    if not images:
        raise errors.UserError(
            f"{root} has no images sub-*/[ses-*/]*/sub-*_SUFFIX.nii.gz."
        )
    return images


def find_people(root: Path) -> list[str]:
    """The labels of all folders sub-LABEL, with images or without."""
    return sorted(path.name[4:] for path in root.glob("sub-*") if path.is_dir())


def is_label(word: str) -> bool:
    """Whether a word may stand behind an entity's hyphen."""
    return re.fullmatch(r"[A-Za-z0-9+]+", word) is not None


def join_name(entities: Mapping[str, str], suffix: str) -> str:
    """The name of a file, without an ending."""
    return "_".join([*(f"{key}-{value}" for key, value in entities.items()), suffix])


def add_entities(
    entities: Mapping[str, str], added: Mapping[str, str]
) -> dict[str, str]:
    """Entities with others set, in the order of the standard."""
    merged = {key: value for key, value in entities.items() if key not in added}
    early = {key: value for key, value in merged.items() if key not in _LATE}
    late = {key: value for key, value in {**merged, **added}.items() if key in _LATE}
    early |= {key: value for key, value in added.items() if key not in _LATE}
    return early | {key: late[key] for key in _LATE if key in late}


def _parse(path: Path) -> BidsImage | None:
    """An image by its name; None if that is not of BIDS."""
    ending = _ENDING.search(path.name)
    parts = path.name[: ending.start()].split("_") if ending else []
    pairs = [part.split("-", 1) for part in parts[:-1]]
    if len(parts) < 2 or not all(len(p) == 2 and is_label(p[1]) for p in pairs):
        return None
    if "-" in parts[-1] or pairs[0][0] != "sub":
        return None
    return BidsImage(path, dict(pairs), parts[-1])
