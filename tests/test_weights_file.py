"""Weights in files come back but for their rounding, heads unchanged."""

import functools

import jax
import numpy as np
import pytest

from configs import default
from mdvit_jax import errors, models
from mdvit_jax.data import head_file, label_maps
from mdvit_jax.models import weights_file


@functools.cache
def made():
    """A configuration, and the random parameters of its network."""
    config = default.get_config()
    config.model.update({"embedding": 8, "depth": 1, "head": "moments"})
    config.model.update({"patches": (3, 7), "strides": (2, 4)})  # quicker to compile
    config.data.size = 16
    network = models.create(config)
    volume = jax.ShapeDtypeStruct((1, 16, 16, 16), np.float32)
    return config, network.init(jax.random.key(0), volume, volume)


def test_weights_come_back(tmp_path):
    config, params = made()
    path = tmp_path / "network.safetensors"
    weights_file.save(path, params, config, "of a test")
    back = weights_file.load(path)
    assert (back.size, back.field_of_view, back.about) == (16, 256.0, "of a test")
    assert back.network == models.create(config)
    assert jax.tree.structure(back.params) == jax.tree.structure(params)
    for one, other in zip(*map(jax.tree.leaves, (back.params, params)), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=6e-4, atol=1e-7)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "network.safetensors"
    for content in (None, b"", b"no weights at all"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(errors.UserError, match="not a file of a network's weights"):
            weights_file.load(path)


def test_heads_come_back(tmp_path):
    random = np.random.default_rng(0)
    heads = label_maps.Head(
        random.integers(0, 50, (2, 4, 5, 6), np.uint8),
        random.integers(-127, 127, (2, 4, 5, 6), np.int8),
        random.random((2, 4, 4), np.float32),
        random.random((2, 83, 3), np.float32),
    )
    path = tmp_path / "folder" / "heads.npz"
    head_file.write(path, heads)
    for one, other in zip(head_file.read(path), heads, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    path.write_bytes(b"PK")
    with pytest.raises(errors.UserError, match="not a file of heads"):
        head_file.read(path)
