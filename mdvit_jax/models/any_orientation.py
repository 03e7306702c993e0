"""A network's estimate for two images in any orientation, the same both ways.

A network learns orientations up to some 60° apart, so it is asked for each of the 24
turns of either image against the other as it is. The answers of its first two stages
(KeyMorph has one) say, at half as many voxels along each axis, which turns come into
question; of its full answers to these the one counts at which the images share most
information, whatever their contrasts. From there it is asked once more, in both
directions and of the mirror images; the mean of these four answers counts if the images
share more there.

KeyMorph is asked about the images as they are first. Where its affine lays their
keypoints on each other, as far as the spread of these says, the turns, which take most
of the time, are left out: in a batch only if it holds for all pairs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import FrozenConfigDict

from mdvit_jax import geometry
from mdvit_jax.geometry import turns
from mdvit_jax.models import keymorph
from mdvit_jax.models import network as networks

# `keymorph.misfit` below which both directions must lie. Of two people as they are it
# is at most 0.13, turned by up to 20° about each axis 0.13 to 0.24; where a brain or
# head that is turned is taken for an upright one, at least 0.31, and of slabs 0.25, but
# 0.19 of two voxels and their own copy.
_RECOGNISED = 0.16
_IN_QUESTION = 8  # turns; with all 24 benchmarks/network.py printed the same
_ROUGH_STAGES = 2  # of the network, which say so
_BINS = 24
_BACKGROUND = 0.02  # of the brightest, at and below which nothing is seen
_MARGIN = 0.03  # of information, by which a turned image must fit better
_TIE = 1e-6  # of information
_MIRROR = np.diag(np.array([-1, 1, 1, 1], np.float32))


def estimate(
    network: networks.Network, params: networks.Params, fixed: Array, moving: Array
) -> Array:
    """Estimate `fixed_to_moving` of each pair.

    Args:
        network: made by `networks.create`.
        params: its parameters.
        fixed, moving: [batch, n, n, n], intensities in [0, 1], background 0. For small
            grids as of `models.pretrained`: it takes 200 bytes a voxel of the batch.

    Returns:
        [batch, 4, 4], normalised coordinates; the inverse if the two are exchanged, so
        the identity for two that are equal.
    """

    def ask(one: Array, other: Array, start: Array, *, stages=None, passes=None):
        estimate = network.apply(params, one, other, initial=start, passes=passes)
        return estimate.stages[:stages][-1].matrix

    asked = jnp.concatenate([fixed, moving]), jnp.concatenate([moving, fixed])

    # One pass tells orientations apart; the last answer takes as many as in training.
    def both_ways(starts: Array, stages: int | None = None) -> Array:
        """[2, n, batch] answers of the first stages, or all, to [n, batch] starts."""
        in_a_row = jnp.concatenate([starts, geometry.invert(starts)], axis=1)
        answers = jax.lax.map(
            lambda s: ask(*asked, s, stages=stages, passes=1), in_a_row
        )
        forth, back = jnp.split(answers, 2, axis=1)
        return jnp.stack([forth, geometry.invert(back)])

    def of_all_turns(rough: Array, answers_to) -> tuple[Array, Array]:
        """The best of the answers to the turns that rough answers bring into question.

        Args:
            rough: [2, 24, batch, 4, 4].
            answers_to: turns in question [n, batch] → answers [2, n, batch, 4, 4].
        """
        halves = geometry.halve(fixed), geometry.halve(moving)
        scores = _scores(*halves, rough).max(axis=0)  # [24, batch]
        scores += _MARGIN * (jnp.arange(len(scores)) == 0)[:, None]  # as they are
        _, turn = jax.lax.top_k(scores.T, _IN_QUESTION)
        turn = turn.T  # [turns in question, batch]
        answers = answers_to(turn)
        return _best(answers, _scores(fixed, moving, answers) + _MARGIN * (turn == 0))

    starts, pair = _starts(fixed, moving), jnp.arange(len(fixed))
    if isinstance(network.module, keymorph.KeyMorph):
        by_keypoints = functools.partial(
            _answer_by_keypoints, network.module.config, params, fixed, moving
        )
        as_they_are, misfits = by_keypoints(starts[:1])
        scores = _scores(fixed, moving, as_they_are)  # 0 where a matrix mirrors
        recognised = _recognise(misfits, scores)
        upright = _best(as_they_are, scores)

        def of_turned_images() -> tuple[Array, Array]:
            turned, _ = by_keypoints(starts[1:])
            answers = jnp.concatenate([as_they_are, turned], axis=1)
            return of_all_turns(answers, lambda turn: answers[:, turn, pair])

        turned = jax.lax.cond(recognised.all(), lambda: upright, of_turned_images)
        first = jnp.where(recognised[:, None, None], upright[0], turned[0])
        fixed_stays = jnp.where(recognised, upright[1], turned[1])
    else:
        rough = both_ways(starts, _ROUGH_STAGES)
        first, fixed_stays = of_all_turns(
            rough, lambda turn: both_ways(starts[turn, pair])
        )
    start = jnp.where(fixed_stays[:, None, None], first, geometry.invert(first))
    mean = _mean_answer(ask, *_in_order(fixed_stays, fixed, moving), start)
    second = jnp.where(fixed_stays[:, None, None], mean, geometry.invert(mean))
    better = _information(fixed, moving, second) > _information(fixed, moving, first)
    better &= jnp.isfinite(second).all(axis=(1, 2))
    return jnp.where(better[:, None, None], second, first)


def _recognise(misfits: Array, scores: Array) -> Array:
    """[batch], whether all answers [2, n, batch] are taken as they are."""
    return ((misfits < _RECOGNISED) & (scores > 0)).all(axis=(0, 1))


def _starts(fixed: Array, moving: Array) -> Array:
    """The centres of mass on each other, the moving image turned, [24, batch, 4, 4]."""
    to_fixed, to_moving = (
        geometry.translation_matrix(geometry.centre_of_mass(v)) for v in (fixed, moving)
    )
    turned = geometry.homogeneous(jnp.asarray(turns.TURNS), jnp.zeros((24, 3)))
    return geometry.compose(to_moving, turned[:, None], geometry.invert(to_fixed))


def _best(answers: Array, scores: Array) -> tuple[Array, Array]:
    """The best of answers [2, n, batch, 4, 4], the second half of them the other way.

    Returns:
        [batch, 4, 4], and [batch] whether it is one of the first half, in which the
        fixed image was not turned: it stands upright, as both do in training.
    """
    pair, turns_asked = jnp.arange(answers.shape[2]), answers.shape[1]
    answers, scores = (v.reshape(-1, *v.shape[2:]) for v in (answers, scores))
    best = scores.argmax(axis=0)
    first = answers[best, pair]
    # Of two equal images both directions score alike: neither must count more.
    other = (best + turns_asked) % len(answers)
    tied = scores[best, pair] - scores[other, pair] < _TIE
    mean = _mean(jnp.stack([first, answers[other, pair]]))
    return jnp.where(tied[:, None, None], mean, first), best < turns_asked


def _answer_by_keypoints(
    config: FrozenConfigDict, params, fixed: Array, moving: Array, starts: Array
) -> tuple[Array, Array]:
    """The answers of KeyMorph to starts [n, batch, 4, 4], both ways.

    Returns:
        [2, n, batch, 4, 4], and their `keymorph.misfit`, [2, n, batch].

    It looks at each image alone, so once at each turn of each: not anew at the one for
    every turn of the other.
    """
    detect = functools.partial(keymorph.detect, config, params)

    def answers(one: Array, other: Array, starts: Array) -> tuple[Array, Array]:
        points, strengths = detect(one)

        def answer(start: Array) -> tuple[Array, Array]:
            turned, own_strengths = detect(geometry.warp_affine(other, start))
            weights = strengths * own_strengths
            matrix = keymorph.fit_affine(points, turned, weights)
            misfit = keymorph.misfit(points, turned, weights, matrix)
            return geometry.compose(start, matrix), misfit

        return jax.lax.map(answer, starts, batch_size=8)  # one at a time idles

    forth, forth_misfit = answers(fixed, moving, starts)
    back, back_misfit = answers(moving, fixed, geometry.invert(starts))
    both = jnp.stack([forth, geometry.invert(back)])
    return both, jnp.stack([forth_misfit, back_misfit])


def _scores(fixed: Array, moving: Array, matrices: Array) -> Array:
    """What the images share at each of the matrices [2, n, batch, 4, 4]."""
    shape = matrices.shape[:3]
    in_a_row = matrices.reshape(-1, *matrices.shape[2:])
    scores = jax.lax.map(lambda matrix: _information(fixed, moving, matrix), in_a_row)
    return scores.reshape(shape)


def _in_order(kept: Array, one: Array, other: Array) -> tuple[Array, Array]:
    """The two volumes of each pair, exchanged where it is not kept."""
    kept = kept[:, None, None, None]
    return jnp.where(kept, one, other), jnp.where(kept, other, one)


def _mean_answer(ask, fixed: Array, moving: Array, start: Array) -> Array:
    """The mean of the answers for both directions, each with that for mirror images."""
    warped = geometry.warp_affine(moving, start)
    identity = jnp.broadcast_to(jnp.eye(4), start.shape)
    pairs = [
        (fixed, moving, start),
        (fixed[:, ::-1], moving[:, ::-1], _mirrored(start)),
        (warped, fixed, identity),
        (warped[:, ::-1], fixed[:, ::-1], identity),
    ]
    answers = ask(*map(jnp.concatenate, zip(*pairs, strict=True)))
    forth, forth_mirrored, back, back_mirrored = jnp.split(answers, len(pairs))
    back = jnp.stack([back, _mirrored(back_mirrored)])
    back = geometry.compose(start, geometry.invert(back))
    return _mean(jnp.stack([forth, _mirrored(forth_mirrored), *back]))


def _mirrored(matrix: Array) -> Array:
    return geometry.compose(_MIRROR, matrix, _MIRROR)


def _mean(matrices: Array) -> Array:
    """Of [n, batch, 4, 4]; it shrinks nothing, as a plain mean of rotations does.

    Arithmetic and harmonic mean of the two means, again and again, until they agree: so
    the mean of inverses is the inverse of the mean.
    """
    above = matrices.mean(axis=0)
    below = geometry.invert(geometry.invert(matrices).mean(axis=0))
    for _ in range(4):
        inverses = geometry.invert(above) + geometry.invert(below)
        above, below = (above + below) / 2, geometry.invert(inverses / 2)
    return above


def _information(fixed: Array, moving: Array, matrix: Array) -> Array:
    """Normalised mutual information [batch], on the grid of each (Studholme 1999).

    Nothing where the matrix mirrors, as a solution from keypoints may: brains are so
    symmetric that it would fit.
    """
    there = geometry.warp_affine(moving, matrix)
    back = geometry.warp_affine(fixed, geometry.invert(matrix))
    information = jax.vmap(_normalised_information)
    mirrors = jnp.linalg.det(matrix[..., :3, :3]) <= 0
    both = information(fixed, there) + information(moving, back)
    return jnp.where(mirrors, 0, both)


def _normalised_information(one: Array, other: Array) -> Array:
    seen = ((one > _BACKGROUND) | (other > _BACKGROUND)).ravel().astype(jnp.float32)
    of_one, of_other = _in_bins(one), _in_bins(other)
    joint = jnp.matmul((of_one * seen[:, None]).T, of_other, precision="highest")
    joint /= jnp.maximum(joint.sum(), 1)
    apart = _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))
    together = _entropy(joint.ravel())
    return jnp.where(together > 1e-6, apart / together, 1.0)  # 1: nothing is shared


def _in_bins(volume: Array) -> Array:
    """The share of each voxel in each bin, [voxels, bins], linear between two."""
    position = jnp.clip(volume.ravel(), 0, 1) * (_BINS - 1)
    return jnp.maximum(0, 1 - jnp.abs(position[:, None] - jnp.arange(_BINS)))


def _entropy(shares: Array) -> Array:
    return -(shares * jnp.log(shares + 1e-9)).sum()
