"""The scanner in software: its truth is true, and each switch does what it says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from mdvit_jax import geometry
from mdvit_jax.data import label_maps, scan_draw, synthesis, tissues
from mdvit_jax.data.scan_settings import PLAIN, Settings

# Not a cube, neither in voxels nor in millimetres.
GRID = {"shape": (40, 44, 48), "voxel": (5.0, 5.5, 4.8)}
ANY = Settings(**GRID, turn=0.3)


@functools.partial(jax.jit, static_argnums=2)
def synthesise(key, head, settings, person):
    return synthesis.synthesise(key, head, settings, person=person)


draw_person = jax.jit(scan_draw.draw_person, static_argnums=1)


@pytest.fixture(scope="module")
def head() -> label_maps.Head:
    return label_maps.mni152_head(voxel=4.0)


@pytest.fixture(scope="module")
def two_scans(head):
    """Two scans of a deformed person in all poses, without noise, in one contrast."""
    settings = PLAIN._replace(
        **GRID, rotation=20.0, translation=15.0, scale=0.1, shear=0.05, turn=0.5,
        deformation=4.0,
    )  # fmt: skip
    person = draw_person(jax.random.key(7), settings)
    assert person.deformation > 1
    still = person._replace(deformation=jnp.array(0.0))
    keys = [jax.random.key(k) for k in (1, 3)]
    return [
        [synthesise(key, head, settings, shape) for key in keys]
        for shape in (still, person)
    ]


def test_without_deformation_the_scan_is_the_map_under_the_known_matrix(
    head, two_scans
):
    """By map_coordinates in float64, through the inverse of head_to_image."""
    standard = tissues.STANDARD[head.labels] * (head.depth > 0)
    for scan in two_scans[0]:
        image_to_voxel = (
            np.linalg.inv(np.float64(head.to_mm))
            @ np.linalg.inv(np.float64(scan.head_to_image))
            @ geometry.voxel_to_normalised(scan.image.shape)
        )
        index = np.indices(scan.image.shape).reshape(3, -1)
        at = image_to_voxel[:3, :3] @ index + image_to_voxel[:3, 3:]
        wanted = ndimage.map_coordinates(standard, at, order=1)
        np.testing.assert_allclose(scan.brain.ravel(), wanted, atol=2e-4)


def test_the_known_affine_lays_one_scan_of_a_person_on_the_other(two_scans):
    fixed, moving = two_scans[1]
    assert fixed.draw.turn != moving.draw.turn
    matrix = synthesis.known_affine(fixed, moving)
    inside = np.asarray(fixed.mask)

    def likeness(shift) -> float:
        moved = matrix @ geometry.translation_matrix(jnp.asarray(shift, jnp.float32))
        warped = geometry.warp_affine(moving.brain, moved)
        return np.corrcoef(warped[inside], fixed.brain[inside])[0, 1]

    best = likeness([0.0, 0.0, 0.0])
    assert best > 0.85
    for shift in 0.02 * np.vstack([np.eye(3), -np.eye(3)]):  # some 2 mm
        assert likeness(shift) < best
    np.testing.assert_allclose(
        synthesis.landmark_affine(fixed, moving), matrix, atol=1e-4
    )


def test_a_batch_is_its_scans_one_by_one_and_the_key_decides(head):
    keys = jax.random.split(jax.random.key(3), 2)
    person = draw_person(keys[0], ANY)
    batch = jax.jit(
        jax.vmap(lambda key: synthesis.synthesise(key, head, ANY, person=person))
    )(keys)
    for index, key in enumerate(keys):
        one = synthesise(key, head, ANY, person)
        np.testing.assert_allclose(batch.image[index], one.image, atol=5e-3)
        np.testing.assert_allclose(batch.brain[index], one.brain, atol=1e-4)
    assert (batch.image[0] != batch.image[1]).any()
    np.testing.assert_array_equal(one.image, synthesise(key, head, ANY, person).image)
