"""Synthetic pairs within the training step: their truth, and their randomness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import anything_small, default
from helpers.run import first_step
from mdvit_jax import errors, geometry, models
from mdvit_jax.data import head_file, label_maps
from mdvit_jax.training import (
    examples,
    sharding,
    stage_loss,
    step,
    synthetic_pairs,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZE = 32


@pytest.fixture(scope="module")
def heads_file(tmp_path_factory):
    """Three heads: the second is wider, the third is held out."""
    head = label_maps.mni152_head(voxel=6.0)
    wide = head._replace(
        to_mm=np.diag([1.1, 1, 1, 1]).astype("f4") @ head.to_mm,
        landmarks=head.landmarks * np.array([1.1, 1, 1], np.float32),
    )
    heads = label_maps.Head(*map(np.stack, zip(head, wide, head, strict=True)))
    path = tmp_path_factory.mktemp("heads") / "heads.npz"
    head_file.write(path, heads)
    return path


def configuration(heads_file):
    config = default.get_config()
    config.data.size = SIZE
    config.model.update({"embedding": 8, "depth": 1, "dilations": (2,)})
    config.model.update({"patches": (3, 7), "strides": (2, 4)})
    config.loss.update({"stride": 1, "known": 0.05, "deep": 0.3})
    config.augment.update({"flip": 0.0, "rotate": 0.0})
    config.synthesis.update(
        {"heads": str(heads_file), "held_out": 1, "pairs": 2, "oversample": 1}
    )
    return config


def test_the_truth_takes_the_moving_brain_to_the_fixed_one(heads_file):
    config = configuration(heads_file)
    config.synthesis.update({"pairs": 12, "same_head": 0.5})
    heads = synthetic_pairs.read_heads(config, "train")
    assert len(heads.labels) == 2
    recipe = synthetic_pairs.recipe(config)
    made = jax.jit(lambda key: synthetic_pairs.make(key, heads, recipe))(
        jax.random.key(1)
    )
    assert made.fixed.shape == (24, SIZE, SIZE, SIZE)
    assert (made.known == 1).all()
    assert 0 < (np.asarray(made.slack) == 0).sum() < 24
    warped = jax.jit(geometry.warp_affine)(made.moving_target, made.truth)
    after, before = (
        np.abs(np.asarray(v) - made.fixed_target).mean((1, 2, 3))
        for v in (warped, made.moving_target)
    )
    assert np.median(after / before) < 0.5
    assert (after < before).mean() > 0.9
    # The second half is the first one the other way round.
    np.testing.assert_array_equal(made.fixed[:12], made.moving[12:])
    both = geometry.compose(made.truth[:12], made.truth[12:])
    np.testing.assert_allclose(both, np.tile(np.eye(4), (12, 1, 1)), atol=1e-4)


def test_a_step_of_the_whole_recipe(monkeypatch):
    """Of configs/anything.py, with synthetic pairs beside every second row.

    It is the same each time. The loss is the mean over all pairs; keys are those of a
    group's first row.
    """
    made = {}

    def remember(key, examples):
        made[np.asarray(key).tobytes()] = examples

    def remember_what_is_made(module):
        make = module.make

        def make_and_remember(key, *arguments):
            result = make(key, *arguments)
            jax.debug.callback(remember, jax.random.key_data(key), result)
            return result

        monkeypatch.setattr(module, "make", make_and_remember)

    remember_what_is_made(examples)
    remember_what_is_made(synthetic_pairs)
    config = anything_small.get_config()
    assert config.data.size == SIZE and config.synthesis.heads == "mni152"
    config.model.update({"embedding": 8, "heads": 2, "dilations": (2,)})
    config.model.update({"patches": (3,), "strides": (4,)})
    config.synthesis.update({"voxel": 6.0, "oversample": 1, "pairs": 0.5})
    config.optim.batch = 4
    network, state, train_step = first_step(config)
    scans = np.random.default_rng(0).random((2, 4, SIZE, SIZE, SIZE), np.float32)
    start = jax.tree.map(np.array, state)
    results = [train_step(jax.tree.map(jnp.array, start), *scans) for _ in range(2)]
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    assert float(results[0][1].gradient_norm) > 0

    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    keys = jax.random.split(jax.random.split(key)[0], (4, 2))
    drawn_with = [keys, *(jax.random.fold_in(keys[first, 0], 2) for first in (0, 2))]
    jax.effects_barrier()
    parts = [made[np.asarray(jax.random.key_data(k)).tobytes()] for k in drawn_with]
    assert len(made) == 3
    every = jax.tree.map(lambda *parts: np.concatenate(parts), *parts)
    expected = jax.jit(
        lambda params: stage_loss.pair_losses(
            every,
            network.from_centres(params, every.fixed, every.moving),
            step.objective(config.loss),
            known=config.loss.known,
            deep=config.loss.deep,
            field_of_view=256.0,
        )
    )(start.params)
    groups = np.array([[0, 1, 4, 5], [2, 3, 6, 7]])
    expected = np.asarray(expected)[groups].mean(axis=1).repeat(2)
    np.testing.assert_allclose(results[0][1].loss, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("pairs", "batch", "message"),
    [(1.5, 4, "one divided by a whole"), (0.25, 6, "a multiple of 4")],
)
def test_a_share_that_no_batch_has(heads_file, pairs, batch, message):
    config = configuration(heads_file)
    config.synthesis.pairs, config.optim.batch = pairs, batch
    network = models.create(config)
    with pytest.raises(errors.UserError, match=message):
        step.create_step(config, network, None, sharding.create_mesh(batch))


def test_no_label_map_is_left(heads_file, tmp_path):
    config = configuration(heads_file)
    config.synthesis.held_out = 3
    with pytest.raises(errors.UserError, match="none is left for train"):
        synthetic_pairs.read_heads(config, "train")
    config.synthesis.heads = str(tmp_path)
    with pytest.raises(errors.UserError, match="0 label maps"):
        synthetic_pairs.read_heads(config, "train")
