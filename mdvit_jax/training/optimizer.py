"""The optimiser that a configuration describes, and which parameters it trains."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from mdvit_jax import errors


def learning_rate(optim: ml_collections.ConfigDict) -> optax.Schedule:
    """Number of updates that were made → learning rate of the next.

    A staircase, or a cosine that ends at 0 with the run: over all of it, or after a
    constant rate over its last `optim.cooldown` steps. Before either, over
    `optim.warmup` steps, a straight rise from 0.

    Args:
        optim: `config.optim`.

    Raises:
        UserError: an unknown schedule, or one that does not fit into the run.
    """
    if optim.schedule == "staircase":
        schedule = optax.exponential_decay(
            optim.lr, optim.decay_every, optim.decay_factor, staircase=True
        )
    elif optim.schedule == "cosine":
        after = optim.steps - optim.warmup
        falling = optim.cooldown or after
        if not 0 < falling <= after:
            raise errors.UserError(
                f"optim.warmup {optim.warmup} and optim.cooldown {optim.cooldown} do "
                f"not fit into {optim.steps} optim.steps; shorten them."
            )
        fall = optax.cosine_decay_schedule(optim.lr, falling)
        level = optax.constant_schedule(optim.lr)
        schedule = optax.join_schedules([level, fall], [after - falling])
    else:
        raise errors.UserError(
            f'optim.schedule is "{optim.schedule}"; choose "staircase" or "cosine".'
        )
    if not optim.warmup:
        return schedule
    # The first step is made with a part of the rate, not with 0.
    rise = optax.linear_schedule(
        optim.lr / optim.warmup, optim.lr, max(optim.warmup - 1, 1)
    )
    return optax.join_schedules([rise, schedule], [optim.warmup])


def create(
    optim: ml_collections.ConfigDict, params: Any
) -> optax.GradientTransformation:
    """Adam with AMSGrad as the authors use it.

    In this order: the gradient is clipped by its norm, then by value, L2 weight decay
    is added to it (coupled, as in PyTorch's Adam), AMSGrad scales it, `learning_rate`
    is applied.
    As in PyTorch, the bias of the second moment is corrected after its maximum is taken
    (Optax by itself does so before: the first, noisy gradients would slow all steps).
    Frozen parameters get no update, and no state is kept for them.

    Args:
        optim: `config.optim`.
        params: the parameters, or their shapes.

    Raises:
        UserError: a pattern of `optim.trained` that fits no parameter.
    """
    first, second = optim.betas
    amsgrad = optax.scale_by_amsgrad(
        first, second, eps=optim.epsilon, bias_correction_nu=False
    )
    correction = optax.scale_by_schedule(lambda t: jnp.sqrt(1 - second ** (t + 1.0)))
    by_norm = [optax.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm else []
    chain = optax.chain(
        *by_norm,
        optax.clip(optim.clip),
        optax.add_decayed_weights(optim.weight_decay),
        amsgrad,
        correction,
        optax.scale_by_learning_rate(learning_rate(optim)),
    )
    if not optim.trained:
        return chain
    trained = trained_mask(params, optim.trained)
    frozen = jax.tree.map(lambda is_trained: not is_trained, trained)
    return optax.selective_transform(chain, freeze_mask=frozen)


def trained_mask(params: Any, patterns: Sequence[str]) -> Any:
    """The tree of parameters with True where a pattern matches in its path.

    Args:
        params: nested dict of arrays or of their shapes.
        patterns: regular expressions, searched in paths such as
            "stage_1/msda/compress/kernel".

    Raises:
        UserError: a pattern that fits no parameter.
    """
    paths = jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params
    )
    names = jax.tree.leaves(paths)
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            groups = ", ".join(dict.fromkeys("/".join(n.split("/")[:2]) for n in names))
            raise errors.UserError(
                f'optim.trained has the pattern "{pattern}", which fits none of the '
                f"network's parameters; they begin with {groups}."
            )
    return jax.tree.map(
        lambda name: any(re.search(pattern, name) for pattern in patterns), paths
    )
