"""ITK's files of transforms (ANTs, SimpleITK, Slicer): fixed → moving, LPS+ mm.

Several transforms in a file are a composite, whose last one is applied to a point
first. What a transform's parameters mean is in `itk_parameters`.
"""

import io
import re
from typing import Any

import numpy as np

from mdvit_jax.transforms.displacement import DisplacementField
from mdvit_jax.transforms.itk_parameters import TO_LPS, ItkTransform, decode
from mdvit_jax.transforms.text import numbers

Chain = list[np.ndarray | DisplacementField]

_HEAD = "#Insight Transform File V1.0"
_NAME = "AffineTransform_double_3_3"
_COMPOSITE = "CompositeTransform"
_LEVEL_5 = b"MATLAB 5.0 MAT-file"


def encode_text(fixed_to_moving: np.ndarray) -> str:
    """4×4 in world RAS+ mm as the text of a .tfm file."""
    return (
        f"{_HEAD}\n#Transform 0\nTransform: {_NAME}\n"
        f"Parameters: {numbers(_parameters(fixed_to_moving))}\nFixedParameters: 0 0 0\n"
    )


def encode_binary(fixed_to_moving: np.ndarray) -> bytes:
    """4×4 in world RAS+ mm as a binary .mat file (MATLAB's level 4)."""
    from scipy.io import savemat  # here, as few programs need it

    file = io.BytesIO()
    content = {_NAME: _parameters(fixed_to_moving)[:, None], "fixed": np.zeros((3, 1))}
    savemat(file, content, format="4")
    return file.getvalue()


def is_text(text: str) -> bool:
    """Whether this is the text of a .tfm file."""
    return text.lstrip().startswith("#Insight Transform File")


def is_binary(content: bytes) -> bool:
    """Whether this is a MATLAB file of level 4 (by the first header) or 5."""
    if content.startswith(_LEVEL_5):
        return True
    if len(content) < 20:
        return False
    kind, rows, columns, imaginary, length = np.frombuffer(content[:20], "<i4").tolist()
    small = 0 < rows <= 64 and 0 < columns <= 64 and 0 < length <= 256
    return kind in (0, 10) and imaginary == 0 and small  # doubles, floats


def decode_text(text: str) -> Chain:
    """The transforms of a .tfm file in world RAS+ mm, in the order of application.

    Raises:
        ValueError: there are none, or they cannot be read.
    """
    names = re.findall(r"^Transform:\s*(\S+)", text, re.M)
    rows = {
        key: [
            np.array(line.split(), np.float64)
            for line in re.findall(rf"^{key}:[ \t]*(.*)$", text, re.M)
        ]
        for key in ("Parameters", "FixedParameters")
    }
    if names and names[0].startswith(_COMPOSITE):
        names = names[1:]
    if not len(names) == len(rows["Parameters"]) == len(rows["FixedParameters"]):
        raise ValueError("parameters are missing")
    return _decode_all(map(ItkTransform, names, *rows.values()))


def decode_binary(content: bytes) -> Chain:
    """The content of a binary .mat file in world RAS+ mm.

    Raises:
        ValueError: it holds another number of transforms than one.
    """
    from scipy.io import loadmat

    try:
        variables = loadmat(io.BytesIO(content))
    except Exception as error:  # scipy raises many types for a damaged file
        raise ValueError(f"damaged: {error}") from error
    fixed = np.ravel(variables.pop("fixed", np.zeros(3)))
    names = [name for name in variables if not name.startswith("__")]
    if {"M", "mat"} & set(names):
        raise ValueError("it is SPM's; save the matrix as text, 4 rows of 4 numbers")
    if len(names) != 1:
        raise ValueError(f"it holds {len(names)} transforms")
    return _decode_all([ItkTransform(names[0], np.ravel(variables[names[0]]), fixed)])


def decode_hdf5(group: Any) -> Chain:
    """The transforms of the group "TransformGroup" of an .h5 file, in RAS+ mm.

    Raises:
        ValueError: there are none, or they cannot be read.
    """
    transforms = []
    for key in sorted(group, key=int):
        member = group[key]
        name = np.ravel(member["TransformType"][()])[0]
        name = name.decode() if isinstance(name, bytes) else str(name)
        if name.startswith(_COMPOSITE):
            continue
        # ITK 4 has misspelt them.
        parameters, fixed = (
            np.ravel(member[wanted if wanted in member else wanted.replace("s", "", 1)])
            for wanted in ("TransformParameters", "TransformFixedParameters")
        )
        transforms.append(ItkTransform(name, parameters, fixed))
    return _decode_all(transforms)


def _decode_all(transforms) -> Chain:
    result = [decode(transform) for transform in transforms]
    if not result:
        raise ValueError("it holds no transform")
    return result[::-1]


def _parameters(fixed_to_moving: np.ndarray) -> np.ndarray:
    matrix = TO_LPS @ fixed_to_moving @ TO_LPS
    return np.concatenate([matrix[:3, :3].ravel(), matrix[:3, 3]])
