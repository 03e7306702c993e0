"""The training objective: a loss summed over coarser and coarser copies (Eq. 3)."""

from collections.abc import Callable, Sequence

from jax import Array

from mdvit_jax.geometry import pyramid

Loss = Callable[[Array, Array], Array]


def similarity_pyramid(
    loss: Loss | Sequence[Loss],
    fixed: Array,
    warped: Array,
    *,
    levels: int = 3,
    pool: int = 5,
) -> Array:
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
    total = losses[0](fixed, warped)
    for level, of_level in enumerate(losses[1:], start=1):
        fixed, warped = (pyramid.pool(v, kernel=pool) for v in (fixed, warped))
        total += of_level(fixed, warped) / 2**level
    return total
