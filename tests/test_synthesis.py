"""The scanner in software: its truth is true, and each switch does what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdvit_jax import geometry
from mdvit_jax.data import label_maps, scan_draw, synthesis
from mdvit_jax.data.scan_draw import PLAIN, Settings

GRID = {"shape": (28, 32, 36), "voxel": (7.0, 7.5, 7.0), "oversample": (2, 2, 2)}
ANY = Settings(**GRID, turn=0.3)
MOVED = PLAIN._replace(
    **GRID, rotation=20.0, translation=15.0, scale=0.1, shear=0.05, turn=0.5,
    deformation=4.0, mirror=0.5,
)  # fmt: skip

synthesise = jax.jit(synthesis.synthesise, static_argnums=2)


@pytest.fixture(scope="module")
def head() -> label_maps.Head:
    return label_maps.mni152_head(voxel=4.0)


def test_the_known_affine_lays_one_scan_of_a_person_on_the_other(head):
    person = scan_draw.draw_person(jax.random.key(0), MOVED)
    fixed, moving = (
        synthesise(jax.random.key(k), head, MOVED, person=person) for k in (1, 2)
    )
    matrix = synthesis.known_affine(fixed, moving)
    centres = [geometry.centre_of_mass(scan.brain) for scan in (fixed, moving)]
    carried = matrix[:3, :3] @ centres[0] + matrix[:3, 3]
    np.testing.assert_allclose(carried, centres[1], atol=1e-3)
    warped = geometry.warp_affine(moving.brain, matrix)
    apart = np.abs(warped - fixed.brain)[np.asarray(fixed.mask)].mean()
    off = geometry.warp_affine(
        moving.brain, matrix @ geometry.translation_matrix(jnp.full(3, 0.02))
    )
    assert apart < 0.05
    assert np.abs(off - fixed.brain)[np.asarray(fixed.mask)].mean() > 1.3 * apart


def test_a_batch_is_its_scans_one_by_one_and_the_key_decides(head):
    keys = jax.random.split(jax.random.key(3), 2)
    batch = jax.jit(jax.vmap(lambda key: synthesis.synthesise(key, head, ANY)))(keys)
    for index, key in enumerate(keys):
        one = synthesise(key, head, ANY)
        np.testing.assert_allclose(batch.image[index], one.image, atol=2e-3)
        np.testing.assert_allclose(
            batch.head_to_image[index], one.head_to_image, atol=1e-6
        )
    assert (batch.image[0] != batch.image[1]).any()
    again = synthesise(keys[0], head, ANY)
    np.testing.assert_array_equal(again.image, synthesise(keys[0], head, ANY).image)
