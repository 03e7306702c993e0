"""The examples of a training step: images for the network, and targets for the loss.

In the paper a network sees pairs of people, both moved alike, and the loss compares
the same images. Once the centres of mass are laid on each other such pairs are
a few millimetres from aligned, so that there is next to nothing to learn from. Here
each scan may be moved by a known affine of its own; the network may see it in other
intensities than the loss does; and a scan may be paired with itself, so that the affine
between the two is known.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy import ndimage

from mdvit_jax import geometry
from mdvit_jax.training import augment, deformation, random_affine, recolour


class Examples(NamedTuple):
    """Pairs as a training step uses them; volumes are [batch, n, n, n] in [0, 1].

    Attributes:
        fixed, moving: what the network sees.
        fixed_target, moving_target: what the similarity compares, on the same grids.
        truth: [batch, 4, 4] normalised `fixed_to_moving`, where it is known.
        known: [batch], 1 where the truth is known, else 0.
        slack: [batch], mm by which the truth itself may be off.
    """

    fixed: Array
    moving: Array
    fixed_target: Array
    moving_target: Array
    truth: Array
    known: Array
    slack: Array


def make(
    keys: Array,
    fixed: Array,
    moving: Array,
    settings: augment.Augmentation,
    field_of_view: float,
    to_template: Array | None = None,
) -> Examples:
    """Examples from scans [batch, n, n, n].

    A scan is resampled once, through the product of all its transforms. The truth is
    known for one person (a deformation has no affine part), and for two people as far
    as `to_template` says where they lie.

    Args:
        keys: [batch, 2], of each pair.
        fixed, moving: in [0, 1].
        settings: of `augment.settings`.
        field_of_view: in mm along each axis.
        to_template: [batch, 2, 4, 4], where the fixed and the moving scan lie in a
            template whose mirror image it is itself about x = 0; normalised, NaN where
            it is not known. None: it is known of none.
    """
    ours = (settings.same, settings.mirror, settings.deform, settings.contrast)
    papers = not any(ours) and settings.affine.which == "none"
    if papers and to_template is None:
        fixed, moving = augment.augment(keys, fixed, moving, settings)
        identity = jnp.broadcast_to(jnp.eye(4), (len(fixed), 4, 4))
        no = jnp.zeros(len(fixed))
        return Examples(fixed, moving, fixed, moving, identity, no, no)

    if to_template is None:
        to_template = jnp.full((len(fixed), 2, 4, 4), jnp.nan)

    def one_pair(keys: Array, fixed: Array, moving: Array, places: Array) -> Examples:
        return _one_pair(keys, fixed, moving, places, settings, field_of_view)

    made = jax.vmap(one_pair)(keys, fixed, moving, to_template)
    if not settings.contrast:  # one array, so that it is not warped twice
        made = made._replace(fixed_target=made.fixed, moving_target=made.moving)
    return made


def _one_pair(keys, fixed, moving, places, settings, field_of_view) -> Examples:
    pair_key = jax.random.fold_in(keys[0], 1)  # `augment` draws from the key itself
    same_key, mirror_key, fixed_key, moving_key = jax.random.split(pair_key, 4)
    same = jax.random.bernoulli(same_key, settings.same)
    moving = jnp.where(same, fixed, moving)
    mirrored = jax.random.bernoulli(mirror_key, settings.mirror, (2,))
    mirrored = jnp.where(same, mirrored[0], mirrored)
    alike = augment.random_matrix(keys[0], settings)
    which = settings.affine.which

    exchanges = jax.vmap(_left_for_right)(mirrored)

    def move(key: Array, scan: Array, left_right: Array, has_affine: bool) -> Array:
        """Moved grid → grid of the conformed scan."""
        matrix = geometry.compose(left_right, alike)
        if not has_affine:
            return matrix
        centre = geometry.centre_of_mass(scan)
        centre = geometry.map_point(geometry.invert(matrix), centre)
        own = random_affine.draw(key, settings.affine, centre, field_of_view)
        return geometry.compose(matrix, own)

    affine_keys, colour_keys = (
        [jax.random.fold_in(key, i) for key in (fixed_key, moving_key)] for i in (0, 1)
    )
    to_fixed = move(affine_keys[0], fixed, exchanges[0], which == "both")
    to_moving = move(affine_keys[1], moving, exchanges[1], which != "none")
    fixed = geometry.warp_affine(fixed, to_fixed)
    if settings.deform:
        deviation = settings.deform / (field_of_view / 2)
        key = jax.random.fold_in(moving_key, 2)
        displacement = deformation.draw(key, moving.shape, deviation)
        moving = warp_deformed(moving, to_moving, displacement)
    else:
        moving = geometry.warp_affine(moving, to_moving)
    moving = augment.change_gamma(keys[1], moving, settings)
    seen_fixed, seen_moving = fixed, moving
    if settings.contrast:
        seen_fixed, seen_moving = (
            _recolour(key, image, settings.contrast)
            for key, image in zip(colour_keys, (fixed, moving), strict=True)
        )
    # A mirrored person lies in the template as the mirror image of it does.
    known = same | jnp.isfinite(places).all()
    places = jnp.where(same | ~known, jnp.eye(4), places)
    places = geometry.compose(exchanges, places, jnp.stack([to_fixed, to_moving]))
    truth = geometry.compose(geometry.invert(places[1]), places[0])
    known, slack = known.astype(jnp.float32), jnp.zeros(())
    return Examples(seen_fixed, seen_moving, fixed, moving, truth, known, slack)


def _left_for_right(mirrored: Array) -> Array:
    """4×4 that exchanges left and right, or the identity."""
    return jnp.diag(jnp.array([1.0, 1, 1, 1]).at[0].set(1 - 2 * mirrored))


def join(scans: Examples, synthetic: Examples) -> Examples:
    """The pairs of each group of rows and those beside it, group by group.

    Args:
        scans: [groups · rows, …].
        synthetic: [groups, n, …].

    Returns:
        [groups · (rows + n), …].
    """

    def rows(own: Array, others: Array) -> Array:
        own = own.reshape(len(others), -1, *own.shape[1:])
        joined = jnp.concatenate([own, others], axis=1)
        return joined.reshape(-1, *own.shape[2:])

    return jax.tree.map(rows, scans, synthetic)


def _recolour(key: Array, image: Array, probability: float) -> Array:
    whether, curve_key = jax.random.split(key)
    recoloured = recolour.apply_curve(recolour.draw_curve(curve_key), image)
    return jnp.where(jax.random.bernoulli(whether, probability), recoloured, image)


def warp_deformed(volume: Array, matrix: Array, displacement: Array) -> Array:
    """out(x) = volume(matrix · (x + displacement(x))), linear, 0 outside.

    Args:
        volume: [x, y, z].
        matrix: 4×4, normalised.
        displacement: [3, x, y, z], normalised.
    """
    axes = map(geometry.voxel_centres, volume.shape)
    points = jnp.stack(jnp.meshgrid(*axes, indexing="ij")) + displacement
    points = jnp.einsum("ab,bxyz->axyz", matrix[:3, :3], points, precision="highest")
    points += matrix[:3, 3, None, None, None]
    size = jnp.array(volume.shape)[:, None, None, None]
    indices = ((points + 1) * size - 1) / 2
    return ndimage.map_coordinates(volume, list(indices), order=1, mode="constant")
