"""Where an output may be written: checked before anything is computed."""

import os
from collections.abc import Iterable
from pathlib import Path

from mdvit_jax import errors

IMAGE_ENDINGS = (".nii.gz", ".nii", ".mgz", ".mgh")


def image_ending(path: str | Path) -> str:
    """The ending by which an image can be written; a UserError if it has none."""
    name = Path(path).name.lower()
    ending = next((e for e in IMAGE_ENDINGS if name.endswith(e)), None)
    if ending is None:
        raise errors.UserError(
            f"{path} has none of the endings {', '.join(IMAGE_ENDINGS)}; choose one."
        )
    return ending


def is_mgh(path: str | Path) -> bool:
    """Whether an image is written in FreeSurfer's format; a UserError as above."""
    return image_ending(path).startswith(".mg")


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two paths name one file, which need not be there yet."""
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def check_not_input(path: str | Path, inputs: Iterable[str | Path]) -> None:
    """Raise a UserError if an input would be overwritten."""
    for other in inputs:
        if same_file(path, other):
            raise errors.UserError(
                f"{path} would be written over {other}, which is read; name another "
                "output."
            )


def check_new(path: str | Path, overwrite: bool) -> None:
    """Raise a UserError if the file is there and may not be replaced."""
    if not overwrite and os.path.exists(path):
        raise errors.UserError(
            f"{path} is there already; name another file, or add --overwrite."
        )


def check_writable(path: str | Path) -> None:
    """Raise a UserError if a file cannot be written there."""
    folder, reason = Path(os.path.realpath(path)).parent, None
    if not folder.is_dir():
        reason = f"there is no folder {folder}"
    elif not os.access(folder, os.W_OK):
        reason = f"nothing can be written to the folder {folder}"
    elif Path(path).is_dir():
        reason = "it is a folder"
    if reason:
        raise errors.UserError(
            f"{path} cannot be written ({reason}); name another place."
        )
