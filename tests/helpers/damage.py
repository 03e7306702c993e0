"""Files with faults: header fields without nibabel's checks, bits flipped, ends cut."""

import gzip
from typing import NamedTuple

import nibabel as nib
import numpy as np


def stored(data, affine, image_class=nib.Nifti1Image, **header) -> bytes:
    """The bytes of an image in its data's type, with some header fields changed."""
    made = nib.Nifti1Header() if image_class is nib.Nifti1Image else None
    if made is not None:
        made.set_data_dtype(data.dtype)
    return with_fields(image_class(data, affine, made).to_bytes(), image_class, header)


def with_fields(content: bytes, image_class, header) -> bytes:
    if not header:
        return content
    kind = image_class.header_class
    size = kind.template_dtype.itemsize
    raw = kind(content[:size], check=False)
    for field, value in header.items():
        raw[field] = value
    return raw.binaryblock + content[size:]


def flipped(content: bytes, random, first=0, last=None) -> bytes:
    """The bytes with one bit between `first` and `last` flipped."""
    damaged = bytearray(content)
    at = random.integers(first, len(content) if last is None else last)  # may be < 0
    damaged[at] ^= 1 << random.integers(8)
    return bytes(damaged)


def cut(content: bytes, random) -> bytes:
    return content[: random.integers(len(content))]


class Case(NamedTuple):
    """A file with a fault.

    Attributes:
        ending: ending of the file's name.
        content: its bytes.
        same: whether a reader that accepts it must read the voxels of the sound file;
            else it must read what nibabel reads.
        refused: whether it must be refused; None: either is right.
    """

    ending: str
    content: bytes
    same: bool
    refused: bool | None


def image(number: int, random, data, affine) -> Case:
    """Damage an image at a random place, in one of 15 ways chosen by the number."""
    plain = stored(data, affine)
    packed = gzip.compress(plain, 1, mtime=0)
    mgh = stored(data.astype(np.float32), affine, nib.MGHImage)
    mgz = gzip.compress(mgh, 1, mtime=0)
    other = bytes(random.integers(0, 256, random.integers(1, 60), np.uint8))
    at = int(random.integers(10, len(packed)))
    kinds = (
        # A bit that no checksum covers may be harmless; any other must be noticed.
        Case(".nii.gz", flipped(packed, random, 10), True, None),
        Case(".nii.gz", flipped(packed, random, 0, 12), True, None),
        Case(".nii.gz", flipped(packed, random, len(packed) - 8), True, True),
        Case(".nii.gz", cut(packed, random), True, True),
        Case(".nii.gz", packed[: -random.integers(1, 40)], True, True),
        Case(".nii.gz", packed[:at] + packed[at + 7 :], True, True),
        Case(".nii.gz", packed + other, True, None),
        Case(".nii.gz", packed[:at] + other + packed[at + len(other) :], True, None),
        Case(".nii.gz", gzip.compress(flipped(plain, random, 0, 352)), False, None),
        Case(".nii", flipped(plain, random, 0, 352), False, None),
        Case(
            ".nii",
            flipped(flipped(plain, random, 0, 352), random, 40, 120),
            *(False, None),
        ),
        Case(".nii", cut(plain, random), True, True),
        Case(".mgh", flipped(mgh, random, 0, 90), False, None),
        Case(".mgz", flipped(mgz, random, 10), True, None),
        Case(".mgz", cut(mgz, random), True, True),
    )
    return kinds[number % len(kinds)]
