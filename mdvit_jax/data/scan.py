"""A scan of a cohort: its files, and the person whom it shows."""

import re
from pathlib import Path
from typing import NamedTuple

from mdvit_jax import errors

# How ADNI, OASIS and BIDS write a person within the name of a scan.
_PERSON = re.compile(r"\d{3}_S_\d{4,5}|OAS\d_?\d{4}|sub-[A-Za-z0-9]+")


class LoadingError(errors.UserError):
    """Scans cannot be loaded; what was computed before is not affected."""


class Scan(NamedTuple):
    """One scan of a cohort.

    Attributes:
        subject: its name, unique within the cohort.
        person: the person it shows; two scans may show the same one.
        image: the skull-stripped image; of a synthetic person, its index.
        labels: the label map, or None.
        mask: the brain mask, or None.
        split: "train", "validation" or "test" where the cohort itself says so, else "".
    """

    subject: str
    person: str
    image: Path
    labels: Path | None
    mask: Path | None
    split: str


def create_scan(
    subject: str,
    image: Path,
    *,
    labels: Path | None = None,
    mask: Path | None = None,
    split: str = "",
) -> Scan:
    """A scan whose name may contain the person, as names of ADNI, OASIS and BIDS do."""
    match = _PERSON.search(subject)
    person = match.group() if match else subject
    return Scan(subject, person, image, labels, mask, split)
