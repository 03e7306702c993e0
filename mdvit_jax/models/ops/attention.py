"""Multi-head self-attention over all positions of a feature volume.

softmax(Q Kᵀ / √d) V, computed block by block: the scores of a block of queries stay
in the processor's cache and are never kept; the backward pass computes them again.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from mdvit_jax.models.ops import dense, dropout

# How many queries (backward: keys) are worked on at a time on a CPU. With 4,096 tokens
# and 2 heads of 128 on two cores: forward 0.12 s, whole 0.24 s; forward and gradient
# 0.49 s, by automatic differentiation of the whole 0.72 s. Blocks of 128 to 512 differ
# by a tenth. Accelerators take all tokens and all heads at once.
CPU_BLOCK = 256


@jax.custom_vjp
def attend(query: Array, key: Array, value: Array) -> Array:
    """softmax(Q Kᵀ / √d) V, [batch, heads, tokens, d] each.

    Scores, softmax and sums are float32 whatever the dtype.
    """
    return _attend_forward(query, key, value)[0]


def _attend_forward(query: Array, key: Array, value: Array):
    attended, normaliser = _over_heads(_attend_one, query, key, value)
    return attended, (query, key, value, attended, normaliser)


def _attend_one(query: Array, key: Array, value: Array) -> tuple[Array, Array]:
    """One head, [tokens, d] each → the result and log Σ exp(scores) of each query."""
    scale = query.shape[-1] ** -0.5

    def attend_block(queries: Array) -> tuple[Array, Array]:
        scores = dense.contract(queries * scale, key, 1, 1)
        largest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - largest)
        total = weights.sum(-1, keepdims=True)
        attended = dense.contract(weights.astype(value.dtype), value, 1, 0) / total
        return attended.astype(value.dtype), (largest + jnp.log(total))[:, 0]

    return _over_blocks(attend_block, query)


def _attend_backward(residuals, gradient: Array):
    query, key, value, attended, normaliser = residuals
    drift = (gradient * attended).sum(-1, dtype=dense.wide(gradient))
    return _over_heads(
        _attend_one_backward, query, key, value, normaliser, gradient, drift
    )


def _attend_one_backward(query, key, value, normaliser, gradient, drift):
    """With P the weights, G the gradient and D = Σ G · attended of each query:

    dV = Pᵀ G,   dS = P (G Vᵀ − D),   dQ = dS K / √d,   dK = dSᵀ Q / √d.

    In blocks of keys, P and S transposed: then only dQᵀ has to be added up over them.
    """
    scale = query.shape[-1] ** -0.5
    query = query * scale

    def of_block(of_query: Array, block: tuple[Array, Array]):
        keys, values = block
        weights = jnp.exp(dense.contract(keys, query, 1, 1) - normaliser)
        of_values = dense.contract(weights.astype(gradient.dtype), gradient, 1, 0)
        of_scores = weights * (dense.contract(values, gradient, 1, 1) - drift)
        of_scores = of_scores.astype(gradient.dtype)
        of_query += dense.contract(keys.T, of_scores, 1, 0)
        of_keys = dense.contract(of_scores, query, 1, 0)
        return of_query, (of_keys.astype(key.dtype), of_values.astype(value.dtype))

    tokens = len(key)
    blocks = tuple(x.reshape(-1, _block(tokens), x.shape[-1]) for x in (key, value))
    start = jnp.zeros(query.shape[::-1], dense.wide(query))
    of_query, (of_key, of_value) = lax.scan(of_block, start, blocks)
    return (
        (of_query.T * scale).astype(key.dtype),
        of_key.reshape(key.shape),
        of_value.reshape(value.shape),
    )


attend.defvjp(_attend_forward, _attend_backward)


def _block(tokens: int) -> int:
    """The largest part of the tokens, up to a block, that divides them evenly."""
    if jax.default_backend() != "cpu":
        return tokens
    return max(n for n in range(1, CPU_BLOCK + 1) if tokens % n == 0)


def _over_blocks(function, rows: Array):
    blocks = rows.reshape(-1, _block(len(rows)), *rows.shape[1:])
    return jax.tree.map(
        lambda out: out.reshape(len(rows), *out.shape[2:]), lax.map(function, blocks)
    )


def _over_heads(function, *arrays: Array):
    """Apply to each head of each batch element: in turn on a CPU, else all at once."""
    batch, heads = arrays[0].shape[:2]
    merged = [a.reshape(batch * heads, *a.shape[2:]) for a in arrays]
    if jax.default_backend() == "cpu":
        results = lax.map(lambda of_head: function(*of_head), merged)
    else:
        results = jax.vmap(function)(*merged)
    return jax.tree.map(lambda r: r.reshape(batch, heads, *r.shape[1:]), results)


class Attention(nn.Module):
    """Self-attention without a norm; queries, keys and values have no bias."""

    heads: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, features: Array, dropout_keys: Array | None) -> Array:
        """[batch, x, y, z, channels] → the same shape."""
        batch, *_, channels = features.shape
        tokens = features.reshape(batch, -1, channels)

        def of_heads(name: str) -> Array:
            layer = dense.Dense(channels, self.dtype, use_bias=False, name=name)
            split = layer(tokens).reshape(batch, -1, self.heads, channels // self.heads)
            return split.transpose(0, 2, 1, 3).astype(self.dtype)

        attended = attend(of_heads("query"), of_heads("key"), of_heads("value"))
        joined = attended.transpose(0, 2, 1, 3).reshape(features.shape)
        # So that what comes back is in the dtype of the factors, too.
        joined = joined.astype(features.dtype)
        projected = dense.Dense(channels, self.dtype, name="projection")(joined)
        return dropout.Dropout(self.dropout, name="dropout")(projected, dropout_keys)
