"""Multi-head self-attention over all positions of a feature volume.

softmax(Q Kᵀ / √d) V, whose scores, tokens² of them, are never kept: the backward pass
computes them again. A CPU works on one block of them at a time, which stays in its
cache; on GPUs of NVIDIA cuDNN does the same within one kernel, and on TPUs JAX's own.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from mdvit_jax.geometry import forms
from mdvit_jax.models.ops import dense, dropout

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

# How many queries (backward: keys) the form "blocks" works on at a time. With 4,096
# tokens and 2 heads of 128 on two cores: forward 0.12 s, whole 0.24 s; forward and
# gradient 0.49 s, by automatic differentiation of the whole 0.72 s. Blocks of 128 to
# 512 differ by a tenth.
BLOCK = 256
# The same of the form "flash", the largest that divides the tokens. The larger they
# are, the less often keys and values are read again.
_FLASH_BLOCKS = 1024, 512, 256, 128

FORMS = ("reference", "blocks", "whole", "cudnn", "flash")


def attend(
    query: Float[Array, "batch heads tokens d"],
    key: Float[Array, "batch heads tokens d"],
    value: Float[Array, "batch heads tokens d"],
    *,
    form: str = "auto",
) -> Float[Array, "batch heads tokens d"]:
    """softmax(Q Kᵀ / √d) V, [batch, heads, tokens, d] each.

    Scores, softmax and sums are float32 whatever the dtype.

    Args:
        form: "reference" is JAX's own, whose gradient keeps the scores; "blocks" works
            on `BLOCK` queries of one head at a time, "whole" on all tokens and heads at
            once; "cudnn" is for 16-bit factors on GPUs of NVIDIA, "flash" for TPUs and
            a multiple of 128 tokens. "auto" takes the fastest of them on the platform,
            "whole" where that has no kernel for the factors (`geometry.forms`).
    """
    chosen = forms.choose_form("attention", form, FORMS)
    fits = {"cudnn": _fits_cudnn, "flash": _fits_flash}
    if form == "auto" and chosen in fits and not fits[chosen](query):
        chosen = "whole"
    if chosen == "reference":
        return _by_jax(query, key, value, "xla")
    if chosen == "cudnn":
        return _by_jax(query, key, value, "cudnn")
    if chosen == "flash":
        return _by_flash(query, key, value)
    return _attend(chosen == "blocks", query, key, value)


def _fits_cudnn(query: Array) -> bool:
    """Whether cuDNN has a kernel for such heads, and this machine a device for it."""
    tokens, width = query.shape[-2:]
    if query.dtype.itemsize != 2 or tokens % 2 or width % 8 or width > 128:
        return False
    if forms.platform() != "cuda" or jax.default_backend() != "gpu":
        return False
    return forms.multiplies_bfloat16()


def _by_jax(query: Array, key: Array, value: Array, implementation) -> Array:
    heads_third = (array.transpose(0, 2, 1, 3) for array in (query, key, value))
    attended = jax.nn.dot_product_attention(*heads_third, implementation=implementation)
    return attended.transpose(0, 2, 1, 3)


def _fits_flash(query: Array) -> bool:
    return query.shape[-2] % _FLASH_BLOCKS[-1] == 0


def _by_flash(query: Array, key: Array, value: Array) -> Array:
    """By the kernel that comes with JAX, in equal blocks of queries and keys."""
    from jax.experimental.pallas.ops.tpu import flash_attention

    tokens, width = query.shape[-2:]
    block = next(size for size in _FLASH_BLOCKS if tokens % size == 0)
    fields = (field.name for field in dataclasses.fields(flash_attention.BlockSizes))
    sizes = dict.fromkeys(fields, block) | {"block_b": 1}
    kernel = functools.partial(
        flash_attention.flash_attention,
        sm_scale=width**-0.5,
        block_sizes=flash_attention.BlockSizes(**sizes),
    )
    return forms.on_each_device(kernel, query, key, value)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(in_blocks: bool, query: Array, key: Array, value: Array) -> Array:
    return _attend_forward(in_blocks, query, key, value)[0]


def _attend_forward(in_blocks: bool, query: Array, key: Array, value: Array):
    attended, normaliser = _over_heads(in_blocks, _attend_one, query, key, value)
    return attended, (query, key, value, attended, normaliser)


def _attend_one(
    block: int, query: Array, key: Array, value: Array
) -> tuple[Array, Array]:
    """One head, [tokens, d] each → the result and log Σ exp(scores) of each query."""
    scale = query.shape[-1] ** -0.5

    def attend_block(queries: Array) -> tuple[Array, Array]:
        scores = dense.contract(queries * scale, key, 1, 1)
        largest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - largest)
        total = weights.sum(-1, keepdims=True)
        attended = dense.contract(weights.astype(value.dtype), value, 1, 0) / total
        return attended.astype(value.dtype), (largest + jnp.log(total))[:, 0]

    blocks = query.reshape(-1, block, query.shape[-1])
    return jax.tree.map(
        lambda out: out.reshape(len(query), *out.shape[2:]),
        lax.map(attend_block, blocks),
    )


def _attend_backward(in_blocks: bool, residuals, gradient: Array):
    query, key, value, attended, normaliser = residuals
    drift = (gradient * attended).sum(-1, dtype=dense.wide(gradient))
    arrays = query, key, value, normaliser, gradient, drift
    return _over_heads(in_blocks, _attend_one_backward, *arrays)


def _attend_one_backward(block, query, key, value, normaliser, gradient, drift):
    """With P the weights, G the gradient and D = Σ G · attended of each query:

    dV = Pᵀ G,   dS = P (G Vᵀ − D),   dQ = dS K / √d,   dK = dSᵀ Q / √d.

    In blocks of keys, P and S transposed: then only dQᵀ has to be added up over them.
    """
    scale = query.shape[-1] ** -0.5
    query = query * scale

    def add_block(query_gradient: Array, block: tuple[Array, Array]):
        keys, values = block
        weights = jnp.exp(dense.contract(keys, query, 1, 1) - normaliser)
        value_gradient = dense.contract(weights.astype(gradient.dtype), gradient, 1, 0)
        score_gradient = weights * (dense.contract(values, gradient, 1, 1) - drift)
        score_gradient = score_gradient.astype(gradient.dtype)
        query_gradient += dense.contract(keys.T, score_gradient, 1, 0)
        key_gradient = dense.contract(score_gradient, query, 1, 0)
        return query_gradient, (
            key_gradient.astype(key.dtype),
            value_gradient.astype(value.dtype),
        )

    blocks = tuple(x.reshape(-1, block, x.shape[-1]) for x in (key, value))
    start = jnp.zeros(query.shape[::-1], dense.wide(query))
    query_gradient, (key_gradient, value_gradient) = lax.scan(add_block, start, blocks)
    return (
        (query_gradient.T * scale).astype(key.dtype),
        key_gradient.reshape(key.shape),
        value_gradient.reshape(value.shape),
    )


_attend.defvjp(_attend_forward, _attend_backward)


def _over_heads(in_blocks: bool, function, *arrays: Array):
    """Apply to each head of each batch element: in turn if in blocks, else all at once.

    The function gets the number of tokens in a block, which divides their number.
    """
    batch, heads, tokens = arrays[0].shape[:3]
    merged = [a.reshape(batch * heads, *a.shape[2:]) for a in arrays]
    if in_blocks:
        block = max(n for n in range(1, BLOCK + 1) if tokens % n == 0)
        results = lax.map(lambda head: function(block, *head), merged)
    else:
        results = jax.vmap(functools.partial(function, tokens))(*merged)
    return jax.tree.map(lambda r: r.reshape(batch, heads, *r.shape[1:]), results)


class Attention(nn.Module):
    """Self-attention without a norm; queries, keys and values have no bias."""

    heads: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "batch x y z channels"],
        dropout_keys: Shaped[Array, " batch"] | None,
    ) -> Float[Array, "batch x y z channels"]:
        """[batch, x, y, z, channels] → the same shape."""
        batch, *_, channels = features.shape
        tokens = features.reshape(batch, -1, channels)

        def project(name: str) -> Array:
            layer = dense.Dense(channels, self.dtype, use_bias=False, name=name)
            split = layer(tokens).reshape(batch, -1, self.heads, channels // self.heads)
            return split.transpose(0, 2, 1, 3).astype(self.dtype)

        attended = attend(project("query"), project("key"), project("value"))
        joined = attended.transpose(0, 2, 1, 3).reshape(features.shape)
        # So that the gradient arrives in the dtype of the factors, too.
        joined = joined.astype(features.dtype)
        projected = dense.Dense(channels, self.dtype, name="projection")(joined)
        return dropout.Dropout(self.dropout, name="dropout")(projected, dropout_keys)
