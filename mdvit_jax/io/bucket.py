"""Folders in a bucket, such as gs://bucket/run, beside those of a disk."""

import os
from typing import Any

from mdvit_jax import errors


def in_bucket(path: str | os.PathLike) -> bool:
    """Whether a path is one of a bucket, and not of a disk."""
    return "://" in os.fspath(path)


def open_folder(folder: str | os.PathLike) -> Any:
    """A folder, on a disk or in a bucket, as `etils.epath.Path`; it need not be there.

    Raises:
        UserError: it is in a bucket that cannot be reached.
    """
    from etils import epath  # aligning two scans needs no buckets

    if not in_bucket(folder):
        return epath.Path(folder)
    try:
        path = epath.Path(folder)
        path.exists()
    except Exception as error:  # of a missing package, the service, its permissions
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise errors.UserError(
            f"The bucket of {folder} cannot be opened ({reason}); see that the package "
            "for it is installed (gcsfs for gs://) and that you may use it."
        ) from error
    return path
