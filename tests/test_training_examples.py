"""The examples of a training step: their truth, and each change alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from configs import default
from mdvit_jax import errors, geometry, losses, models
from mdvit_jax.training import (
    augment,
    deformation,
    examples,
    known_affines,
    random_affine,
    recolour,
    stage_loss,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

N = 24
FIELD = 256.0
NONE = augment.settings(default.get_config().augment)._replace(flip=0.0, rotate=0.0)
AFFINE = random_affine.RandomAffine("both", (30.0,), 1.2, 0.1, 15.0)

# Compiled whole: primitive by primitive takes ten times as long to compile.
make_examples = jax.jit(examples.make, static_argnums=(3, 4))
warp_affine = jax.jit(geometry.warp_affine)
mapped_distance = jax.jit(losses.mapped_distance)


@functools.partial(jax.jit, static_argnames="settings")
def draw_affines(keys, settings=AFFINE, centre=(0.0, 0.0, 0.0)):
    """A random affine of each key, [n, 4, 4]."""
    draw = lambda k: random_affine.draw(k, settings, jnp.asarray(centre), FIELD)  # noqa: E731
    return jax.vmap(draw)(keys)


def affines(count: int, seed: int) -> jax.Array:
    return draw_affines(jax.random.split(jax.random.key(seed), count))


def blobs(count: int, seed: int = 0) -> np.ndarray:
    """Smooth lopsided blobs in [0, 1], away from the border, [count, N, N, N]."""
    noise = np.random.default_rng(seed).random((count, N, N, N))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 2))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    x = np.linspace(-1, 1, N)
    ball = (x[:, None, None] - 0.1) ** 2 + (x[:, None] * 1.3) ** 2 + x**2 < 0.16
    return (smooth * ndimage.gaussian_filter(ball.astype(float), 1)).astype("f4")


def make(settings, fixed, moving, seed=0):
    keys = jax.random.split(jax.random.key(seed), (len(fixed), 2))
    return jax.device_get(make_examples(keys, fixed, moving, settings, FIELD))


def test_the_known_truth_takes_the_moving_scan_back_to_the_fixed_one():
    scans = blobs(6)
    settings = NONE._replace(same=1.0, affine=AFFINE, mirror=0.5)
    made = make(settings, scans, blobs(6, seed=1))
    assert (made.known == 1).all()
    back = warp_affine(made.moving_target, made.truth)
    apart = np.abs(np.asarray(back) - made.fixed_target).mean((1, 2, 3))
    before = np.abs(np.asarray(made.moving_target - made.fixed_target)).mean((1, 2, 3))
    assert (apart < 0.2 * before).all()


SMALL = AFFINE._replace(degrees=(10.0,), scale=1.05)


@pytest.mark.parametrize(
    "settings",
    [
        NONE._replace(affine=SMALL, mirror=0.5, same=0.3),
        NONE._replace(flip=0.5, rotate=0.5),
    ],
    ids=["ours", "the paper's"],
)
def test_two_people_are_known_by_where_they_lie_in_a_template(settings):
    """Also when one of them is mirrored, since the template is its mirror image."""
    template = blobs(1)[0]
    template = np.maximum(template, template[::-1])
    places = jnp.stack([affines(8, seed=1), affines(8, seed=2)], axis=1)
    fixed, moving = (
        warp_affine(np.tile(template, (8, 1, 1, 1)), places[:, i]) for i in (0, 1)
    )
    keys = jax.random.split(jax.random.key(0), (8, 2))
    alone = make(settings, fixed, moving)  # here one person alone is known
    made = jax.device_get(
        make_examples(keys, fixed, moving, settings, FIELD, places.at[7].set(jnp.nan))
    )
    assert (0 < alone.known[:7].sum() < 7) == alone.known.any() == bool(settings.same)
    assert made.known[7] == alone.known[7] and (made.known[:7] == 1).all()
    back = warp_affine(made.moving_target, made.truth)
    apart = np.abs(np.asarray(back) - made.fixed_target).mean((1, 2, 3))[:7]
    before = np.abs(np.asarray(made.moving_target - made.fixed_target)).mean((1, 2, 3))
    assert (apart < 0.3 * before[:7]).all()


def test_two_people_have_no_truth_and_only_the_named_scan_moves():
    fixed, moving = blobs(2), blobs(2, seed=1)
    settings = NONE._replace(affine=AFFINE._replace(which="moving"))

    @jax.jit
    def make_both(keys, fixed, moving):
        made = examples.make(keys, fixed, moving, settings, FIELD)
        assert made.moving_target is made.moving  # so that it is not warped twice
        return made

    made = make_both(jax.random.split(jax.random.key(0), (2, 2)), fixed, moving)
    assert (made.known == 0).all()
    np.testing.assert_allclose(made.fixed, fixed, atol=1e-6)
    assert (np.abs(made.moving - moving).max((1, 2, 3)) > 0.05).all()


def test_the_network_sees_other_intensities_than_the_loss():
    scans = blobs(8)
    made = make(NONE._replace(contrast=1.0), scans, blobs(8, seed=1))
    np.testing.assert_allclose(made.fixed_target, scans, atol=1e-6)
    assert np.abs(made.fixed - made.fixed_target).max() > 0.1
    assert float(made.fixed.min()) >= 0 and float(made.fixed.max()) <= 1
    assert (np.asarray(made.fixed)[scans == 0] == 0).all()


def test_a_mirrored_scan_is_reversed_from_left_to_right():
    scans = blobs(2)
    made = make(NONE._replace(mirror=1.0), scans, scans)
    np.testing.assert_allclose(made.fixed, scans[:, ::-1], atol=1e-5)


def test_without_our_additions_the_pair_is_the_papers_bit_for_bit():
    settings = NONE._replace(flip=0.5, rotate=0.5, gamma=0.3)
    fixed, moving = blobs(2), blobs(2, seed=1)
    keys = jax.random.split(jax.random.key(3), (2, 2))
    made = make_examples(keys, fixed, moving, settings, FIELD)
    augmented = jax.jit(augment.augment, static_argnums=3)
    expected = augmented(keys, fixed, moving, settings)
    np.testing.assert_array_equal(made.fixed, expected[0])
    np.testing.assert_array_equal(made.moving, expected[1])


def test_random_affines_are_within_their_limits():
    centre = np.array([0.1, -0.2, 0.05], np.float32)
    keys = jax.random.split(jax.random.key(0), 500)
    matrices = np.asarray(draw_affines(keys, AFFINE, centre), np.float64)
    at_centre = matrices[:, :3, :3] @ np.asarray(centre) + matrices[:, :3, 3]
    shift = (at_centre - np.asarray(centre)) * FIELD / 2
    assert 14 < np.abs(shift).max() < 15.001
    assert 1 < np.linalg.svd(matrices[:, :3, :3])[1].max() < 1.2 * 1.2
    rigid = AFFINE._replace(scale=1.0, shear=0.0, degrees=(20.0, 90.0))
    keys = jax.random.split(jax.random.key(1), 500)
    linear = np.asarray(draw_affines(keys, rigid, centre))[:, :3, :3]
    np.testing.assert_allclose(
        linear @ linear.transpose(0, 2, 1), np.tile(np.eye(3), (500, 1, 1)), atol=1e-5
    )
    traces = linear.trace(axis1=1, axis2=2)
    angles = np.rad2deg(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
    assert 85 < angles.max() < 90.01
    # Half within 20°, and 20 of 90 of the other half.
    assert (angles < 20).mean() == pytest.approx(0.5 + 0.5 * 20 / 90, abs=0.07)


def test_the_rotation_is_that_of_scipy():
    from scipy.spatial.transform import Rotation

    axis, angle = np.array([0.36, -0.48, 0.8]), 1.1
    result = random_affine.rotation(jnp.asarray(axis), jnp.asarray(angle))
    expected = Rotation.from_rotvec(angle * axis).as_matrix()
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_a_deformation_has_its_size_and_no_affine_part():
    shape = (20, 22, 24)
    draw = jax.jit(jax.vmap(lambda key: deformation.draw(key, shape, 0.02)))
    fields = np.asarray(draw(jax.random.split(jax.random.key(0), 24)), np.float64)
    axes = [np.asarray(geometry.voxel_centres(n)) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.65**2
    design = np.stack([np.ones_like(x), x, y, z], axis=-1)[inside]
    values = fields[..., inside].reshape(-1, len(design)).T
    affine = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    assert affine.std() < 0.1 * values.std()
    assert np.sqrt((values**2).mean()) == pytest.approx(0.02, rel=0.1)
    assert np.abs(np.diff(fields, axis=-1)).max() < 0.05  # in 256 mm / 24 a step


def test_a_deformed_warp_is_that_of_scipy():
    volume = blobs(1)[0][:, :20, 2:]
    draw = jax.jit(deformation.draw, static_argnums=1)
    displacement = np.asarray(draw(jax.random.key(1), volume.shape, 0.05))
    matrix = np.asarray(affines(1, seed=1)[0])
    warp_deformed = jax.jit(examples.warp_deformed)
    warped = warp_deformed(volume, matrix, displacement)
    axes = [(2 * np.arange(n) + 1) / n - 1 for n in volume.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij")) + displacement
    points = np.einsum("ab,bxyz->axyz", matrix[:3, :3], points)
    points += matrix[:3, 3, None, None, None]
    size = np.array(volume.shape)[:, None, None, None]
    indices = ((points + 1) * size - 1) / 2
    oracle = ndimage.map_coordinates(volume, indices, order=1, mode="grid-constant")
    np.testing.assert_allclose(warped, oracle, atol=1e-4)
    still = warp_deformed(volume, matrix, 0 * displacement)
    plain = warp_affine(volume, matrix)
    np.testing.assert_allclose(still, plain, atol=1e-5)


def test_a_curve_is_interpolated_between_its_knots():
    curve = np.random.default_rng(0).random((2, 8)).astype("f4")
    image = np.linspace(0.05, 1, 64, dtype="f4").reshape(1, 4, 4, 4).repeat(2, axis=0)
    result = jax.jit(recolour.apply_curve)(curve, image)
    for one, values in zip(np.asarray(result), curve, strict=True):
        expected = np.interp(image[0], np.linspace(0, 1, 8), values)
        np.testing.assert_allclose(one, expected, atol=1e-5)


def test_curves_are_of_any_form():
    draw = jax.jit(jax.vmap(recolour.draw_curve))
    curves = np.asarray(draw(jax.random.split(jax.random.key(0), 400)))
    assert curves.min() >= 0 and curves.max() <= 1
    slopes = curves[:, -1] - curves[:, 0]
    assert (slopes < -0.3).mean() > 0.15 and (slopes > 0.3).mean() > 0.15


def test_the_mapped_distance_is_the_mean_over_the_points():
    weights = np.random.default_rng(0).random((2, 8, 16, 24)).astype("f4")
    one, other = np.asarray(affines(2, seed=1))
    result = mapped_distance(np.stack([one, one]), np.stack([other, one]), weights)
    cells = weights.reshape(2, 8, 1, 8, 2, 8, 3).mean(axis=(2, 4, 6))
    centres = (2 * np.arange(8) + 1) / 8 - 1
    points = np.stack([*np.meshgrid(centres, centres, centres, indexing="ij"),
                       np.ones((8, 8, 8))], axis=-1)  # fmt: skip
    apart = np.linalg.norm(points @ (one - other)[:3].T, axis=-1)
    expected = (apart * cells[0]).sum() / cells[0].sum()
    assert float(result[0]) == pytest.approx(expected, abs=2e-3)
    assert float(result[1]) == 0.0
    gradient = jax.jit(jax.grad(losses.mapped_distance))
    assert (gradient(one, one, weights[0]) == 0).all()
    slopes = gradient(other, one, weights[0])
    assert np.isfinite(slopes).all() and np.abs(slopes).max() > 0
    assert (gradient(other, one, 0 * weights[0]) == 0).all()


def test_the_distance_over_a_mask_is_that_of_a_loop():
    mask = np.zeros((3, 4, 5), "u1")
    mask[0, 1, 2] = mask[2, 3, 4] = mask[1, 0, 0] = 1
    matrix = np.asarray(affines(1, seed=4)[0])
    apart = []
    for index in np.argwhere(mask):
        point = np.append((2 * index + 1) / np.array(mask.shape) - 1, 1)
        apart.append(np.linalg.norm((matrix @ point - point)[:3]))
    distance_over = jax.jit(known_affines.distance_over)
    result = distance_over(mask, matrix, np.eye(4, dtype=np.float32))
    assert float(result) == pytest.approx(np.mean(apart), rel=1e-5)


def test_the_known_affines_of_each_pass_and_stage():
    """The same network, asked once and twice, from the same affines."""
    config = default.get_config()
    config.model.update({"embedding": 8, "depth": 1, "dilations": (1,)})
    config.model.update({"patches": (3, 7), "strides": (2, 4), "head": "moments"})
    one = models.create(config)
    config.model.passes = 2
    two = models.create(config)
    image = jnp.asarray(blobs(1)[0])
    params = jax.jit(one.init)(jax.random.key(0), image[None], image[None])
    measured = [
        known_affines.create(network, 3, FIELD)(params, image, image > 0.1, 5)
        for network in (one, two)
    ]
    assert [errors.shape for errors, _ in measured] == [(3, 1, 2), (3, 2, 2)]
    (once, active), (twice, active_twice) = jax.device_get(measured)
    np.testing.assert_allclose(twice[:, 0], once[:, 0], rtol=1e-4)
    assert active.shape == active_twice.shape and (active_twice >= active).all()
    names = {"known_mm", "silent_units"}
    stages = {f"known_mm_stage_{i}" for i in (1, 2)}
    assert set(known_affines.summary([once], [active])) == names | stages
    stages = {f"known_mm_pass_{i}_stage_{j}" for i in (1, 2) for j in (1, 2)}
    values = known_affines.summary([twice], [active_twice])
    assert set(values) == names | stages
    assert values["known_mm"] == pytest.approx(twice[:, 1, 1].mean(), rel=1e-5)


def test_the_inverse_of_an_affine():
    matrices = affines(20, seed=0)
    result = np.asarray(jax.jit(geometry.invert)(matrices))
    np.testing.assert_allclose(result, np.linalg.inv(matrices), atol=1e-5)
    assert (result[:, 3] == [0, 0, 0, 1]).all()


def test_the_loss_of_an_estimate_sums_its_parts():
    """Against a sum by hand for known matrices, with and without each part."""
    fixed, moving = jnp.asarray(blobs(2)), jnp.asarray(blobs(2, seed=1))
    first, last, truth = (affines(2, seed) for seed in range(3))
    halve = jax.jit(geometry.halve)
    nothing = jnp.zeros((2, 12)), jnp.zeros((2, 1), bool)
    stages = tuple(
        models.StageEstimate(
            nothing[0], matrix, warp_affine(volume, matrix), nothing[1]
        )
        for matrix, volume in ((first, halve(moving)), (last, moving))
    )
    estimate = models.AffineEstimate(nothing[0], last, stages[-1].warped, stages)
    known = jnp.array([1.0, 0.0])
    slack = jnp.array([3.0, 0.0])
    shown = examples.Examples(fixed, moving, fixed, moving, truth, known, slack)
    half = halve(fixed)

    @jax.jit
    def at(matrix, fixed, moving):
        apart = losses.mapped_distance(matrix, truth, shown.fixed_target) * FIELD / 2
        ntg = losses.ntg(fixed, geometry.warp_affine(moving, matrix))
        return ntg, ntg + 0.05 * known * (apart - slack)

    alone, with_known = at(last, fixed, moving)
    _, first_loss = at(first, half, halve(moving))

    @functools.partial(jax.jit, static_argnames=("known", "deep", "seen"))
    def pair_losses(shown, estimate, known, deep, seen):
        if seen:  # the loss asks whether they are one array
            shown = shown._replace(moving_target=shown.moving)
        return stage_loss.pair_losses(
            shown, estimate, losses.ntg, known=known, deep=deep, field_of_view=FIELD
        )

    plain = pair_losses(shown, estimate, known=0.0, deep=0.0, seen=True)
    np.testing.assert_allclose(plain, alone, rtol=1e-5)
    result = pair_losses(shown, estimate, known=0.05, deep=0.3, seen=True)
    np.testing.assert_allclose(result, with_known + 0.3 * first_loss, rtol=1e-5)
    # The same two stages as two passes.
    passes = [estimate._replace(stages=(stage,)) for stage in stages]
    twice = passes[1]._replace(before=(passes[0],))
    mean = pair_losses(shown, twice, known=0.05, deep=0.3, seen=True)
    np.testing.assert_allclose(mean, (with_known + first_loss) / 2, rtol=1e-5)
    # What the network saw does not matter where the loss has images of its own.
    shown = shown._replace(moving=1 - moving, fixed=1 - fixed)
    estimate = estimate._replace(
        stages=tuple(s._replace(warped=1 - s.warped) for s in stages)
    )
    again = pair_losses(shown, estimate, known=0.05, deep=0.3, seen=False)
    np.testing.assert_allclose(again, result, rtol=1e-5)


def test_an_invalid_choice_of_scans_is_refused():
    config = default.get_config().augment
    config.affine.which = "all"
    with pytest.raises(errors.UserError, match='augment.affine.which is "all"'):
        augment.settings(config)
