"""The training objective: a loss summed over coarser and coarser copies (Eq. 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax.geometry import pyramid

if TYPE_CHECKING:
    from jaxtyping import Float, Num

Loss = Callable[[Array, Array], Array]


def similarity_pyramid(
    loss: Loss | Sequence[Loss],
    fixed: Num[Array | np.ndarray, "*batch x y z"],
    warped: Num[Array | np.ndarray, "*batch x y z"],
    *,
    levels: int = 3,
    pool: int = 5,
) -> Float[Array, "*batch"]:
    """Σ over levels of loss(F_i, M_i) / 2^(L−i): 1 at full size, then ½, ¼, … (Eq. 3).

    Args:
        loss: (fixed, warped) → [*batch]; or one such function for each level, full
            size first.
        fixed, warped: [*batch, x, y, z].
        levels: L, how many sizes, each half of the one before.
        pool: width of the average pooling between levels (the authors: 5 for NTG, 3
            for NCC).

    Returns:
        [*batch].

    Raises:
        ValueError: no level, or another number of losses than levels; and what the
            loss raises, for shapes that differ for instance.
    """
    if levels < 1:
        raise ValueError(f"a pyramid has one level at least, not {levels}")
    losses = [loss] * levels if callable(loss) else list(loss)
    if len(losses) != levels:
        raise ValueError(f"{levels} levels need {levels} losses, not {len(losses)}")
    fixed, warped = jnp.asarray(fixed), jnp.asarray(warped)
    total = losses[0](fixed, warped)
    for level, level_loss in enumerate(losses[1:], start=1):
        fixed, warped = (pyramid.pool(v, kernel=pool) for v in (fixed, warped))
        total += level_loss(fixed, warped) / 2**level
    return total
