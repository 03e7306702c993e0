"""The network that finds the brain in a head, and its training."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from mdvit_jax.data import head_file, label_maps, landmarks
from mdvit_jax.evaluation import metrics
from mdvit_jax.models import brain_extractor
from mdvit_jax.training import brain_extractor_training as training

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = brain_extractor.BrainExtractor(channels=(3, 4))
init, apply = jax.jit(SMALL.init), jax.jit(SMALL.apply)


def volume(shape, seed=0):
    return jax.random.uniform(jax.random.key(seed), shape)


def test_channels_are_the_voxels_of_blocks():
    array = np.arange(2 * 4 * 6 * 8.0).reshape(2, 4, 6, 8)
    blocks = np.asarray(brain_extractor._to_channels(array))
    assert blocks.shape == (2, 2, 3, 4, 8)
    for i, j, k in np.ndindex(2, 3, 4):
        block = array[1, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2]
        assert (blocks[1, i, j, k] == block.ravel()).all()
    assert (np.asarray(brain_extractor._to_voxels(blocks)) == array).all()


def test_a_layer_equals_its_formula():
    layer = brain_extractor._Layer(2)
    features = jax.random.normal(jax.random.key(1), (2, 4, 5, 6, 3))
    params = jax.jit(layer.init)(jax.random.key(2), features)["params"]
    params = params | {"scale": jnp.array([0.7, 1.4]), "bias": jnp.array([0.3, -0.2])}
    kernel = np.asarray(params["kernel"], np.float64)
    out = np.asarray(jax.jit(layer.apply)({"params": params}, features))
    for n in range(2):
        for c in range(2):
            # Deep learning does not flip the kernel; scipy's correlation does not.
            summed = sum(
                ndimage.correlate(
                    np.asarray(features[n, ..., i], np.float64),
                    kernel[..., i, c],
                    mode="constant",
                )
                for i in range(3)
            )
            value = (summed - summed.mean()) / np.sqrt(summed.var() + 1e-5)
            value = value * params["scale"][c] + params["bias"][c]
            expected = np.where(value > 0, value, 0.1 * value)
            assert np.allclose(out[n, ..., c], expected, atol=2e-5)


def test_sizes_and_batches():
    volumes = volume((2, 4, 8, 12))
    params = init(jax.random.key(0), volumes)
    logits = apply(params, volumes)
    assert logits.shape == volumes.shape and logits.dtype == jnp.float32
    for one, expected in zip(volumes, logits, strict=True):
        assert np.allclose(apply(params, one[None])[0], expected, atol=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    images, shares = (np.asarray(volume((1, 4, 4, 8), seed=n)) for n in range(2))
    random, params = np.random.default_rng(0), init(jax.random.key(0), images)["params"]
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    direction = jax.tree.map(lambda a: random.standard_normal(a.shape), params)
    with jax.enable_x64(True):
        images, shares = images.astype(np.float64), shares.astype(np.float64)

        @jax.jit
        @jax.value_and_grad
        def objective(params):
            return training.loss(SMALL.apply({"params": params}, images), shares)

        def at(step):
            return objective(jax.tree.map(lambda a, b: a + step * b, params, direction))

        products = jax.tree.map(lambda a, b: np.vdot(a, b), at(0.0)[1], direction)
        step = 1e-5
        slope = (at(step)[0] - at(-step)[0]) / (2 * step)
    assert np.isclose(slope, sum(jax.tree.leaves(products)), rtol=1e-5)


def test_the_loss_and_dice_of_the_truth_and_of_nothing():
    share = (volume((2, 6, 6, 6)) > 0.7).astype(jnp.float32)
    right, nothing = 40 * share - 20, jnp.full_like(share, -20.0)
    assert training.loss(right, share) < 1e-4
    assert training.loss(nothing, share) > 1
    assert metrics.dice(share[0] > 0.5, right[0] > 0) == 1
    assert metrics.dice(share[0] > 0.5, nothing[0] > 0) == 0


def test_training_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    """On balls of tissue in voxels of 16 mm: two steps, and one and one."""
    from_centre = np.linalg.norm(np.indices((40,) * 3) - 19.5, axis=0)  # voxels of 6 mm
    depth = np.clip((13 - from_centre) * 6 / label_maps.DEPTH_STEP, -127, 127)
    to_mm = np.diag([6.0, 6, 6, 1])
    to_mm[:3, 3] = -19.5 * 6
    ball = label_maps.Head(
        (16 - from_centre).clip(0, 3).astype(np.uint8),
        depth.astype(np.int8),
        to_mm.astype(np.float32),
        np.zeros((len(landmarks.MIRRORED), 3), np.float32),
    )
    two = label_maps.Head(*(np.stack([part, part]) for part in ball))
    head_file.write(tmp_path / "heads.npz", two)
    small = training.SCANNER._replace(shape=(16,) * 3, voxel=(16.0,) * 3)
    monkeypatch.setattr(training, "SCANNER", small)
    monkeypatch.setattr(training, "NETWORK", SMALL)

    def train(folder, *options):
        words = ["train", "--heads", str(tmp_path / "heads.npz"), "--held-out", "1"]
        words += ["--output", str(tmp_path / folder), "--batch", "1", *options]
        monkeypatch.setattr(sys, "argv", words)
        training.main()
        return (tmp_path / folder / "brain_extractor.safetensors").read_bytes()

    whole = train("whole", "--steps", "2")
    train("parts", "--steps", "2", "--stop-after", "1")
    assert train("parts", "--steps", "2") == whole
    lines = (tmp_path / "parts/log.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 1", "step 2"]
    assert all("held-out heads: Dice median 0." in line for line in lines)
    with pytest.raises(SystemExit):
        train("none", "--steps", "0")
    assert "at least 1" in capsys.readouterr().err
