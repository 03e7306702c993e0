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
    atomic.write_text(folder / NAME, "".join(f"{line}\n" for line in _sums(folder)))


def damage(folder: Path) -> str | None:
    """What does not agree with a folder's sums, in words; None if all does.

    A folder without sums passes: whoever wrote it may have been killed before.
    """
    try:
        written = (folder / NAME).read_text(encoding="utf-8").splitlines()
        different = set(written) ^ set(_sums(folder))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return f"it cannot be read: {error}"
    names = sorted(line.partition("  ")[2] for line in different)
    return f"{names[-1] or NAME} is not what was written" if names else None


def _sums(folder: Path) -> list[str]:
    """A line of `sha256sum` for each file that is not hidden."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        f"{_sha256(path)}  {path.relative_to(folder).as_posix()}"
        for path in files
        if path.name != NAME and not path.name.startswith(".")
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
