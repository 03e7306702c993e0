"""ITK's transforms (ANTs, SimpleITK, Slicer): fixed → moving, LPS+ mm.

An affine is stored as x ↦ A (x − c) + c + t with the centre c among the "fixed
parameters". Several transforms in a file are a composite, whose last one is applied to
a point first.
"""

import io
import re

import numpy as np

from mdvit_jax.transforms.text import numbers

_HEAD = "#Insight Transform File V1.0"
_NAME = "AffineTransform_double_3_3"
_TO_LPS = np.diag([-1.0, -1, 1, 1])  # its own inverse


def text(fixed_to_moving: np.ndarray) -> str:
    """4×4 in world RAS+ mm as the text of a .tfm file."""
    return (
        f"{_HEAD}\n#Transform 0\nTransform: {_NAME}\n"
        f"Parameters: {numbers(_parameters(fixed_to_moving))}\nFixedParameters: 0 0 0\n"
    )


def binary(fixed_to_moving: np.ndarray) -> bytes:
    """4×4 in world RAS+ mm as a binary .mat file (MATLAB's level 4)."""
    from scipy.io import savemat  # here, as few programs need it

    file = io.BytesIO()
    content = {_NAME: _parameters(fixed_to_moving)[:, None], "fixed": np.zeros((3, 1))}
    savemat(file, content, format="4")
    return file.getvalue()


def is_text(text: str) -> bool:
    """Whether this is a text file of ITK's."""
    return text.lstrip().startswith("#Insight Transform File")


def is_binary(content: bytes) -> bool:
    """Whether this is MATLAB's level 4, from the head of its first variable."""
    if len(content) < 20:
        return False
    kind, rows, columns, imaginary, length = np.frombuffer(content[:20], "<i4").tolist()
    small = 0 < rows <= 64 and 0 < columns <= 64 and 0 < length <= 256
    return kind in (0, 10) and imaginary == 0 and small  # doubles, floats


def from_text(text: str) -> np.ndarray:
    """The content of a .tfm file as a 4×4 in world RAS+ mm; ValueError if none."""
    names = re.findall(r"^Transform:\s*(\S+)", text, re.M)
    rows = {
        key: [
            np.array(line.split(), np.float64)
            for line in re.findall(rf"^{key}:[ \t]*(.*)$", text, re.M)
        ]
        for key in ("Parameters", "FixedParameters")
    }
    if names and names[0].startswith("CompositeTransform"):
        names = names[1:]
    if not len(names) == len(rows["Parameters"]) == len(rows["FixedParameters"]):
        raise ValueError("parameters are missing")
    return _compose(list(zip(names, *rows.values(), strict=True)))


def from_binary(content: bytes) -> np.ndarray:
    """The content of a binary .mat file as a 4×4 in world RAS+ mm, or ValueError."""
    from scipy.io import loadmat

    try:
        variables = loadmat(io.BytesIO(content))
    except Exception as error:  # scipy raises whatever comes up in a damaged file
        raise ValueError(f"damaged: {error}") from error
    fixed = np.ravel(variables.pop("fixed", np.zeros(3)))
    names = [name for name in variables if not name.startswith("__")]
    if len(names) != 1:
        raise ValueError(f"it holds {len(names)} transforms")
    return _compose([(names[0], np.ravel(variables[names[0]]), fixed)])


def _parameters(fixed_to_moving: np.ndarray) -> np.ndarray:
    matrix = _TO_LPS @ fixed_to_moving @ _TO_LPS
    return np.concatenate([matrix[:3, :3].ravel(), matrix[:3, 3]])


def _compose(transforms: list[tuple[str, np.ndarray, np.ndarray]]) -> np.ndarray:
    if not transforms:
        raise ValueError("it holds no transform")
    matrix = np.eye(4)
    for name, parameters, fixed in transforms:
        matrix = matrix @ _matrix(name, parameters.astype(np.float64), fixed)
    return _TO_LPS @ matrix @ _TO_LPS


def _matrix(name: str, parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """One transform, in LPS+."""
    kind, _, rest = name.partition("_")
    if not rest.endswith("_3_3"):
        raise ValueError(f"{name} is not three-dimensional")
    known = {
        "AffineTransform": (12, _affine),
        "MatrixOffsetTransformBase": (12, _affine),
        "TranslationTransform": (3, lambda p, _: (np.eye(3), p)),
        "Euler3DTransform": (6, _euler),
        "VersorRigid3DTransform": (6, lambda p, _: (_versor(p[:3]), p[3:])),
        "Similarity3DTransform": (7, lambda p, _: (p[6] * _versor(p[:3]), p[3:6])),
        "IdentityTransform": (0, lambda *_: (np.eye(3), np.zeros(3))),
    }
    if kind not in known:
        raise ValueError(f"{name} is no affine transform of a known kind")
    count, parts = known[kind]
    if len(parameters) != count:
        raise ValueError(f"{name} has {len(parameters)} parameters instead of {count}")
    linear, translation = parts(parameters, fixed)
    centre = fixed[:3] if len(fixed) >= 3 else np.zeros(3)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = translation + centre - linear @ centre
    return matrix


def _affine(parameters: np.ndarray, fixed: np.ndarray):
    del fixed
    return parameters[:9].reshape(3, 3), parameters[9:]


def _euler(parameters: np.ndarray, fixed: np.ndarray):
    """Rz Rx Ry, or Rz Ry Rx where a fourth fixed parameter says so."""
    from scipy.spatial.transform import Rotation

    x, y, z = parameters[:3]
    zyx = len(fixed) > 3 and fixed[3] != 0
    order, angles = ("ZYX", (z, y, x)) if zyx else ("ZXY", (z, x, y))
    return Rotation.from_euler(order, angles).as_matrix(), parameters[3:]


def _versor(vector: np.ndarray) -> np.ndarray:
    """The rotation of a unit quaternion with a positive real part, from its vector."""
    from scipy.spatial.transform import Rotation

    if vector @ vector > 1:
        raise ValueError("a rotation's versor is longer than one")
    return Rotation.from_quat([*vector, np.sqrt(1 - vector @ vector)]).as_matrix()
