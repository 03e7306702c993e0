"""ITK's kinds of transforms: parameters → 4×4, or a displacement field, in RAS+ mm.

A linear transform is x ↦ A (x − c) + c + t in LPS+ mm, with the centre c among the
"fixed parameters". Kinds and orders are those of ITK's source (`itk…Transform.hxx`).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mdvit_jax.io.grid import Grid
from mdvit_jax.transforms.displacement import DisplacementField

TO_LPS = np.diag([-1.0, -1, 1, 1])  # its own inverse
_LONGER = 1e-6  # by which the square of a unit quaternion may be above one


class ItkTransform(NamedTuple):
    """A transform in the form of ITK's files.

    Attributes:
        name: such as "AffineTransform_double_3_3".
        parameters: [n].
        fixed_parameters: [m].
    """

    name: str
    parameters: np.ndarray
    fixed_parameters: np.ndarray


def decode(transform: ItkTransform) -> np.ndarray | DisplacementField:
    """A transform in world RAS+ mm, fixed → moving: 4×4 float64, or a field.

    Raises:
        ValueError: of an unknown kind, or with other parameters than its kind has.
    """
    kind, _, rest = transform.name.partition("_")
    if not rest.endswith("_3_3"):
        raise ValueError(f"{transform.name} is not three-dimensional")
    parameters = np.asarray(transform.parameters, np.float64)
    fixed = np.asarray(transform.fixed_parameters, np.float64)
    if kind == "DisplacementFieldTransform":
        return _field(parameters, fixed)
    if kind not in _KINDS:
        raise ValueError(f"{transform.name} is neither affine nor a displacement field")
    count, decode_parts = _KINDS[kind]
    if len(parameters) != count:
        raise ValueError(
            f"{transform.name} has {len(parameters)} parameters instead of {count}"
        )
    linear, translation = decode_parts(parameters, fixed)
    centre = fixed[:3] if len(fixed) >= 3 else np.zeros(3)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = translation + centre - linear @ centre
    return TO_LPS @ matrix @ TO_LPS


def _affine(p: np.ndarray, fixed: np.ndarray):
    del fixed
    return p[:9].reshape(3, 3), p[9:]


def _euler(p: np.ndarray, fixed: np.ndarray):
    """Rz Rx Ry, or Rz Ry Rx where a fourth fixed parameter says so."""
    from scipy.spatial.transform import Rotation

    x, y, z = p[:3]
    zyx = len(fixed) > 3 and fixed[3] != 0
    order, angles = ("ZYX", (z, y, x)) if zyx else ("ZXY", (z, x, y))
    return Rotation.from_euler(order, angles).as_matrix(), p[3:]


def _versor(vector: np.ndarray) -> np.ndarray:
    """The rotation of a unit quaternion with a positive real part, from its vector."""
    from scipy.spatial.transform import Rotation

    square = vector @ vector
    if square > 1 + _LONGER:
        raise ValueError("a rotation's versor is longer than one")
    return Rotation.from_quat([*vector, np.sqrt(max(0.0, 1 - square))]).as_matrix()


def _scale_skew_versor(p: np.ndarray, fixed: np.ndarray):
    """Scales and skews are added to the rotation, not multiplied with it."""
    del fixed
    linear = _versor(p[:3]) + np.diag(p[6:9] - 1)
    if len(p) > 9:
        linear[~np.eye(3, dtype=bool)] += p[9:]
    return linear, p[3:6]


def _compose_scale_skew_versor(p: np.ndarray, fixed: np.ndarray):
    del fixed
    skew = np.eye(3)
    skew[np.triu_indices(3, 1)] = p[9:]
    return _versor(p[:3]) @ np.diag(p[6:9]) @ skew, p[3:6]


_KINDS: dict[str, tuple[int, Callable]] = {
    "AffineTransform": (12, _affine),
    "MatrixOffsetTransformBase": (12, _affine),
    "FixedCenterOfRotationAffineTransform": (12, _affine),
    "Rigid3DTransform": (12, _affine),
    "TranslationTransform": (3, lambda p, _: (np.eye(3), p)),
    "ScaleTransform": (3, lambda p, _: (np.diag(p), np.zeros(3))),
    "ScaleLogarithmicTransform": (3, lambda p, _: (np.diag(np.exp(p)), np.zeros(3))),
    "Euler3DTransform": (6, _euler),
    "VersorTransform": (3, lambda p, _: (_versor(p), np.zeros(3))),
    "VersorRigid3DTransform": (6, lambda p, _: (_versor(p[:3]), p[3:])),
    "Similarity3DTransform": (7, lambda p, _: (p[6] * _versor(p[:3]), p[3:6])),
    "ScaleVersor3DTransform": (9, _scale_skew_versor),
    "ScaleSkewVersor3DTransform": (15, _scale_skew_versor),
    "ComposeScaleSkewVersor3DTransform": (12, _compose_scale_skew_versor),
    "IdentityTransform": (0, lambda *_: (np.eye(3), np.zeros(3))),
}


def _field(parameters: np.ndarray, fixed: np.ndarray) -> DisplacementField:
    """Fixed parameters: size, origin, spacing (3 each) and direction (9), LPS+."""
    if len(fixed) != 18 or len(parameters) != 3 * np.prod(fixed[:3]):
        raise ValueError("its displacement field and the field's size disagree")
    x, y, z = (int(length) for length in fixed[:3])
    lps = np.eye(4)
    lps[:3, :3] = fixed[9:].reshape(3, 3) * fixed[6:9]
    lps[:3, 3] = fixed[3:6]
    vectors = parameters.reshape(z, y, x, 3).transpose(3, 2, 1, 0).astype(np.float32)
    vectors[:2] *= -1
    return DisplacementField(Grid((x, y, z), TO_LPS @ lps), vectors)
