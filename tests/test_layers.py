"""Every layer against its formula, finite differences, and JAX's own operations."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, test_util
from jax.experimental.pallas import tpu as pltpu

from helpers.programs import equations
from mdvit_jax.geometry import forms
from mdvit_jax.models import blocks, initial_weights, msda
from mdvit_jax.models.ops import attention, convolution, dense
from oracle import layers

pytestmark = pytest.mark.usefixtures("quick_compilation")

GRID = (5, 4, 7)
F32, BF16 = jnp.dtype("float32"), jnp.dtype("bfloat16")
NAMES = ("NXYZC", "XYZIO", "NXYZC")


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def randomised(module, seed: int, *inputs):
    """Parameters of a layer with noise added to all, also biases and norms."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    leaves, structure = jax.tree.flatten(shapes)
    drawn = [0.3 * noise(seed + i, *leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, drawn)


def value_and_pull(function, cotangent, *arrays):
    """A function's value, and a cotangent pulled back; compiled as one program."""

    @jax.jit
    def compute(cotangent, *arrays):
        value, pull = jax.vjp(function, *arrays)
        return value, pull(cotangent)

    return compute(cotangent, *arrays)


def apply(layer, params, *inputs):
    """A layer, compiled as one program."""
    return jax.jit(lambda params, *inputs: layer.apply({"params": params}, *inputs))(
        params, *inputs
    )


def grouped(features, kernel, dilation, padding):
    channels = features.shape[-1]
    return lax.conv_general_dilated(
        features,
        kernel.reshape(3, 3, 3, 1, channels),
        (1, 1, 1),
        [(padding, padding)] * 3,
        rhs_dilation=(dilation,) * 3,
        dimension_numbers=NAMES,
        feature_group_count=channels,
    )


# Convolutions


@pytest.mark.parametrize(("dilation", "padding"), [(1, 1), (2, 2), (3, 3), (2, 1)])
def test_depthwise_equals_its_formula(dilation, padding):
    features, kernel = noise(1, 2, *GRID, 3), noise(2, 3, 3, 3, 3)
    for form in ("slices", "reference"):
        result = jax.jit(
            functools.partial(
                convolution.depthwise, dilation=dilation, padding=padding, form=form
            )
        )(features, kernel)
        for one, volume in zip(result, features, strict=True):
            expected = layers.depthwise(
                volume, kernel, dilation=dilation, padding=padding
            )
            assert one == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("dilation", "padding"), [(1, 1), (2, 2), (3, 3), (2, 1)])
@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_depthwise_gradients(dilation, padding, platform):
    """Of both forms of the kernel's gradient."""
    features, kernel = noise(3, 2, *GRID, 3), noise(4, 3, 3, 3, 3)
    ours = functools.partial(convolution.depthwise, dilation=dilation, padding=padding)
    plain = functools.partial(grouped, dilation=dilation, padding=padding)
    shape = jax.eval_shape(plain, features, kernel).shape
    cotangent = noise(5, *shape)
    _, expected = value_and_pull(plain, cotangent, features, kernel)
    with forms.tracing_for(platform):
        _, gradients = value_and_pull(ours, cotangent, features, kernel)
    for result, wanted in zip(gradients, expected, strict=True):
        assert result == pytest.approx(np.asarray(wanted), abs=2e-4)


def test_every_platform_has_a_form_of_every_operation():
    for platform in ("cpu", "cuda", "rocm", "tpu"):
        with forms.tracing_for(platform):
            assert forms.platform() == platform
            assert all(map(forms.fastest, forms.FASTEST))


@pytest.mark.parametrize(
    ("patch", "stride", "sizes"),
    [(3, 2, (8, 6, 4)), (7, 4, (8, 16, 4)), (15, 8, (24, 8, 16)), (5, 1, (3, 4, 5))],
)
def test_strided_convolution(patch, stride, sizes):
    volume, kernel = noise(6, 2, *sizes, 2), noise(7, *(patch,) * 3, 2, 3)
    expected = layers.convolution(volume[1], kernel, stride=stride, padding=patch // 2)
    result = {
        form: jax.jit(functools.partial(convolution.strided, stride=stride, form=form))(
            volume, kernel
        )
        for form in ("blocks", "reference")
    }
    assert result["blocks"][1] == pytest.approx(expected, abs=1e-3)
    plain = np.asarray(result["reference"])
    assert result["blocks"] == pytest.approx(plain, abs=1e-3)


def test_the_gradient_has_no_grouped_convolution():
    features, kernel = jnp.zeros((1, 8, 8, 8, 4)), jnp.zeros((3, 3, 3, 4))

    def program(function, *options):
        value = lambda f, k: function(f, k, *options).sum()  # noqa: E731
        gradient = jax.grad(value, argnums=(0, 1))
        return jax.jit(gradient).lower(features, kernel).as_text()

    assert "stablehlo.convolution" in program(grouped, 2, 2)
    assert "stablehlo.convolution" not in program(convolution.depthwise)


@pytest.mark.parametrize("form", ["taps", "reference"])
def test_same_convolution_equals_its_formula(form):
    features, kernel = noise(1, 2, 3, 5, 4, 6), noise(2, 3, 3, 3, 6, 7)
    same = functools.partial(convolution.same, F32, form=form)
    result = jax.jit(same)(features, kernel)
    for one, volume in zip(result, features, strict=True):
        expected = layers.convolution(volume, kernel, stride=1, padding=1)
        assert one == pytest.approx(expected, abs=1e-4)


def test_same_convolution_gradients():
    function = functools.partial(convolution.same, jnp.dtype("float64"), form="taps")
    with jax.enable_x64(True):
        arrays = [noise(1, 2, 3, 4, 2, 3), noise(2, 3, 3, 3, 3, 2)]
        arrays = [array.astype(np.float64) for array in arrays]
        test_util.check_grads(jax.jit(function), arrays, order=1, modes=["rev"])


# Matrix products


def test_dense_layer_and_gradients():
    inputs = noise(1, 2, 3, 5)
    layer = dense.Dense(4, F32)
    params = randomised(layer, 2, inputs)
    result = apply(layer, params, inputs)
    expected = inputs @ np.asarray(params["kernel"]) + np.asarray(params["bias"])
    assert result == pytest.approx(expected, abs=1e-5)
    with jax.enable_x64(True):
        rows, matrix = (noise(i, 4, 4).astype(np.float64) for i in (3, 4))
        product = functools.partial(dense.product, jnp.dtype("float64"))
        test_util.check_grads(jax.jit(product), (rows, matrix), order=1, modes=["rev"])


@pytest.mark.parametrize("make", [dense.product, convolution.same])
def test_only_the_factors_are_rounded(make):
    """In bfloat16 sums stay float32: a product of exact bfloat16 numbers is exact."""
    inputs, kernel = noise(1, 1, 2, 3, 4, 64), noise(2, 3, 3, 3, 64, 5)
    if make is dense.product:
        inputs, kernel = inputs.reshape(-1, 64), kernel[0, 0, 0]
    rounded = [np.asarray(jnp.asarray(a, BF16), np.float32) for a in (inputs, kernel)]
    shape = jax.eval_shape(functools.partial(make, F32), *rounded).shape
    gradient = np.asarray(jnp.asarray(noise(3, *shape), BF16), np.float32)
    (full, pulled_full), (half, pulled_half) = (
        value_and_pull(functools.partial(make, dtype), gradient, *rounded)
        for dtype in (F32, BF16)
    )
    assert half.dtype == F32
    assert half == pytest.approx(np.asarray(full), abs=1e-4)
    for one, other in zip(pulled_half, pulled_full, strict=True):
        assert one.dtype == F32
        assert one == pytest.approx(np.asarray(other), abs=1e-4)


# Attention


@pytest.mark.parametrize("tokens", [1, 35, 512])
@pytest.mark.parametrize("form", ["reference", "blocks", "whole"])
def test_attention_equals_its_formula_and_gradient(tokens, form, monkeypatch):
    """35 tokens in blocks of 7, 512 of 16."""
    monkeypatch.setattr(attention, "BLOCK", 16)
    arrays = [3 * noise(i, 2, 3, tokens, 8) for i in range(3)]

    def plain(query, key, value):
        scores = jnp.einsum("bhqd,bhkd->bhqk", query, key) / np.sqrt(8)
        return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, -1), value)

    cotangent = noise(9, 2, 3, tokens, 8)
    expected, expected_gradients = value_and_pull(plain, cotangent, *arrays)
    ours = functools.partial(attention.attend, form=form)
    result, gradients = value_and_pull(ours, cotangent, *arrays)
    assert result == pytest.approx(np.asarray(expected), abs=5e-5)
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert one == pytest.approx(np.asarray(other), abs=3e-4)


def test_attention_by_the_kernel_for_tpus():
    """Interpreted here; 256 tokens in one block, of a width that it has to pad."""
    arrays = [noise(i, 1, 2, 256, 24) for i in range(3)]
    cotangent = noise(9, *arrays[0].shape)
    values = []
    for form in ("whole", "flash"):
        ours = functools.partial(attention.attend, form=form)
        with pltpu.force_tpu_interpret_mode():
            value, gradients = value_and_pull(ours, cotangent, *arrays)
            values.append([value, *gradients])
    for one, other in zip(*values, strict=True):
        assert one == pytest.approx(np.asarray(other), abs=2e-4)


def test_attention_gradients_in_float64(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 5)
    with jax.enable_x64(True):
        arrays = [noise(i, 1, 2, 15, 4).astype(np.float64) for i in range(3)]
        blocks = functools.partial(attention.attend, form="blocks")
        test_util.check_grads(jax.jit(blocks), arrays, order=1, modes=["rev"])


def test_attention_by_cudnn_is_close():
    """On a GPU of NVIDIA only; its factors have eight bits."""
    if forms.platform() != "cuda":
        pytest.skip("needs a GPU of NVIDIA")
    arrays = [jnp.asarray(noise(i, 2, 2, 64, 32), BF16) for i in range(3)]
    values = []
    for form in ("whole", "cudnn"):
        ours = functools.partial(attention.attend, form=form)
        value, pull = jax.vjp(ours, *arrays)
        values.append([value, *pull(jnp.ones_like(value))])
    for one, other in zip(*values, strict=True):
        one, other = (np.asarray(array, np.float32) for array in (one, other))
        assert one == pytest.approx(other, abs=0.03)


def test_attention_of_huge_scores_is_finite():
    query = np.full((1, 1, 4, 2), 1e4, np.float32)
    value, gradients = value_and_pull(attention.attend, query, query, query, query)
    assert np.isfinite(value).all()
    assert all(np.isfinite(g).all() for g in gradients)


def test_all_products_of_attention_have_short_factors_forward_and_back():
    features = noise(1, 1, 4, 4, 4, 8)
    layer = attention.Attention(2, 0.0, BF16)
    params = randomised(layer, 2, features, None)

    def value(params, features):
        return layer.apply({"params": params}, features, None).sum()

    program = jax.make_jaxpr(jax.grad(value, argnums=(0, 1)))(params, features)
    products = [e for e in equations(program) if e.primitive.name == "dot_general"]
    assert len(products) >= 4 * 3 + 2 + 5  # maps, attention, its gradient
    assert {v.aval.dtype for e in products for v in e.invars} == {BF16}


def test_attention_layer():
    features = noise(1, *GRID, 6)
    layer = attention.Attention(3, 0.0, F32)
    params = randomised(layer, 2, features[None], None)
    result = apply(layer, params, features[None], None)
    assert result[0] == pytest.approx(layers.attention(features, params, 3), abs=1e-4)


# Blocks and MSDA


def test_gelu_and_its_slope():
    x = jnp.linspace(-6, 6, 101)
    assert blocks.gelu(x) == pytest.approx(layers.gelu(np.asarray(x, float)), abs=1e-6)
    with jax.enable_x64(True):
        test_util.check_grads(jax.jit(blocks.gelu), (np.linspace(-4.0, 4, 9),), order=1)


@pytest.mark.parametrize(("patch", "stride"), [(3, 2), (7, 4), (15, 8)])
def test_patch_embedding(patch, stride):
    images = noise(1, 16, 8, 24, 2)
    layer = blocks.PatchEmbedding(5, patch, stride)
    params = randomised(layer, 2, images[None])
    result = apply(layer, params, images[None])[0]
    convolved = layers.convolution(
        images, params["kernel"], stride=stride, padding=patch // 2
    )
    assert result == pytest.approx(layers.gelu(convolved + params["bias"]), abs=2e-4)


def test_mlp_and_block():
    features = noise(1, *GRID, 6)
    block = blocks.Block(2, 3, 0.0, F32)
    params = randomised(block, 2, features[None], None)
    attended = features + layers.attention(features, params["attention"], 2)
    expected = attended + layers.mlp(attended, params["mlp"])
    result = apply(block, params, features[None], None)
    assert result[0] == pytest.approx(expected, abs=1e-3)


def test_head():
    features = noise(1, *GRID, 6)
    params = randomised(blocks.Head(), 2, features[None])
    result, active = apply(blocks.Head(), params, features[None])
    assert result.shape == (1, 12) and active.shape == (1, 3)
    assert result[0] == pytest.approx(layers.head(features, params), abs=1e-5)


def test_head_of_moments():
    features = noise(1, *GRID, 6)
    params = randomised(blocks.MomentHead(), 2, features[None])
    result, active = apply(blocks.MomentHead(), params, features[None])
    inputs = [features.mean((0, 1, 2))]
    for axis, size in enumerate(GRID):
        centres = (2 * np.arange(size) + 1) / size - 1
        along = np.moveaxis(features, axis, -1) * centres  # [.., channels, size]
        inputs.append(along.mean((0, 1, 3)))
    hidden = np.concatenate(inputs) @ params["hidden"]["kernel"]
    hidden = layers.gelu(hidden + params["hidden"]["bias"])
    twelve = hidden @ params["parameters"]["kernel"] + params["parameters"]["bias"]
    assert result[0] == pytest.approx(np.tanh(twelve), abs=1e-5)
    assert active.shape == (1, 6) and active.dtype == bool


@pytest.mark.parametrize("head", [blocks.Head, blocks.MomentHead])
def test_a_unit_of_a_head_is_silent_where_it_passes_no_gradient_on(head):
    features = noise(1, *GRID, 6)
    params = randomised(head(), 2, features[None])

    def shifted_sum(shift):
        hidden = {**params["hidden"]}
        hidden["kernel"] = hidden["kernel"] + shift
        out, active = head().apply(
            {"params": {**params, "hidden": hidden}}, features[None]
        )
        return out.sum(), active[0]

    gradient_of = jax.jit(jax.grad(shifted_sum, has_aux=True))
    for shift in (0.0, -40.0):
        kernel = np.full(params["hidden"]["kernel"].shape, shift, np.float32)
        gradient, active = gradient_of(kernel)
        flows = np.abs(gradient).max(0) > 1e-2
        assert (flows <= active).all()


@pytest.mark.parametrize(
    ("form", "oracle"),
    [
        (msda.ChannelMsda, layers.channel_msda),
        (msda.TokenMsda, layers.token_msda),
    ],
)
def test_msda(form, oracle):
    features = noise(1, 2, 6, 5, 7, 4)
    layer = form((1, 2, 3), F32)
    params = randomised(layer, 2, features)
    result = apply(layer, params, features)
    for one, volume in zip(result, features, strict=True):
        assert one == pytest.approx(oracle(volume, params, (1, 2, 3)), abs=2e-4)


@pytest.mark.parametrize("form", [msda.ChannelMsda, msda.TokenMsda])
def test_msda_gradients(form):
    with jax.enable_x64(True):
        features = noise(1, 1, 5, 5, 6, 3).astype(np.float64)
        layer = form((1, 2), jnp.dtype("float64"))
        params = randomised(layer, 2, features)
        params = jax.tree.map(lambda leaf: leaf.astype(np.float64), params)
        test_util.check_grads(
            jax.jit(lambda p, f: layer.apply({"params": p}, f)),
            (params, features),
            order=1,
            modes=["rev"],
        )


def test_the_token_form_is_as_large_as_the_programs():
    """At 16³ positions 16³ + 14³ + 12³ tokens map to 4,096: 105 million weights."""
    features = jax.ShapeDtypeStruct((1, 16, 16, 16, 256), F32)
    layer = msda.TokenMsda((1, 2, 3), F32)
    params = jax.eval_shape(layer.init, jax.random.key(0), features)["params"]
    assert msda.joined_tokens((16, 16, 16), (1, 2, 3)) == (8568, 4096)
    assert params["compress"]["kernel"].shape == (3, 8568, 4096)
    sizes = [leaf.size for leaf in jax.tree.leaves(params["compress"])]
    assert sum(sizes) == 3 * 8568 * 4096 + 4096 == 105_287_680


def test_layers_in_bfloat16_are_close():
    features = noise(1, 1, 3, 4, 2, 8)
    for make, extra in (
        (lambda dtype: msda.ChannelMsda((1, 2, 3), dtype), ()),
        (lambda dtype: blocks.Block(2, 2, 0.0, dtype), (None,)),
    ):
        params = randomised(make(F32), 2, features, *extra)
        params = jax.tree.map(lambda leaf: 0.5 * leaf, params)
        full, half = (apply(make(d), params, features, *extra) for d in (F32, BF16))
        assert half.dtype == F32
        assert np.abs(half - full).max() < 0.03 * np.abs(full).max()


# How weights start out


def test_initial_weights():
    shapes = {
        "linear": {"kernel": (200, 300), "bias": (300,)},
        "depthwise": {"kernel": (3, 3, 3, 2000)},
        "convolution": {"kernel": (3, 3, 3, 20, 100)},
        "norm": {"scale": (9,), "bias": (9,)},
        "compressed_norm": {"scale": (9,), "bias": (9,)},
    }
    abstract = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, F32),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )
    drawn = initial_weights.draw(jax.random.key(1), abstract)
    assert jax.tree.map(jnp.shape, drawn) == shapes
    for layer, deviation in (
        ("linear", 0.02),
        ("depthwise", np.sqrt(2 / 27)),
        ("convolution", np.sqrt(2 / (27 * 100))),
    ):
        kernel = drawn[layer]["kernel"]
        assert kernel.std() == pytest.approx(deviation, rel=0.02)
        assert abs(kernel.mean()) < 0.02 * deviation
    assert not drawn["linear"]["bias"].any() and not drawn["norm"]["bias"].any()
    assert (drawn["norm"]["scale"] == 1).all()
    assert not drawn["compressed_norm"]["scale"].any()
    kernels = [drawn[k]["kernel"].ravel()[:50] for k in ("linear", "convolution")]
    for one, other in itertools.combinations(kernels, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.5
