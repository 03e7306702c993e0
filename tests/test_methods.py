"""The methods recover a known affine of a conformed scan; their names."""

import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from mdvit_jax import errors, geometry
from mdvit_jax.data import conform
from mdvit_jax.evaluation import methods

SIZE, SPACING = 40, 4.0  # voxels, mm


def scan(corner, move) -> conform.Conformed:
    """An asymmetric object with two tissues, at 0 in the world and then moved.

    Args:
        corner: [3] world RAS+ mm of the first voxel.
        move: 4×4, world RAS+ mm.
    """
    to_world = np.diag([SPACING, SPACING, SPACING, 1])
    to_world[:3, 3] = corner
    indices = np.moveaxis(np.indices((SIZE,) * 3), 0, -1)
    at = indices @ to_world[:3, :3] + to_world[:3, 3] - move[:3, 3]
    x, y, z = np.moveaxis(at @ np.linalg.inv(move[:3, :3]).T, -1, 0)
    x = x + 0.004 * y**2 - 8
    distance = np.sqrt((x / 48) ** 2 + (y / 60) ** 2 + (z / 40 + y / 300) ** 2)
    inside = 1 / (1 + np.exp((distance - 1) * 16))
    folds = np.sin(x / 9 + 1) * np.sin(y / 11) * np.sin(z / 8 + y / 30 - 0.5)
    image = inside * (0.6 + 0.35 * np.tanh(3 * folds))
    image[inside < 0.02] = 0
    mask = (inside >= 0.5).astype(np.uint8)
    return conform.Conformed(image.astype(np.float32), mask, None, to_world)


def moved() -> np.ndarray:
    """An affine fixed → moving, world RAS+ mm: turned, stretched, sheared, shifted."""
    turn = Rotation.from_euler("xyz", [7, -9, 12], degrees=True).as_matrix()
    truth = np.eye(4)
    truth[:3, :3] = turn @ [[1.06, 0.05, 0], [0, 0.93, 0], [0, 0, 1.04]]
    truth[:3, 3] = [120, -35, 60]
    return truth


@pytest.fixture(scope="module")
def pair() -> tuple[conform.Conformed, conform.Conformed]:
    """The same object on two grids, near the middle of each."""
    return scan((-85, -70, -82), np.eye(4)), scan((35, -120, -12), moved())


def in_world(matrix, pair) -> np.ndarray:
    fixed, moving = (
        geometry.normalised_to_world(s.image.shape, s.to_world) for s in pair
    )
    return geometry.in_world(matrix, fixed=fixed, moving=moving)


@pytest.mark.parametrize("name", methods.CLASSICAL)
def test_a_known_move_is_recovered(name, pair):
    pytest.importorskip(methods.CLASSICAL[name][1] or "numpy")
    fixed, moving = pair
    method = methods.classical(name)
    matrix = method.align(fixed, moving)
    again = method.align(fixed, moving)  # threads may sum in another order
    np.testing.assert_allclose(again, matrix, atol=1e-9)
    points = np.argwhere(fixed.mask) @ fixed.to_world[:3, :3] + fixed.to_world[:3, 3]
    apart = (in_world(matrix, pair) - moved())[:3]
    error = np.linalg.norm(points @ apart[:, :3].T + apart[:, 3], axis=1)
    assert error.mean() < SPACING / 8


def test_a_method_on_images_gets_volumes_and_answers_in_world_coordinates(pair):
    """`align_conformed` inverts `geometry.in_world` for any matrix and grids."""
    expected, received = moved() + 0.1, []
    expected[3] = [0, 0, 0, 1]

    def align_images(*volumes):
        received.extend(volumes)
        return expected

    matrix = methods.align_conformed(align_images)(*pair)
    for volume, scan in zip(received, pair, strict=True):
        assert volume.data is scan.image and volume.affine is scan.to_world
    np.testing.assert_allclose(in_world(matrix, pair), expected, atol=1e-9)


def test_an_identity_names_the_version_and_the_settings():
    method = methods.classical("simpleitk")
    assert method.name == "SimpleITK"
    assert SimpleITK.__version__ in method.identity and "levels 4 2" in method.identity


def test_a_missing_package_is_named_in_one_sentence(monkeypatch):
    missing = ("ants", "no_such_module", "antspyx")
    monkeypatch.setitem(methods.CLASSICAL, "ants", missing)
    sentence = (
        "ants is left out: it needs the package antspyx, which "
        "pip install 'mdvit-jax[peers]' installs."
    )
    assert methods.missing_package("ants") == sentence
    with pytest.raises(errors.UserError) as raised:
        methods.classical("ants")
    assert str(raised.value) == sentence
    assert methods.missing_package("register") is None


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(errors.UserError, match="no method 'fsl'; choose from regis"):
        methods.classical("fsl")


def test_the_package_of_a_method_is_imported_only_when_used(run_python):
    run_python("""
import sys
from mdvit_jax.evaluation import methods
loaded = {name for _, name, _ in methods.CLASSICAL.values()} & set(sys.modules)
assert not loaded, loaded
""")
