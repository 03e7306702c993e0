"""Read and write a transform, by the file's ending and what is in it."""

from pathlib import Path

import numpy as np

from mdvit_jax import errors
from mdvit_jax.io import atomic
from mdvit_jax.io.grid import Grid
from mdvit_jax.transforms import fsl, itk, lta, text, x5

FORMATS = ("itk", "fsl", "lta", "x5", "text")
_BY_ENDING = {".tfm": "itk", ".lta": "lta", ".x5": "x5", ".txt": "text"}
_LARGEST = 1 << 24  # bytes; an affine takes a few hundred


def read(
    path: str | Path,
    *,
    fixed: Grid | None = None,
    moving: Grid | None = None,
    format: str | None = None,
) -> np.ndarray:
    """The transform in a file, whose format is recognised by its contents.

    Args:
        path: of the file.
        fixed: grid of the fixed image. An FSL matrix means nothing without both grids;
            the other formats do not need them.
        moving: grid of the moving image.
        format: "fsl" or "text" for a file of 4×4 numbers, in which nothing says what
            they are; None takes them for FSL's where the ending is .mat.

    Returns:
        4×4 float64 `fixed_to_moving`, world RAS+ mm.

    Raises:
        UserError: no such file, one that is damaged or holds no affine, or a matrix
            that is not finite, not affine, or flattens space.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise errors.UserError(
                f"{path} is too large for an affine transform; a deformation field "
                "cannot be used."
            )
        content = path.read_bytes()
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be read ({error.strerror}); name a transform file."
        ) from error
    try:
        matrix = _decode(path, content, fixed, moving, format)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise errors.UserError(
            f"{path} holds no affine transform that can be read ({error}); give an "
            "ITK (.tfm, .mat), FSL (.mat), FreeSurfer (.lta), X5 or 4×4 text file."
        ) from error
    return _checked(matrix, str(path))


def write(
    path: str | Path,
    fixed_to_moving: np.ndarray,
    *,
    fixed: Grid | None = None,
    moving: Grid | None = None,
    format: str | None = None,
) -> None:
    """Write a transform; a file that is there is replaced, all at once.

    Args:
        path: of the file; its ending says the format, except for .mat.
        fixed_to_moving: 4×4, world RAS+ mm.
        fixed: grid of the fixed image; formats `fsl` and `lta` need both grids.
        moving: grid of the moving image.
        format: one of `FORMATS`; None is what the ending says.

    Raises:
        UserError: an ending or format that is not known, a missing grid, a matrix that
            is no affine, or a folder that cannot be written to.
    """
    path = Path(path)
    matrix = _checked(fixed_to_moving, "The transform")
    format = format or format_of_ending(path)
    if format in ("fsl", "lta") and (fixed is None or moving is None):
        raise errors.UserError(
            f"{path}: the format {format} needs the grids of both images; name the "
            "fixed and the moving image."
        )
    content = _encode(format, path.suffix.lower(), matrix, fixed, moving)
    try:
        with atomic.replacing(path) as beside:
            beside.write_bytes(content)
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be written ({error.strerror}); name another place."
        ) from error


def format_of_ending(path: str | Path) -> str:
    """The format by the ending; a UserError if the ending does not say it."""
    path = Path(path)
    ending = path.suffix.lower()
    if ending == ".mat":
        raise errors.UserError(
            f"{path}: both ITK and FSL have files .mat; choose the format itk or fsl "
            "(convert: --to)."
        )
    if ending not in _BY_ENDING:
        raise errors.UserError(
            f"{path} has none of the endings {', '.join(_BY_ENDING)} and .mat; choose "
            f"one, or a format: {', '.join(FORMATS)}."
        )
    return _BY_ENDING[ending]


def _encode(format: str, ending: str, matrix, fixed, moving) -> bytes:
    if format == "itk":
        return itk.binary(matrix) if ending == ".mat" else itk.text(matrix).encode()
    if format == "fsl":
        return text.encode(fsl.from_world(matrix, fixed, moving)).encode()
    if format == "lta":
        return lta.text(matrix, fixed, moving).encode()
    if format == "x5":
        return x5.encode(matrix)
    if format == "text":
        return text.encode(matrix).encode()
    raise errors.UserError(
        f'"{format}" is no format of transforms; choose one of {", ".join(FORMATS)}.'
    )


def _decode(path: Path, content: bytes, fixed, moving, format) -> np.ndarray:
    if x5.is_hdf5(content):
        return x5.decode(content)
    if itk.is_binary(content):
        return itk.from_binary(content)
    words = content.decode("utf-8")  # a UnicodeDecodeError is a ValueError
    if itk.is_text(words):
        return itk.from_text(words)
    if lta.is_lta(words):
        return lta.from_text(words)
    matrix = text.decode(words)
    if format != "fsl" and (format == "text" or path.suffix.lower() != ".mat"):
        return matrix
    if fixed is None or moving is None:
        raise errors.UserError(
            f"{path} holds an FSL matrix, which needs the grids of both images; name "
            "the fixed and the moving image."
        )
    return fsl.to_world(_checked(matrix, str(path)), fixed, moving)


def _checked(matrix: np.ndarray, what: str) -> np.ndarray:
    matrix = np.asarray(matrix, np.float64)
    problem = None
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        problem = "is not a 4×4 matrix of finite numbers"
    elif np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-6:
        problem = "is not affine: its last row is not 0 0 0 1"
    elif not 1e-6 < abs(np.linalg.det(matrix[:3, :3])) < 1e6:
        problem = "flattens or explodes space, so that it has no inverse"
    if problem:
        raise errors.UserError(f"{what} {problem}; give an affine transform.")
    return matrix
