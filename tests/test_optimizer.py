"""The optimiser against its formulas in NumPy, and freezing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdvit_jax import errors
from mdvit_jax.training import optimizer


def settings(**changes):
    from configs import default

    optim = default.get_config().optim
    optim.update(changes)
    return optim


def params():
    key = jax.random.split(jax.random.key(0), 3)
    return {
        "stage_1": {
            "msda": {"kernel": jax.random.normal(key[0], (3, 4))},
            "block_1": {"attention": {"query": jax.random.normal(key[1], (2, 5))}},
        },
        "head": {"kernel": jax.random.normal(key[2], (7,))},
    }


def run(optim, values, gradients):
    descent = optimizer.create(optim, values)
    state = descent.init(values)
    for gradient in gradients:
        updates, state = descent.update(gradient, state, values)
        values = optax.apply_updates(values, updates)
    return values, state


def gradients_like(values, count, scale):
    return [
        jax.tree.map(
            lambda v, k=k: scale * jax.random.normal(jax.random.key(k), v.shape), values
        )
        for k in range(count)
    ]


def test_five_steps_equal_the_formulas():
    optim = settings(lr=1e-2, decay_every=2, decay_factor=0.5, weight_decay=0.1)
    gradients = gradients_like(params(), 5, 8.0)  # some beyond the clipping at 10
    result, _ = run(optim, params(), gradients)
    leaves = jax.tree.leaves(params())
    rows = [jax.tree.leaves(g) for g in gradients]
    assert max(np.abs(g).max() for row in rows for g in row) > 10
    for i, leaf in enumerate(leaves):
        value = np.asarray(leaf, np.float64)
        m = v = v_max = 0.0
        for t, row in enumerate(rows, start=1):
            g = np.clip(np.asarray(row[i], np.float64), -10, 10) + 0.1 * value
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            v_max = np.maximum(v_max, v)
            rate = 1e-2 * 0.5 ** ((t - 1) // 2)
            root = np.sqrt(v_max) / np.sqrt(1 - 0.999**t) + 1e-8
            value = value - rate * m / (1 - 0.9**t) / root
        np.testing.assert_allclose(jax.tree.leaves(result)[i], value, rtol=2e-5)


def test_the_schedule_is_a_staircase():
    schedule = optimizer.learning_rate(
        settings(lr=1.0, decay_every=10, decay_factor=0.8)
    )
    assert float(schedule(0)) == float(schedule(9)) == 1.0
    assert float(schedule(10)) == pytest.approx(0.8)
    assert float(schedule(29)) == pytest.approx(0.64)


def test_frozen_parameters_keep_their_bits_and_have_no_state():
    optim = settings(trained=("msda", "head"), lr=1e-2, weight_decay=0.5)
    before = params()
    after, state = run(optim, before, gradients_like(before, 3, 1.0))
    frozen = before["stage_1"]["block_1"]["attention"]["query"]
    assert (
        np.asarray(after["stage_1"]["block_1"]["attention"]["query"]).tobytes()
        == np.asarray(frozen).tobytes()
    )
    for name in ("msda",):
        assert not jnp.array_equal(
            after["stage_1"][name]["kernel"], before["stage_1"][name]["kernel"]
        )
    assert not jnp.array_equal(after["head"]["kernel"], before["head"]["kernel"])
    shapes = {leaf.shape for leaf in jax.tree.leaves(state)}
    assert (2, 5) not in shapes and {(3, 4), (7,)} <= shapes


def test_a_pattern_that_fits_nothing_is_named():
    with pytest.raises(errors.UserError, match='"msdaa".*stage_1/msda'):
        optimizer.create(settings(trained=("head", "msdaa")), params())


def test_the_rate_rises_then_falls_by_a_cosine_at_the_end():
    optim = settings(
        lr=0.1, schedule="cosine", steps=100, warmup=10, cooldown=30, weight_decay=0.0
    )
    rate = optimizer.learning_rate(optim)
    rates = np.array([rate(step) for step in range(101)])
    np.testing.assert_allclose(rates[:10], 0.1 * np.arange(1, 11) / 10, rtol=1e-5)
    np.testing.assert_allclose(rates[10:71], 0.1, rtol=1e-6)
    falling = 0.05 * (1 + np.cos(np.pi * np.arange(31) / 30))
    np.testing.assert_allclose(rates[70:], falling, atol=1e-7)
    optim.cooldown = 0  # over all steps after the rise
    whole = optimizer.learning_rate(optim)
    assert float(whole(55)) == pytest.approx(0.05, rel=1e-4)
    for changes, message in (
        ({"cooldown": 95}, "optim.cooldown 95"),
        ({"schedule": "linear"}, 'optim.schedule is "linear"'),
    ):
        wrong = settings(schedule="cosine", steps=100, warmup=10)
        wrong.update(changes)
        with pytest.raises(errors.UserError, match=message):
            optimizer.learning_rate(wrong)


def test_the_gradient_is_clipped_by_its_norm_before_anything_else():
    optim = settings(lr=1e-2, clip_norm=0.5, weight_decay=0.0)
    values = params()
    (gradient,) = gradients_like(values, 1, 1.0)
    norm = float(optax.tree.norm(gradient))
    assert norm > 1
    scaled = jax.tree.map(lambda g: g * (0.5 / norm), gradient)
    clipped, state = run(optim, values, [gradient])
    plain, other = run(settings(lr=1e-2, weight_decay=0.0), values, [scaled])
    for one, two in zip(*map(jax.tree.leaves, (clipped, plain)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)
    # Adam's step does not depend on the gradient's size, but its moments do.
    largest = [max(np.abs(m).max() for m in jax.tree.leaves(s)) for s in (state, other)]
    assert largest[0] == pytest.approx(largest[1], rel=1e-4)
