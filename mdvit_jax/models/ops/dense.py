"""The matrix products of the network, in float32 or with factors in bfloat16.

Everything between products is float32 in both: only their factors are rounded, and
sums are float32. A CPU with bfloat16 instructions does such a product ten times as
fast as one in float32; anything else in bfloat16 is slower on it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from mdvit_jax.geometry import forms

if TYPE_CHECKING:
    from jaxtyping import Float


class Dense(nn.Module):
    """A linear map of the channels, as Flax's, whose factors have a dtype."""

    features: int
    dtype: jnp.dtype
    use_bias: bool = True

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "*batch inputs"]
    ) -> Float[Array, "*batch outputs"]:
        """[…, channels] → float32 […, features]."""
        channels = inputs.shape[-1]
        shape = (channels, self.features)
        kernel = self.param("kernel", nn.initializers.zeros, shape)
        mapped = product(self.dtype, inputs.reshape(-1, channels), kernel)
        if self.use_bias:
            mapped += self.param("bias", nn.initializers.zeros, (self.features,))
        return mapped.reshape(*inputs.shape[:-1], self.features)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def product(
    dtype: jnp.dtype, rows: Float[Array, "n k"], matrix: Float[Array, "k m"]
) -> Float[Array, "n m"]:
    """rows [n, k] · matrix [k, m] in float32 from factors of a dtype; so the gradients.

    Automatic differentiation would multiply the gradient, float32, in float32.
    """
    return contract(rows.astype(dtype), matrix.astype(dtype), 1, 0)


def _forward(dtype, rows: Array, matrix: Array):
    rows, matrix = rows.astype(dtype), matrix.astype(dtype)
    return contract(rows, matrix, 1, 0), (rows, matrix)


def _backward(dtype, residuals, gradient: Array):
    rows, matrix = residuals
    gradient = gradient.astype(dtype)
    return contract(gradient, matrix, 1, 1), contract(rows, gradient, 0, 0)


product.defvjp(_forward, _backward)


def contract(
    a: Float[Array, "a0 a1"], b: Float[Array, "b0 b1"], axis_a: int, axis_b: int
) -> Float[Array, "n m"]:
    """Σ over one axis each of two matrices, in float32 at least.

    Named by its axes and not written with transposes: what XLA makes of those on a CPU
    is ten times as slow in bfloat16.
    """
    dimensions = (((axis_a,), (axis_b,)), ((), ()))
    return lax.dot_general(a, b, dimensions, preferred_element_type=wide(a))


def compute_dtype(setting: str) -> str:
    """ "float32" or "bfloat16" of `model.compute_dtype`; "auto" is the platform's."""
    if setting != "auto":
        return setting
    return "bfloat16" if forms.multiplies_bfloat16() else "float32"


def wide(array: Array) -> jnp.dtype:
    """The dtype of sums over an array of any shape: float32 at least."""
    return jnp.promote_types(array.dtype, jnp.float32)
