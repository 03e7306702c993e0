"""Label maps of heads: read from any orientation, without losing half a voxel."""

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations
from scipy.spatial.transform import Rotation

from mdvit_jax import errors
from mdvit_jax.data import label_maps, landmarks, tissues


@pytest.fixture(scope="module")
def phantom() -> nib.Nifti1Image:
    """A lopsided head of 4 mm voxels: brain halves, a cerebellum, fluid, bone, skin."""
    x, y, z = np.meshgrid(
        *(np.arange(n) * 4.0 - c for n, c in ((44, 86.0), (52, 100.0), (50, 120.0))),
        indexing="ij",
    )

    def ball(centre, radii):
        parts = zip((x, y, z), centre, radii, strict=True)
        return sum(((a - c) / r) ** 2 for a, c, r in parts) < 1

    labels = np.zeros(x.shape, np.int16)
    labels[ball((0, 0, 0), (80, 95, 76))] = 511
    labels[ball((0, 0, 0), (74, 88, 70))] = 777  # unknown, outside the brain
    labels[ball((0, 0, 0), (68, 82, 64))] = 24
    brain = ball((0, 0, 0), (60, 74, 56))
    labels[brain] = np.where(x > 0, 42, 3)[brain]
    white = ball((0, 4, 4), (44, 56, 40))
    labels[white] = np.where(x > 0, 41, 2)[white]
    for side, accumbens, cerebellum, putamen in ((-1, 26, 8, 12), (1, 58, 47, 51)):
        labels[ball((side * 10, 20, -6), (7, 7, 7))] = accumbens
        labels[ball((side * 20, -56, -36), (18, 16, 14))] = cerebellum
        labels[ball((side * 26, 6, 2), (8, 12, 8))] = putamen
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [-80.5, -101.25, -90.75]
    return nib.Nifti1Image(labels, affine)


@pytest.fixture(scope="module")
def head(phantom, tmp_path_factory) -> label_maps.Head:
    path = tmp_path_factory.mktemp("map") / "head.nii.gz"
    nib.save(phantom, path)
    return label_maps.read_head(path, voxel=4.0)


def test_a_map_of_the_requested_voxels_is_read_voxel_by_voxel(phantom, head):
    labels = np.asarray(phantom.dataobj)
    known = np.where(labels == 777, 507, labels)
    for number in (2, 41, 3, 42, 24, 507, 511, 58):
        mine = head.labels == tissues.label_index(number)
        assert mine.sum() == (known == number).sum()
        # They lie at the same places, but for the origin.
        centres = [
            np.argwhere(part).mean(axis=0) @ affine[:3, :3].T + affine[:3, 3]
            for part, affine in ((mine, head.to_mm), (known == number, phantom.affine))
        ]
        if number == 2:
            origin = centres[1] - centres[0]
        np.testing.assert_allclose(centres[1] - centres[0], origin, atol=1e-3)
        if tissues.IN_BRAIN[tissues.label_index(number)]:
            mark = head.landmarks[tissues.label_index(number)]
            np.testing.assert_allclose(mark, centres[0], atol=1e-3)


@pytest.mark.parametrize("axes", ["LIA", "PIR", "ASL"])
def test_the_order_of_the_stored_axes_does_not_matter(phantom, head, axes, tmp_path):
    order = orientations.ornt_transform(
        orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(axes)
    )
    nib.save(phantom.as_reoriented(order), tmp_path / "head.mgz")
    again = label_maps.read_head(tmp_path / "head.mgz", voxel=4.0)
    for mine, other in zip(again, head, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-3)


def test_a_coarser_map_lies_where_the_finer_one_does(phantom, head, tmp_path):
    """A map of 2 mm against one of 1 mm whose voxels repeat it, half a voxel apart."""
    fine = np.asarray(phantom.dataobj).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    affine = phantom.affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] -= 1.0
    nib.save(nib.Nifti1Image(fine, affine), tmp_path / "head.nii")
    coarse = label_maps.read_head(tmp_path / "head.nii", voxel=4.0)
    np.testing.assert_allclose(coarse.landmarks, head.landmarks, atol=1)
    halves = label_maps.read_head(tmp_path / "head.nii", voxel=2.0)
    centres = slice(0, len(tissues.NUMBERS))
    np.testing.assert_allclose(
        halves.landmarks[centres], head.landmarks[centres], atol=0.6
    )
    assert halves.labels.shape == tuple(2 * n for n in head.labels.shape)


def test_the_brain_has_the_fluid_of_its_folds_and_its_depth_is_in_millimetres(head):
    brain = head.depth > 0
    assert not brain[
        np.isin(head.labels, [tissues.label_index(n) for n in (507, 511)])
    ].any()
    assert brain[tissues.IN_BRAIN[head.labels]].all()
    at = np.linalg.inv(head.to_mm) @ [0, 0, 0, 1]
    x, y, z = np.round(at[:3]).astype(int)
    # The nearest surface is above or below the centre.
    assert head.depth[x, y, z] * label_maps.DEPTH_STEP == pytest.approx(56, abs=6)
    outside = head.depth[-1, -1, -1] * label_maps.DEPTH_STEP
    assert outside < -50
    points = np.argwhere(brain) @ head.to_mm[:3, :3].T + head.to_mm[:3, 3]
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-3)


def test_landmarks_of_the_mirror_image_are_the_mirrored_ones(head):
    labels = landmarks.MIRRORED[: len(tissues.NUMBERS)][head.labels[::-1]]
    mirror = np.diag([-1.0, 1, 1, 1])
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, len(labels) - 1
    mine = landmarks.find_landmarks(
        labels, (head.depth > 0)[::-1], mirror @ head.to_mm @ flip
    )
    wanted = head.landmarks[landmarks.MIRRORED] * [-1, 1, 1]
    np.testing.assert_allclose(mine, wanted, atol=0.5)
    assert np.isfinite(wanted[len(tissues.NUMBERS) :]).all()


def test_outermost_landmarks_turn_with_the_head(head):
    """Turned by 20° about each axis, the same points of the brain are the outermost."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [20, -20, 20], degrees=True).as_matrix()
    turned = landmarks.find_landmarks(head.labels, head.depth > 0, turn @ head.to_mm)
    np.testing.assert_allclose(turned, head.landmarks @ turn[:3, :3].T, atol=0.5)


def test_an_invalid_map_is_refused_in_a_sentence(phantom, tmp_path):
    labels = np.asarray(phantom.dataobj).copy()
    labels[labels == 26] = 99
    nib.save(nib.Nifti1Image(labels, phantom.affine), tmp_path / "unknown.nii")
    with pytest.raises(errors.UserError, match=r"unknown.nii has labels .* \(99\)"):
        label_maps.read_head(tmp_path / "unknown.nii", voxel=6.0)
    skull = np.where(labels >= 500, labels, 0)
    nib.save(nib.Nifti1Image(skull, phantom.affine), tmp_path / "skull.nii")
    with pytest.raises(errors.UserError, match=r"skull.nii has no label of a brain"):
        label_maps.read_head(tmp_path / "skull.nii", voxel=6.0)
    with pytest.raises(errors.UserError, match="no label map"):
        label_maps.read_heads([])


def test_mni152_makes_a_head():
    head = label_maps.mni152_head(voxel=4.0)
    volume = (head.depth > 0).sum() * 4**3 / 1e6  # litres
    assert 1.6 < volume < 2.0
    present = set(tissues.NUMBERS[np.unique(head.labels)].tolist())
    assert present == {0, 2, 41, 3, 42, 24, 507, 511, 515, 516}
    assert head.landmarks[tissues.label_index(2), 0] < -15 < 15
    assert head.landmarks[tissues.label_index(41), 0] > 15


def test_real_maps_are_heads(real_data):
    paths = sorted((real_data / "synthseg_labels").glob("*.nii.gz"))[:2]
    heads = label_maps.read_heads(paths, voxel=6.0)
    assert heads.labels.shape == (2, 32, 40, 40)
    for labels, depth in zip(heads.labels, heads.depth, strict=True):
        assert 1.0 < (depth > 0).sum() * 6**3 / 1e6 < 1.8
        assert 40 < len(np.unique(labels)) <= len(tissues.NUMBERS)
