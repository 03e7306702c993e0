"""Label maps are recognised; images of brains and phantoms are not label maps."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from mdvit_jax.io import labels
from test_apply_transform import folder, run
from test_transforms import GRIDS

__all__ = ["folder"]  # a fixture


def parcellation(count: int, dtype=np.int32, shape=(40, 44, 38)) -> np.ndarray:
    """Regions nearest to random seeds in a ball, with ids in random order."""
    random = np.random.default_rng(0)
    at = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3)
    seeds = random.uniform(0, shape, (count, 3))
    nearest = np.concatenate(
        [((part[:, None] - seeds) ** 2).sum(-1).argmin(1) for part in
         np.array_split(at, 40)]
    )  # fmt: skip
    ids = random.permutation(np.arange(1, 4 * count))[:count]
    inside = ((at / np.array(shape) - 0.5) ** 2).sum(1) < 0.2
    return (ids[nearest] * inside).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["u2", "i4", "u4", "i8", "f4"])
@pytest.mark.parametrize("count", [3, 40, 300])
def test_parcellations(count, dtype):
    data = parcellation(count, dtype)
    assert labels.count_labels(data) > 0.5 * count


def test_a_parcellation_of_a_thousand_regions():
    data = parcellation(1000)
    assert labels.count_labels(data) > 0.8 * len(np.unique(data))  # in a sample


def test_a_thin_ribbon_of_many_regions():
    """A parcellation of the cortex at 3 mm, one or two voxels thick."""
    data = parcellation(300)
    inner = ndimage.binary_erosion(data > 0, iterations=2)
    data[inner] = 0
    assert labels.count_labels(data) > 100


def test_few_labels_and_masks():
    ball = parcellation(1) > 0
    assert labels.count_labels(ball.astype(np.uint8)) == 2
    layers = ball.astype(int) + ndimage.binary_erosion(ball, iterations=4)
    assert labels.count_labels(layers.astype(np.uint8)) == 3
    assert labels.count_labels((layers - 1).astype(np.float64)) == 3


def head(noise: float, dtype, *, background=0.0) -> np.ndarray:
    """A phantom of five tissues in air."""
    shape = (48, 52, 50)
    radius = np.sqrt(((np.indices(shape).T / shape - 0.5) ** 2).sum(-1)).T
    tissue = np.select([radius < r for r in (0.1, 0.2, 0.3, 0.4)], (60, 110, 80, 150))
    random = np.random.default_rng(1)
    image = np.where(radius < 0.45, tissue, background)
    image = image + random.normal(0, noise, shape) * (radius < 0.45)
    return np.rint(image).astype(dtype)


@pytest.mark.parametrize("noise", [0.4, 1, 5, 20])
def test_images_of_little_noise_are_images(noise):
    assert labels.count_labels(head(noise, np.uint8)) == 0
    assert labels.count_labels(head(noise, np.int16, background=-1024)) == 0
    padded = np.pad(head(noise, np.int16, background=-1024), 9, constant_values=-3024)
    assert labels.count_labels(padded) == 0
    assert labels.count_labels(head(noise, np.int16) / np.float32(7)) == 0


def test_zeros_around_dark_air_are_no_label():
    """In eight bits the noise of air is 1 to 4, more often than the padding's 0."""
    random = np.random.default_rng(2)
    noise = np.hypot(*random.normal(0, 1.5, (2, 48, 52, 50)))
    smooth = ndimage.gaussian_filter(random.normal(0, 1, noise.shape), 1.5)
    scan = noise + (head(0, np.uint8) > 0) * (128 + 500 * smooth)
    scan = np.pad(np.clip(np.rint(scan), 1, 255), 2).astype(np.uint8)
    assert np.bincount(scan.ravel()).argmax() != 0
    assert labels.count_labels(scan) == 0


def test_real_scans_and_their_labels(real_data):
    for name, is_map in (("1000_SS.nii.gz", False), ("1000_glm.nii.gz", True)):
        data = np.asanyarray(nib.load(real_data / "oasis1_malf" / name).dataobj)
        assert bool(labels.count_labels(data)) == is_map
    scan = nib.load(real_data / "ds002748/sub-01_T1w.nii.gz")
    assert labels.count_labels(np.asanyarray(scan.dataobj)) == 0


def test_a_parcellation_is_refused_where_it_would_be_mixed(folder, capsys):
    grid = GRIDS["radiological"]
    data = parcellation(300, np.int32, grid.shape)
    nib.save(nib.Nifti1Image(data, grid.affine), folder / "p.nii.gz")
    words = ["--transform", "a.tfm", "--moving", "p.nii.gz"]
    words += ["--reference", "fixed.nii.gz", "--output", "w.nii.gz"]
    assert run(folder, words) == 2
    message = capsys.readouterr().err
    assert "looks like a label map" in message and "add --labels" in message
    assert run(folder, [*words, "--labels"]) == 0
    assert np.isin(nib.load(folder / "w.nii.gz").get_fdata(), [0, *data.flat]).all()
