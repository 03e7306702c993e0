"""Pairs of synthetic scans, made on the device within the training step.

Each row of a batch, or each group of rows, comes with some of them: two scans of any
kind, of one head or of two, out of the label maps that the devices hold. The network
sees the scans; the loss compares the brains in one contrast, so that it learns to align
the brain within the head.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
from jax import Array

from mdvit_jax import errors, geometry
from mdvit_jax.data import head_file, label_maps, scan_draw, scan_settings, synthesis
from mdvit_jax.training.examples import Examples


class Recipe(NamedTuple):
    """The settings in `config.synthesis`; static.

    Attributes:
        scanner: the settings of the scanner in software.
        pairs: how many beside each group of rows; each is learned in both directions.
        every: rows in a group.
        same_head: probability of two scans of one label map.
        same_person: of those, probability of one person; else each scan has a
            deformation of its own.
        degrees: of rotation about each axis; a scan is uniform in ± one of them.
        slack: mm, how far the affine between two label maps' landmarks may be off.
    """

    scanner: scan_settings.Settings
    pairs: int
    every: int
    same_head: float
    same_person: float
    degrees: tuple[float, ...]
    slack: float


def recipe(config: ml_collections.ConfigDict) -> Recipe:
    """The recipe of a whole configuration; its scans fill the network's grid.

    Raises:
        UserError: `synthesis.pairs` is no whole number and no fraction 1/n.
    """
    own, size = config.synthesis, config.data.size
    scanner = scan_settings.Settings(
        shape=(size,) * 3,
        voxel=(config.data.field_of_view / size,) * 3,
        oversample=(own.oversample,) * 3,
        rotation=1.0,  # drawn in units of `degrees`
        turn=own.turn,
        translation=own.translation,
        scale=own.scale,
    )
    every = max(1, round(1 / own.pairs)) if own.pairs else 1
    pairs = round(own.pairs * every)
    if abs(pairs - own.pairs * every) > 0.02 * pairs:
        raise errors.UserError(
            f"synthesis.pairs is {own.pairs}; choose a whole number or one divided by "
            "a whole number, such as 2, 1, 0.5 or 0.25."
        )
    return Recipe(
        scanner,
        pairs,
        every,
        own.same_head,
        own.same_person,
        tuple(own.degrees),
        own.slack,
    )


def read_heads(config: ml_collections.ConfigDict, part: str) -> label_maps.Head:
    """The label maps of "train" or of "validation", in one batch of heads.

    The last `synthesis.held_out` of them, by name, are those for validation.

    Raises:
        UserError: there are none.
    """
    own = config.synthesis
    if own.heads == "mni152":
        head = label_maps.mni152_head(voxel=own.voxel)
        return label_maps.Head(*(field[None] for field in head))
    path = Path(own.heads).expanduser()
    return head_file.read_part(path, part, held_out=own.held_out, voxel=own.voxel)


def make(key: Array, heads: label_maps.Head, recipe: Recipe) -> Examples:
    """The pairs of one group of rows, both ways: [2 · pairs, …]."""
    keys = jax.random.split(key, recipe.pairs)
    made = jax.vmap(lambda key: _one_pair(key, heads, recipe))(keys)
    swapped = made._replace(
        fixed=made.moving,
        moving=made.fixed,
        fixed_target=made.moving_target,
        moving_target=made.fixed_target,
        truth=geometry.invert(made.truth),
    )
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), made, swapped)


def _one_pair(key: Array, heads: label_maps.Head, recipe: Recipe) -> Examples:
    kind, head_key, person_key, scan_key = jax.random.split(key, 4)
    same_head, same_person = jax.random.bernoulli(
        kind, jnp.array([recipe.same_head, recipe.same_person])
    )
    indices = jax.random.randint(head_key, (2,), 0, len(heads.labels))
    indices = jnp.where(same_head, indices[0], indices)
    same_head = indices[0] == indices[1]
    one, other = (
        scan_draw.draw_person(k, recipe.scanner) for k in jax.random.split(person_key)
    )
    other = jax.tree.map(
        lambda a, b: jnp.where(same_head & same_person, a, b), one, other
    )
    # Of one head the affine is known whatever the deformations, which have no affine
    # part, but not of a head and its mirror image.
    mirror = jnp.where(same_head, one.mirror, other.mirror)
    people = one, other._replace(mirror=mirror)
    scans = [
        _scan(k, jax.tree.map(lambda part, i=i: jnp.asarray(part)[i], heads), p, recipe)
        for k, i, p in zip(jax.random.split(scan_key), indices, people, strict=True)
    ]
    fixed, moving = scans
    exact = geometry.compose(moving.head_to_image, geometry.invert(fixed.head_to_image))
    landmark_truth = synthesis.landmark_affine(fixed, moving)
    return Examples(
        fixed.image,
        moving.image,
        fixed.brain,
        moving.brain,
        truth=jnp.where(same_head, exact, landmark_truth),
        known=jnp.ones(()),
        slack=jnp.where(same_head, 0.0, recipe.slack),
    )


def _scan(key: Array, head: label_maps.Head, person, recipe: Recipe) -> synthesis.Scan:
    draw_key, degrees_key = jax.random.split(key)
    draw = scan_draw.draw_scan(draw_key, recipe.scanner)
    degrees = jax.random.choice(degrees_key, jnp.asarray(recipe.degrees))
    draw = draw._replace(rotation=draw.rotation * degrees)
    return synthesis.form_scan(head, person, draw, recipe.scanner)
