"""Synthetic people: their known affine is right, and they follow the settings."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from configs import default
from mdvit_jax.data import synthetic_cohort, template

STILL = {
    "rotation": 0.0, "translation": 0.0, "relative_size": 1.0, "scale": 0.0,
    "shear": 0.0, "deformation": 0.0, "gamma": 0.0, "bias": 0.0, "noise": 0.0,
}  # fmt: skip


def settings(size=64, **synthetic_settings):
    data = default.get_config().data
    data.size = size
    data.synthetic.update(synthetic_settings)
    return data


def centre_of_mass(volume: np.ndarray, to_world: np.ndarray) -> np.ndarray:
    centre = np.array(ndimage.center_of_mass(volume))
    return to_world[:3, :3] @ centre + to_world[:3, 3]


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def test_an_unchanged_person_is_the_template():
    data = settings(**STILL)
    person = synthetic_cohort.generate(data, 3, 0)
    fixed, _ = template.load(data)
    np.testing.assert_allclose(person.template_to_person, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(person.scan.to_world, fixed.to_world, atol=1e-9)
    np.testing.assert_array_equal(person.scan.mask, fixed.mask)
    np.testing.assert_array_equal(person.scan.labels, fixed.labels)
    scale = np.polyfit(fixed.image.ravel(), person.scan.image.ravel(), 1)
    unclipped = fixed.image < 1
    np.testing.assert_allclose(
        person.scan.image[unclipped], scale[0] * fixed.image[unclipped], atol=0.02
    )


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_known_affine_is_the_persons(index):
    """The template resampled by it, in world mm, is the person."""
    data = settings(**STILL | {"rotation": 15.0, "translation": 10.0, "scale": 0.15,
                               "shear": 0.05})  # fmt: skip
    person = synthetic_cohort.generate(data, index, 5)
    image, _, mask = template.mni152()
    voxels = np.stack(np.meshgrid(*[np.arange(64)] * 3, indexing="ij"), -1)
    world = apply(person.scan.to_world, voxels)
    source = apply(
        np.linalg.inv(image.affine) @ np.linalg.inv(person.template_to_person), world
    )
    at = np.moveaxis(source, -1, 0)
    smooth = ndimage.uniform_filter(mask.data.astype(np.float32), 4, origin=-1)
    for shift in ((0.5, 0.5, 0.5), (-0.5, -0.5, -0.5)):
        # An even box is half a voxel off one way; both ways bracket the person.
        moved = at + np.array(shift)[:, None, None, None]
        expected = ndimage.map_coordinates(smooth, moved, order=1) >= 0.5
        both = expected & (person.scan.mask > 0)
        assert 2 * both.sum() / (expected.sum() + person.scan.mask.sum()) > 0.97
    fixed, _ = template.load(data)
    brain = centre_of_mass(fixed.mask, fixed.to_world)
    centre = centre_of_mass(person.scan.mask, person.scan.to_world)
    np.testing.assert_allclose(
        centre, apply(person.template_to_person, brain), atol=0.3
    )
    # Voting at 4 mm moves thin tissue a little; white matter is thick.
    before = centre_of_mass(fixed.labels == template.WHITE, fixed.to_world)
    after = centre_of_mass(person.scan.labels == template.WHITE, person.scan.to_world)
    np.testing.assert_allclose(
        after, apply(person.template_to_person, before), atol=1.0
    )


def test_affines_stay_within_their_bounds():
    data = settings(
        rotation=20.0, translation=12.0, relative_size=1.0, scale=0.1, shear=0.05
    )
    _, _, mask = template.mni152()
    brain = centre_of_mass(mask.data, mask.affine)
    shifts = []
    for index in range(200):
        random = np.random.default_rng((9, index))
        affine = synthetic_cohort._random_affine(random, data.synthetic, brain)
        shift = apply(affine, brain) - brain
        assert np.abs(shift).max() <= 12
        scales = np.linalg.svd(affine[:3, :3], compute_uv=False)
        assert scales.min() > 0.8 and scales.max() < 1.25
        assert np.linalg.det(affine) > 0
        shifts.append(shift)
    assert np.abs(np.mean(shifts, axis=0)).max() < 2 and np.ptp(shifts) > 20


def test_a_deformation_adds_no_affine():
    data = settings(**STILL | {"deformation": 4.0})
    person = synthetic_cohort.generate(data, 0, 0)
    still = synthetic_cohort.generate(settings(**STILL), 0, 0)
    np.testing.assert_allclose(person.template_to_person, np.eye(4), atol=1e-12)
    before = centre_of_mass(still.scan.mask, still.scan.to_world)
    after = centre_of_mass(person.scan.mask, person.scan.to_world)
    np.testing.assert_allclose(after, before, atol=1.0)
    both = (person.scan.labels > 0) & (still.scan.labels > 0)
    dice = (
        2
        * both.sum()
        / ((person.scan.labels > 0).sum() + (still.scan.labels > 0).sum())
    )
    assert 0.85 < dice < 0.99


def test_what_a_person_is():
    person = synthetic_cohort.generate(settings(), 7, 1)
    image, mask, labels, to_world = person.scan
    assert image.dtype == np.float32 and image.shape == (64, 64, 64)
    assert image.min() == 0 and 0.5 < image.max() <= 1
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    assert labels.dtype == np.int32 and set(np.unique(labels)) == {0, 1, 2, 3}
    assert to_world.dtype == np.float64
    np.testing.assert_allclose(to_world[:3, :3], 4 * np.eye(3))
    assert 1.0e6 < mask.sum() * 64 < 3.2e6  # mm³
    assert ((labels > 0) & (mask == 0)).sum() < 0.1 * mask.sum()
    white, fluid = image[labels == template.WHITE], image[labels == template.CSF]
    assert white.mean() > fluid.mean() + 0.1


def test_people_differ_and_do_not_depend_on_each_other():
    data = settings(32)
    first = synthetic_cohort.generate(data, 1, 0).scan.image
    assert not np.array_equal(first, synthetic_cohort.generate(data, 2, 0).scan.image)
    assert not np.array_equal(first, synthetic_cohort.generate(data, 1, 1).scan.image)
    np.testing.assert_array_equal(
        first, synthetic_cohort.generate(data, 1, 0).scan.image
    )


def test_one_setting_changes_nothing_else():
    plain = synthetic_cohort.generate(settings(32, noise=0.0), 4, 0)
    noisy = synthetic_cohort.generate(settings(32, noise=0.1), 4, 0)
    np.testing.assert_array_equal(plain.scan.mask, noisy.scan.mask)
    np.testing.assert_array_equal(plain.template_to_person, noisy.template_to_person)
    # The background has no noise: the skull-stripping comes after it.
    assert not noisy.scan.image[plain.scan.image == 0].any()
    difference = (noisy.scan.image - plain.scan.image)[plain.scan.image > 0.3]
    assert 0.05 < difference.std() < 0.11


@pytest.mark.parametrize("size", [32, 48])
def test_a_smaller_person_is_a_coarser_copy(size):
    fine = synthetic_cohort.generate(settings(64, noise=0.0), 2, 0)
    coarse = synthetic_cohort.generate(settings(size, noise=0.0), 2, 0)
    np.testing.assert_array_equal(fine.template_to_person, coarse.template_to_person)
    np.testing.assert_allclose(
        centre_of_mass(coarse.scan.mask, coarse.scan.to_world),
        centre_of_mass(fine.scan.mask, fine.scan.to_world),
        atol=0.3,
    )
    volume = coarse.scan.mask.sum() * (256 / size) ** 3
    assert volume == pytest.approx(fine.scan.mask.sum() * 4.0**3, rel=0.03)


def test_the_same_bits_in_another_process():
    program = (
        "import hashlib\n"
        "from configs import default\n"
        "from mdvit_jax.data import synthetic_cohort\n"
        "data = default.get_config().data\n"
        "data.size = 64\n"
        "person = synthetic_cohort.generate(data, 1, 2)\n"
        "print(hashlib.sha256(person.scan.image.tobytes()).hexdigest())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    image = synthetic_cohort.generate(settings(), 1, 2).scan.image
    assert run.stdout.strip() == hashlib.sha256(image.tobytes()).hexdigest()
