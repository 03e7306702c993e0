"""Read and write a transform, by the ending and the content of the file."""

import logging
from pathlib import Path

import numpy as np

from mdvit_jax import errors
from mdvit_jax.io import atomic
from mdvit_jax.io.grid import Grid
from mdvit_jax.transforms import displacement, fsl, hdf5, itk, lta, text
from mdvit_jax.transforms.displacement import DisplacementField
from mdvit_jax.transforms.itk import Chain

FORMATS = ("itk", "fsl", "lta", "x5", "text")
_BY_ENDING = {".tfm": "itk", ".lta": "lta", ".x5": "x5", ".txt": "text"}
_LARGEST = 1 << 24  # bytes; an affine takes a few hundred
_LARGE_FORMATS = (".h5", ".hdf5", ".tfm")  # may hold displacement fields
# Words in the files of other programs.
_OTHER_PROGRAMS = {
    '(Transform "': "a parameter file of elastix",
    "MNI Transform File": "a transform of MINC (.xfm)",
    "3dvolreg matrices": "a matrix of AFNI (.aff12.1D)",
    "3dAllineate matrices": "a matrix of AFNI (.aff12.1D)",
}

_log = logging.getLogger(__name__)


def read(
    path: str | Path,
    *,
    fixed: Grid | None = None,
    moving: Grid | None = None,
    format: str | None = None,
) -> np.ndarray:
    """The transform in a file, whose format is recognised by its contents.

    Args:
        path: of the file. Several affines in it, as in a composite of ITK's, are
            multiplied.
        fixed: grid of the fixed image. An FSL matrix means nothing without both grids;
            the other formats do not need them.
        moving: grid of the moving image.
        format: "fsl" or "text" for a file of 4×4 numbers, which does not say what they
            are; None takes them for FSL's where the ending is .mat.

    Returns:
        4×4 float64 `fixed_to_moving`, world RAS+ mm.

    Raises:
        UserError: no such file, one that is damaged or holds no affine, or a matrix
            that is not finite, not affine, or flattens space.
    """
    matrix = np.eye(4)
    for transform in read_chain(path, fixed=fixed, moving=moving, format=format):
        if isinstance(transform, DisplacementField):
            raise errors.UserError(
                f"{path} holds a displacement field, which only `mdvit apply` can use; "
                "give an affine transform."
            )
        matrix = transform @ matrix
    return matrix


def read_chain(
    path: str | Path,
    *,
    fixed: Grid | None = None,
    moving: Grid | None = None,
    format: str | None = None,
) -> Chain:
    """All transforms in a file, displacement fields among them.

    Args:
        path, fixed, moving, format: as in `read`.

    Returns:
        4×4 matrices and displacement fields, world RAS+ mm; the first one is applied to
        a point of the fixed image first.

    Raises:
        UserError: as in `read`.
    """
    path = Path(path)
    if path.name.lower().endswith(displacement.ENDINGS):
        return [displacement.read(path)]
    try:
        if path.stat().st_size > _LARGEST and path.suffix.lower() not in _LARGE_FORMATS:
            raise errors.UserError(f"{path} is too large for an affine transform.")
        content = path.read_bytes()
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be read ({error.strerror}); name a transform file."
        ) from error
    try:
        chain = _decode(path, content, fixed, moving, format)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise errors.UserError(
            f"{path} holds no affine transform that can be read ({error}); give an "
            "ITK (.tfm, .mat, .h5), FSL (.mat), FreeSurfer (.lta), X5 or 4×4 text file."
        ) from error
    return [
        t if isinstance(t, DisplacementField) else _checked(t, str(path)) for t in chain
    ]


def write(
    path: str | Path,
    fixed_to_moving: np.ndarray,
    *,
    fixed: Grid | None = None,
    moving: Grid | None = None,
    format: str | None = None,
) -> None:
    """Write a transform, whole or not at all; an existing file is replaced.

    Args:
        path: of the file; its ending decides the format, except for .mat.
        fixed_to_moving: 4×4, world RAS+ mm.
        fixed: grid of the fixed image; formats `fsl` and `lta` need both grids.
        moving: grid of the moving image.
        format: one of `FORMATS`; None is that of the ending.

    Raises:
        UserError: an ending or format that is not known, a missing grid, a matrix that
            is not affine, or a folder that cannot be written to.
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
    """The format that the ending of a path stands for, one of `FORMATS`.

    Raises:
        UserError: an unknown ending, or .mat, which two formats have.
    """
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
        return (
            itk.encode_binary(matrix)
            if ending == ".mat"
            else itk.encode_text(matrix).encode()
        )
    if format == "fsl":
        return text.encode(fsl.from_world(matrix, fixed, moving)).encode()
    if format == "lta":
        return lta.text(matrix, fixed, moving).encode()
    if format == "x5":
        return hdf5.encode_x5(matrix)
    if format == "text":
        return text.encode(matrix).encode()
    raise errors.UserError(
        f'"{format}" is not a format of transforms; choose one of {", ".join(FORMATS)}.'
    )


def _decode(path: Path, content: bytes, fixed, moving, format) -> Chain:
    if hdf5.is_hdf5(content):
        return hdf5.decode(content)
    if itk.is_binary(content):
        return itk.decode_binary(content)
    words = _decode_text(content)
    for start, program in _OTHER_PROGRAMS.items():
        if start in words:
            raise ValueError(f"it is {program}, which is not supported")
    if itk.is_text(words):
        return itk.decode_text(words)
    if lta.is_lta(words):
        return [lta.from_text(words)]
    matrix = text.decode(words)
    if format != "fsl" and (format == "text" or path.suffix.lower() != ".mat"):
        return [matrix]
    if fixed is None or moving is None:
        raise errors.UserError(
            f"{path} holds an FSL matrix, which needs the grids of both images; name "
            "the fixed and the moving image (in mdvit apply, after the file: "
            ":fixed=IMAGE:moving=IMAGE). If it is not FSL's but in world RAS+ mm, as "
            'greedy and ITK-SNAP write it, name the format "text".'
        )
    result = fsl.to_world(_checked(matrix, str(path)), fixed, moving)
    if format is None:
        apart = not _meets(result, fixed, moving) and _meets(matrix, fixed, moving)
        _log.log(
            logging.WARNING if apart else logging.INFO,
            "%s is taken for FSL's%s; for a matrix in world RAS+ mm, as greedy and "
            'ITK-SNAP write it, name the format "text".',
            path,
            ", by which the two images do not meet" if apart else "",
        )
    return [result]


def _meets(matrix: np.ndarray, fixed: Grid, moving: Grid) -> bool:
    """Whether the centre of the fixed grid lies in the moving one."""
    centre = np.append((np.array(fixed.shape) - 1) / 2, 1)
    at = np.linalg.inv(moving.affine) @ matrix @ fixed.affine @ centre
    return bool((at[:3] > -0.5).all() and (at[:3] < np.array(moving.shape) - 0.5).all())


def _decode_text(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16").lstrip("\ufeff")
    if b"\0" in content or content.startswith(b"MATLAB"):
        kind = "MATLAB 7.3's" if content.startswith(b"MATLAB") else "of no known kind"
        raise ValueError(f"it is binary, {kind}")
    return content.decode("utf-8", errors="replace").lstrip("\ufeff")


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
