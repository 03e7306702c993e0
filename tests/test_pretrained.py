"""The networks of the package align brains, by their names and from their files."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import anything, anything_keymorph
from mdvit_jax import errors, geometry, models
from mdvit_jax.data import conform, template
from mdvit_jax.io import image
from mdvit_jax.models import weights_file
from mdvit_jax.studies import runner
from mdvit_jax.training import known_affines, pretrained

pytestmark = pytest.mark.usefixtures("quick_compilation")

COUNT = 4  # known affines of a brain
# What commands call it → its configuration, how many weights it has, and its name there
NETWORKS = {
    "pretrained": (anything, 3_057_188, "MDViT (pretrained)"),
    "pretrained-keymorph": (
        anything_keymorph,
        594_960,
        "KeyMorph (pretrained-keymorph)",
    ),
}


@pytest.fixture(scope="module", params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def weights(name):
    return models.pretrained(weights_file.PRETRAINED[name])


@pytest.fixture(scope="module")
def align(weights):
    """(params, fixed, moving) → matrices of the network, and of the centres of mass."""

    @jax.jit
    def estimate(params, fixed, moving):
        start = geometry.centre_shift(fixed, moving)
        return weights.network.from_centres(params, fixed, moving).matrix, start

    return estimate


@pytest.fixture(scope="module")
def brain(weights):
    return conform.conform(
        *template.mni152(), size=weights.size, field_of_view=weights.field_of_view
    )


@jax.jit
def moved(volume, field_of_view: float):
    """A brain, the same brain under known affines, and the true matrices."""
    centre = geometry.centre_of_mass(volume)
    keys = jax.random.split(jax.random.key(0), COUNT)
    moves = jax.vmap(lambda key: known_affines.draw(key, centre, field_of_view))(keys)
    fixed = jnp.broadcast_to(volume, (COUNT, *volume.shape))
    return fixed, geometry.warp_affine(fixed, moves), geometry.invert(moves)


distance_over = jax.jit(known_affines.distance_over)


def errors_in_mm(scan, matrices, truth, weights) -> list[float]:
    """Mean error over the brain, and over the affines, of each of the matrices."""
    return [
        float(distance_over(scan.mask, matrix, truth).mean())
        * weights.field_of_view
        / 2
        for matrix in matrices
    ]


def test_what_is_in_the_file(name, weights):
    module, count, _ = NETWORKS[name]
    assert weights.network == models.create(module.get_config())
    assert (weights.size, weights.field_of_view) == (32, 256.0)
    leaves = jax.tree.leaves(weights.params)
    for leaf in leaves:
        stored = np.asarray(leaf)
        assert np.isfinite(stored).all()
        np.testing.assert_array_equal(stored, stored.astype(np.float16))
    assert sum(leaf.size for leaf in leaves) == count


@pytest.mark.parametrize(
    ("recolour", "most"),
    [
        (lambda v: v, 0.35),
        # Grey matter brighter than white, fluid brightest.
        (lambda v: jnp.where(v > 0.02, 1 - v, 0), 0.75),
    ],
    ids=["same contrast", "inverted contrast"],
)
def test_known_affines_of_the_template(weights, align, brain, recolour, most):
    """MNI152, not in its training; `most` is a share of the centres' error."""
    fixed, moving, truth = moved(brain.image, weights.field_of_view)
    matrices = align(weights.params, fixed, recolour(moving))
    ours, centres = errors_in_mm(brain, matrices, truth, weights)
    assert centres > 10
    assert ours < most * centres


@pytest.mark.parametrize("person", ["sub-31", "sub-34"])
def test_known_affines_of_people(weights, align, real_data, person):
    """People on whom recipes were chosen, but who are not in its training."""
    scan = conform.conform(
        image.load(real_data / "ds002748" / f"{person}_T1w.nii.gz"),
        None,
        None,
        size=weights.size,
        field_of_view=weights.field_of_view,
    )
    fixed, moving, truth = moved(scan.image, weights.field_of_view)
    matrices = align(weights.params, fixed, moving)
    ours, centres = errors_in_mm(scan, matrices, truth, weights)
    assert centres > 10
    assert ours < centres / 2


def test_half_precision_is_enough(weights, align, brain):
    """Weights changed by the rounding of float16 move the answer by far less."""
    random = np.random.default_rng(0)
    changed = jax.tree.map(
        lambda w: np.float32(w * (1 + random.uniform(-1, 1, w.shape) / 2**11)),
        weights.params,
    )
    fixed, moving, _ = moved(brain.image, weights.field_of_view)
    matrix, other = (align(p, fixed, moving)[0] for p in (weights.params, changed))
    (apart,) = errors_in_mm(brain, [matrix], other, weights)
    assert 0 < apart < 0.2


def test_training_starts_from_the_weights(name, weights):
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def shapes(config):
        tree = pretrained.parameter_shapes(config, models.create(config))
        return jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), tree
        )

    module = NETWORKS[name][0]
    config = module.get_config()
    start = pretrained.load_start(name, shapes(config))
    jax.tree.map(np.testing.assert_array_equal, start, weights.params)
    assert all(leaf.sharding == place for leaf in jax.tree.leaves(start))
    config.model.update({"embedding": 64, "keypoints": 64})
    path = module.__name__.replace(".", "/")
    with pytest.raises(errors.UserError, match=rf"the one of {path}\.py"):
        pretrained.load_start(name, shapes(config))


def test_evaluation_refuses_another_grid(name):
    config = anything.get_config()
    (method,) = runner.load_networks(config, [Path(name)])
    assert method.name == NETWORKS[name][2]
    assert "sub-01 to sub-30 of ds002748" in method.identity
    config.data.size = 64
    with pytest.raises(errors.UserError, match=r"takes volumes of 32³ voxels"):
        runner.load_networks(config, [Path(name)])
    with pytest.raises(errors.UserError, match="--output"):
        runner.run_studies(config, checkpoints=[Path(name)], command="")
