"""SHA256SUMS: the checksums of a folder's files, written when all of them are there.

`sha256sum -c SHA256SUMS` within the folder is the same check as `damage`.
"""

import hashlib
from pathlib import Path

from mdvit_jax.io import atomic

NAME = "SHA256SUMS"


def write(folder: Path) -> None:
    """Write the sums of all files in a folder and below, whole or not at all.

    Raises:
        OSError: a file cannot be read, or the sums cannot be written.
    """
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in sorted(_files(folder))]
    atomic.write_text(folder / NAME, "".join(lines))


def damage(folder: Path) -> str | None:
    """What does not agree with a folder's sums, as words; None if all does.

    A folder without sums is not judged: whoever wrote it may have been killed before.
    """
    try:
        text = (folder / NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return f"{NAME} cannot be read: {error}"
    if not text.endswith("\n"):
        return f"{NAME} is cut short"
    lines = (line.partition("  ") for line in text.splitlines())
    listed = {name: digest for digest, _, name in lines}
    found = _files(folder)
    for name in sorted(listed.keys() | found):
        if name not in found:
            return f"{name} is missing"
        if name not in listed:  # also what sums that lost their last lines look like
            return f"{name} is not in {NAME}"
        try:
            if _sha256(folder / name) != listed[name]:
                return f"{name} is not what was written"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def _files(folder: Path) -> set[str]:
    """Relative paths; hidden files are the operating system's or unfinished."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != NAME and not path.name.startswith(".")
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
