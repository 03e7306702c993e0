"""The whole network: against its formula, its laws, and its errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from configs import default
from helpers import images
from mdvit_jax import errors, geometry, losses, models
from mdvit_jax.geometry import forms
from mdvit_jax.models import torch_coordinates
from oracle import layers

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPE = (16, 24, 32)


TWO_STAGES = {"patches": (3, 7), "strides": (2, 4)}  # quicker to compile
ONE_STAGE = {"patches": (7,), "strides": (4,)}
by_coordinates = pytest.mark.parametrize(
    "coordinates", [{}, {"torch_coordinates": True}], ids=["ours", "torch"]
)


def configuration(**changes):
    config = default.get_config().model
    config.update(embedding=16, depth=1)
    config.update(changes)
    return config


def brains(seed: int, shape=SHAPE, batch: int = 2):
    """Smooth blobs away from the border, so that no shift cuts them."""
    fixed, moving = (
        np.stack([images.smooth(s + 10 * b, shape) for b in range(batch)])
        for s in (seed, seed + 1)
    )
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    fade = np.clip(1.5 - 2.5 * np.sqrt(sum(a**2 for a in axes)), 0, 1)
    return tuple(
        jnp.asarray(fade * (v - v.min()), jnp.float32) for v in (fixed, moving)
    )


warp_affine = jax.jit(geometry.warp_affine)


@jax.jit
def affine_about_centre(parameters, volume):
    centre = geometry.centre_of_mass(volume)
    return geometry.affine_matrix(parameters, centre=centre)


@functools.cache
def compiled(**changes):
    """A network, and its `apply`, compiled once for all tests of the same network."""
    network = models.create(configuration(**changes))
    return network, jax.jit(network.apply)


@functools.cache
def made(head: float = 1.0, **changes):
    """A network, parameters as if it were trained, and `apply` compiled.

    Its heads move the image, and MSDA takes part.
    """
    network, apply = compiled(**changes)
    volume = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)
    params = network.init(jax.random.key(1), volume, volume)
    random = np.random.default_rng(1)
    for stage in sorted(name for name in params if name.startswith("stage_")):
        for layer, scale in (("hidden", 1.0), ("parameters", 0.03 * head)):
            kernel = params[stage]["head"][layer]["kernel"]
            drawn = random.normal(scale=scale, size=kernel.shape)
            params[stage]["head"][layer]["kernel"] = jnp.asarray(drawn, jnp.float32)
        if "compressed_norm" in params[stage].get("msda", {}):
            norm = params[stage]["msda"]["compressed_norm"]
            norm["scale"] = jnp.ones_like(norm["scale"])
    return network, params, apply


def test_the_estimate_has_all_parts():
    _, params, apply = made()
    fixed, moving = brains(1)
    estimate = apply(params, fixed, moving)
    assert estimate.parameters.shape == (2, 12) and estimate.matrix.shape == (2, 4, 4)
    assert estimate.warped.shape == (2, *SHAPE)
    sizes = [stage.warped.shape[1:] for stage in estimate.stages]
    assert sizes == [(8, 12, 16), SHAPE, SHAPE]
    assert (estimate.matrix == estimate.stages[-1].matrix).all()
    active = [stage.active for stage in estimate.stages]
    assert all(units.dtype == bool and len(units) == 2 for units in active)
    numbers = [leaf for leaf in jax.tree.leaves(estimate) if leaf.dtype != bool]
    assert all(leaf.dtype == jnp.float32 for leaf in numbers)
    for stage in estimate.stages:
        assert 0.05 < np.abs(stage.parameters).max() < 0.5  # the tests are of moves
    warped = warp_affine(moving, estimate.matrix)
    np.testing.assert_allclose(estimate.warped, warped, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"dilated_form": "none", **TWO_STAGES}])
def test_it_equals_its_formula(changes):
    """Stage by stage by the layers of the oracle; geometry has its own tests."""
    network, params, apply = made(**changes)
    fixed, moving = brains(2)
    estimate = apply(params, fixed, moving)
    params = jax.tree.map(np.asarray, params)
    config, stages = network.module.config, len(estimate.stages)
    levels = [geometry.image_pyramid(v[:1], stages) for v in (fixed, moving)]
    carried, warped = 0, levels[1][0]
    for i, (patch, stride) in enumerate(
        zip(config.patches, config.strides, strict=True)
    ):
        stage, stage_estimate = params[f"stage_{i + 1}"], estimate.stages[i]
        embedding = stage["patch_embedding"]
        pair = np.stack([warped[0], levels[0][i][0]], axis=-1)
        features = carried + layers.gelu(
            layers.convolution(
                pair, embedding["kernel"], stride=stride, padding=patch // 2
            )
            + embedding["bias"]
        )
        if config.dilated_form == "channels":
            features = layers.channel_msda(features, stage["msda"], (1, 2, 3))
        block = stage["block_1"]
        features = features + layers.attention(features, block["attention"], 2)
        features = features + layers.mlp(features, block["mlp"])
        result = layers.head(features, stage["head"])
        assert stage_estimate.parameters[0] == pytest.approx(result, abs=1e-4)
        level = levels[1][min(i + 1, stages - 1)]
        matrix = affine_about_centre(jnp.asarray(result[None], jnp.float32), level)
        assert stage_estimate.matrix[0] == pytest.approx(
            np.asarray(matrix[0]), abs=1e-4
        )
        warped = warp_affine(level, matrix)
        if i < stages - 1:
            squeeze = params[f"squeeze_{i + 1}"]
            carried = layers.convolution(features, squeeze["kernel"], padding=1)
            carried = carried + squeeze["bias"]


@by_coordinates
def test_a_head_of_zeros_gives_the_identity(coordinates):
    _, params, apply = made(head=0.0, **coordinates, **TWO_STAGES)
    fixed, moving = brains(3)
    estimate = apply(params, fixed, moving)
    assert (estimate.parameters == 0).all()
    assert estimate.matrix == pytest.approx(np.stack([np.eye(4)] * 2), abs=1e-6)
    np.testing.assert_allclose(estimate.warped, moving, rtol=0, atol=1e-5)
    initial = jax.jit(geometry.centre_shift)(fixed, moving)
    moved = apply(params, fixed, moving, initial=initial)
    assert moved.matrix == pytest.approx(np.asarray(initial), abs=1e-6)


@by_coordinates
def test_initial_acts_like_warping_the_moving_volume_first(coordinates):
    """For a shift of whole voxels at every level, which interpolation does not blur."""
    _, params, apply = made(**coordinates, **TWO_STAGES)
    fixed, moving = brains(4)
    shift = np.array([2, -2, 4]) * 2 / SHAPE
    shifts = jnp.asarray(np.stack([shift, 0 * shift]), jnp.float32)
    initial = geometry.translation_matrix(shifts)
    warped = apply(params, fixed, moving, initial=initial)
    before = warp_affine(moving, initial)
    wanted = apply(params, fixed, before)
    for ours, theirs in zip(warped.stages, wanted.stages, strict=True):
        assert ours.parameters == pytest.approx(np.asarray(theirs.parameters), abs=1e-4)
        composed = geometry.compose(initial, theirs.matrix)
        assert ours.matrix == pytest.approx(np.asarray(composed), abs=1e-4)
        np.testing.assert_allclose(ours.warped, theirs.warped, rtol=0, atol=1e-3)


def test_a_second_pass_starts_from_the_first_ones_answer():
    """A start like any other: no gradient flows through the first pass."""
    network, params, _ = made(**ONE_STAGE)
    fixed, moving = brains(6)

    @functools.partial(jax.jit, static_argnames="passes")
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params, initial, passes):
        estimate = network.apply(params, fixed, moving, initial=initial, passes=passes)
        return estimate.matrix.sum(), estimate

    identity = jnp.stack([jnp.eye(4)] * 2)
    _, first = gradient(params, identity, passes=1)
    of_second, second = gradient(params, first.matrix, passes=1)
    of_both, both = gradient(params, identity, passes=2)
    assert len(both.before) == 1 and not first.before
    expected = first.stages + second.stages
    ours = both.before[0].stages + both.stages
    for stage, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(stage.matrix, wanted.matrix, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(both.matrix, both.stages[-1].matrix)
    gradients = jax.tree.leaves(of_both), jax.tree.leaves(of_second)
    for stage, wanted in zip(*gradients, strict=True):
        np.testing.assert_allclose(stage, wanted, rtol=1e-3, atol=1e-4)


def test_a_batch_equals_its_pairs():
    _, params, apply = made(**TWO_STAGES)
    fixed, moving = brains(5)
    both = apply(params, fixed, moving)
    for i in (0, 1):
        one = apply(params, fixed[i : i + 1], moving[i : i + 1])
        assert both.matrix[i] == pytest.approx(np.asarray(one.matrix[0]), abs=1e-5)
        np.testing.assert_allclose(both.warped[i], one.warped[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 4, 4), (40, 4, 16)])
def test_any_size_with_one_set_of_parameters(shape):
    _, params, apply = made(**TWO_STAGES)
    estimate = apply(params, *brains(6, shape, batch=1))
    assert estimate.warped.shape == (1, *shape)
    assert np.isfinite(estimate.matrix).all()


def test_bfloat16_is_close_and_its_results_are_float32():
    _, params, apply = made(**TWO_STAGES)
    _, apply_half = compiled(compute_dtype="bfloat16", **TWO_STAGES)
    fixed, moving = brains(7)
    full, half = (f(params, fixed, moving) for f in (apply, apply_half))
    kinds = {leaf.dtype for leaf in jax.tree.leaves(half)}
    assert kinds == {np.dtype("float32"), np.dtype("bool")}  # `active` is bool
    difference = np.abs(half.parameters - full.parameters).max()
    assert 0 < difference < 0.05 * np.abs(full.parameters).max() + 0.005


@pytest.mark.parametrize(
    ("platform", "dtype"),
    [
        ("cpu", "float32"),
        ("tpu", "bfloat16"),
        ("cuda", "bfloat16"),
        ("other", "float32"),
    ],
)
def test_factors_are_bfloat16_where_the_platform_multiplies_it(platform, dtype):
    with forms.tracing_for(platform):
        chosen = models.create(configuration(compute_dtype="auto")).module.config
        assert chosen.compute_dtype == dtype
        named = models.create(configuration(compute_dtype="float32")).module.config
        assert named.compute_dtype == "float32"


@functools.cache
def objective(**changes):
    """Value and gradient of (params, fixed, moving), compiled once for a network."""
    network, _ = compiled(**changes)

    def value(params, fixed, moving):
        warped = network.apply(params, fixed, moving).warped
        return losses.similarity_pyramid(losses.ntg, fixed, warped, levels=2).mean()

    return jax.jit(jax.value_and_grad(value))


def test_the_gradient_reaches_every_parameter_and_goes_downhill():
    _, params, _ = made(**TWO_STAGES)
    pair, value_and_gradient = brains(8, batch=1), objective(**TWO_STAGES)
    value, gradient = value_and_gradient(params, *pair)
    flat = traverse_util.flatten_dict(gradient, sep="/")
    for path, leaf in flat.items():
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path
    squared = sum(float((leaf**2).sum()) for leaf in flat.values())
    step = 1e-3 * float(value) / squared
    there = jax.tree.map(lambda p, g: p - step * g, params, gradient)
    drop = float(value - value_and_gradient(there, *pair)[0])
    assert drop == pytest.approx(step * squared, rel=0.2)


def test_untrained_it_is_c2fvit():
    """MSDA has a gradient from the start, so that it takes part later."""
    network, apply = compiled(**TWO_STAGES)
    params = network.init(jax.random.key(1), *brains(9))
    _, gradient = objective(**TWO_STAGES)(params, *brains(9, batch=1))
    for stage in ("stage_1", "stage_2"):
        assert np.abs(gradient[stage]["msda"]["compressed_norm"]["scale"]).max() > 0
    estimate = apply(params, *brains(9))
    _, without = compiled(dilated_form="none", **TWO_STAGES)
    kept = {name: dict(stage) for name, stage in params.items()}
    for stage in ("stage_1", "stage_2"):
        del kept[stage]["msda"]
    plain = without(kept, *brains(9))
    assert np.abs(estimate.parameters - plain.parameters).max() < 1e-7


def test_recomputing_blocks_changes_no_gradient():
    _, params, _ = made(**TWO_STAGES)
    pair = brains(9, batch=1)
    plain = objective(**TWO_STAGES)(params, *pair)
    again = objective(remat=True, **TWO_STAGES)(params, *pair)
    assert plain[0] == pytest.approx(float(again[0]), abs=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        plain[1],
        again[1],
    )


def test_dropout_needs_its_keys_one_for_each_pair():
    _, params, apply = made(dropout=0.5, **TWO_STAGES)
    _, _, without = made(**TWO_STAGES)
    pair = brains(10)
    assert (apply(params, *pair).matrix == without(params, *pair).matrix).all()
    keys = jax.random.split(jax.random.key(1), 2)
    one, same, other = (
        apply(params, *pair, dropout_keys=k).matrix
        for k in (keys, keys, keys.at[1].set(jax.random.key(2)))
    )
    assert (one == same).all()
    assert (one == other).all((1, 2)).tolist() == [True, False]


def test_the_token_form_fits_one_size():
    network, apply = compiled(dilated_form="tokens", **TWO_STAGES)
    fixed, moving = brains(11, (20, 20, 24), batch=1)
    params = network.init(jax.random.key(0), fixed, moving)
    assert params["stage_1"]["msda"]["compress"]["kernel"].shape[2] == 5 * 5 * 6
    assert np.isfinite(apply(params, fixed, moving).matrix).all()
    with pytest.raises(errors.UserError, match="24 × 20 × 24 voxels have 232 and 180"):
        network.apply(params, *brains(11, (24, 20, 24), batch=1))
    with pytest.raises(errors.UserError, match="20 voxels along each axis"):
        network.init(jax.random.key(0), *brains(11, (16, 20, 20), batch=1))


def test_parameter_names_that_fine_tuning_uses():
    _, params, _ = made()
    names = traverse_util.flatten_dict(params, sep="/")
    assert {name.split("/")[0] for name in names} == {
        *("stage_1", "stage_2", "stage_3", "squeeze_1", "squeeze_2")
    }
    parts = {name.split("/")[1] for name in names if name.startswith("stage_")}
    assert parts == {"patch_embedding", "msda", "block_1", "head"}
    block = {n.split("/")[2] for n in names if n.startswith("stage_2/block_1")}
    assert block == {"attention", "mlp"}


def test_parameters_depend_on_the_key_and_not_on_the_size():
    network, _ = compiled(**TWO_STAGES)
    drawn = [
        network.init(jax.random.key(k), *[jnp.zeros((1, n, n, n))] * 2)
        for k, n in ((1, 16), (1, 32), (2, 16))
    ]
    equal = [
        jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), drawn[0], d))
        for d in drawn[1:]
    ]
    assert all(equal[0]) and not all(equal[1])


def test_the_default_network_has_as_many_parameters_as_the_papers_layers():
    """The number was counted by hand; no network is computed."""
    volume = jax.ShapeDtypeStruct((1, 128, 128, 128), jnp.float32)
    network = models.create(default.get_config())
    shapes = jax.eval_shape(network.init, jax.random.key(0), volume, volume)
    c = 256
    block = 4 * c * c + c + 4 * c * c + 3 * c + 27 * 2 * c
    msda = 2 * 2 * c + 3 * 27 * c + 3 * c * c + c
    head = c * c // 2 + 12 * c // 2
    patches = sum(2 * k**3 * c + c for k in (3, 7, 15))
    squeezes = 2 * (27 * c * c + c)
    total = 3 * (4 * block + msda + head) + patches + squeezes
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == total


def test_torch_coordinates():
    """Voxel (i, j, k) of an array is PyTorch's (x, y, z) = corners of (k, j, i)."""
    shape = np.array(SHAPE)
    matrix = np.eye(4)
    matrix[:3] += np.random.default_rng(1).normal(scale=0.2, size=(3, 4))
    ours = torch_coordinates.from_torch(jnp.asarray(matrix, jnp.float32), SHAPE)
    voxel = np.array([3.0, 17, 8])
    theirs = matrix @ [*(2 * voxel / (shape - 1) - 1)[::-1], 1]
    expected = (theirs[:3][::-1] + 1) * (shape - 1) / 2
    result = np.asarray(ours) @ [*((2 * voxel + 1) / shape - 1), 1]
    assert ((result[:3] + 1) * shape - 1) / 2 == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dilated_form": "channel"}, '"channel"; choose "channels", "tokens" or'),
        ({"compute_dtype": "float16"}, '"float16"; choose "auto", "float32" or'),
        ({"heads": 3}, "16 cannot be shared out among 3 heads"),
        ({"strides": (2, 4)}, "a number for each stage"),
        ({"strides": (2, 4, 4)}, "twice the one before"),
        ({"patches": (3, 8, 15)}, "odd numbers"),
    ],
)
def test_configurations_that_no_network_has(changes, message):
    with pytest.raises(errors.UserError, match=message):
        models.create(configuration(**changes))


def test_volumes_that_do_not_fit():
    network, params, _ = made()
    with pytest.raises(errors.UserError, match="16 × 24 × 33 .* multiple of 8"):
        network.apply(params, *[jnp.zeros((1, 16, 24, 33))] * 2)
    with pytest.raises(errors.UserError, match="50 × 50 × 50"):
        network.init(jax.random.key(0), *[jnp.zeros((1, 50, 50, 50))] * 2)
    with pytest.raises(ValueError, match="of equal shapes"):
        network.apply(params, jnp.zeros((1, 16, 16, 16)), jnp.zeros((16, 16, 16)))


def test_create_takes_the_whole_configuration_or_its_part():
    config = default.get_config()
    assert models.create(config) == models.create(config.model)
