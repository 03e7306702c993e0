"""The scanner in software: its truth is right, and each switch works alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from mdvit_jax import geometry
from mdvit_jax.data import (
    acquisition,
    head_shape,
    head_signal,
    label_maps,
    scan_description,
    scan_draw,
    smooth_fields,
    synthesis,
    tissues,
)
from mdvit_jax.data.scan_settings import PLAIN, Settings
from mdvit_jax.geometry import turns

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Not a cube, neither in voxels nor in millimetres.
GRID = {"shape": (40, 44, 48), "voxel": (5.0, 5.5, 4.8)}
STILL = PLAIN._replace(**GRID)
ANY = Settings(**GRID, turn=0.3)
MOVED = STILL._replace(
    rotation=20.0, translation=15.0, scale=0.1, shear=0.05, turn=1.0, deformation=4.0,
    mirror=1.0,
)  # fmt: skip

draw_person = jax.jit(scan_draw.draw_person, static_argnums=1)
draw_scan = jax.jit(scan_draw.draw_scan, static_argnums=1)
_form_scan = jax.jit(synthesis.form_scan, static_argnums=3)
warp_affine = jax.jit(geometry.warp_affine)
find_shift = jax.jit(head_shape.find_shift)


def form_scan(head, person, draw) -> synthesis.Scan:
    """One compiled program for all tests of one grid."""
    return jax.device_get(_form_scan(head, person, draw, STILL))


@pytest.fixture(scope="module")
def head() -> label_maps.Head:
    return label_maps.mni152_head(voxel=4.0)


@pytest.fixture(scope="module")
def plain(head):
    """The plain scan: person, draw and scan."""
    key = jax.random.key(0)
    person, draw = draw_person(key, STILL), draw_scan(key, STILL)
    return person, draw, form_scan(head, person, draw)


@pytest.mark.parametrize("mirror", [False, True])
def test_without_deformation_the_scan_is_the_map_under_the_known_matrix(head, mirror):
    """Against map_coordinates in float64 through the inverse of head_to_image."""
    person = draw_person(jax.random.key(1), MOVED)
    person = person._replace(deformation=jnp.array(0.0), mirror=jnp.array(mirror))
    draw = draw_scan(jax.random.key(2), MOVED)
    assert draw.turn > 0
    scan = form_scan(head, person, draw)
    image_to_voxel = (
        np.linalg.inv(np.float64(head.to_mm))
        @ np.diag([-1.0 if mirror else 1.0, 1.0, 1.0, 1.0])
        @ np.linalg.inv(np.float64(scan.head_to_image))
        @ geometry.voxel_to_normalised(scan.image.shape)
    )
    index = np.indices(scan.image.shape).reshape(3, -1)
    at = image_to_voxel[:3, :3] @ index + image_to_voxel[:3, 3:]

    def sampled(volume, outside=0.0):
        values = ndimage.map_coordinates(volume, at, order=1, cval=outside)
        return values.reshape(scan.image.shape)

    depth = head.depth * label_maps.DEPTH_STEP
    standard = tissues.STANDARD[head.labels] * (depth > 0)
    np.testing.assert_allclose(scan.brain, sampled(standard), atol=3e-4)
    off = scan.mask != (sampled(depth, -60.0) > 0)
    assert off.sum() <= 3  # where the depth is 0 but for rounding
    # Soft tissue is a mixture with fat; all other tissues have their mean.
    means = np.asarray(draw.means)[tissues.TISSUE_OF_LABEL][head.labels]
    soft = tissues.TISSUE_OF_LABEL[head.labels] == tissues.SOFT_TISSUE
    clear = (sampled(soft.astype(float)) == 0) & (sampled(means) > 0)
    scale = np.median(scan.image[clear] / sampled(means)[clear])
    close = np.abs(scan.image - scale * sampled(means))[clear] < 0.02
    assert close.mean() > 0.98  # profiles reach a little into the next voxels


def test_the_known_affine_lays_one_scan_of_a_person_on_the_other(head):
    person = draw_person(jax.random.key(7), MOVED)
    assert person.deformation > 1
    fixed, moving = (
        form_scan(head, person, draw_scan(jax.random.key(k), MOVED)) for k in (1, 3)
    )
    assert fixed.draw.turn != moving.draw.turn
    matrix = np.asarray(jax.jit(synthesis.known_affine)(fixed, moving))

    def likeness(shift) -> float:
        moved = np.eye(4, dtype=np.float32)
        moved[:3, 3] = shift
        warped = np.asarray(warp_affine(moving.brain, matrix @ moved))
        return np.corrcoef(warped[fixed.mask], fixed.brain[fixed.mask])[0, 1]

    best = likeness([0.0, 0.0, 0.0])
    assert best > 0.85
    for shift in 0.02 * np.vstack([np.eye(3), -np.eye(3)]):  # some 2 mm
        assert likeness(shift) < best
    by_landmarks = jax.jit(synthesis.landmark_affine)(fixed, moving)
    np.testing.assert_allclose(by_landmarks, matrix, atol=1e-5)


def test_a_deformation_has_no_affine_part(head):
    """Over the brain, by numpy's least squares; its strength is the one asked for."""
    person = draw_person(jax.random.key(7), MOVED)
    shift = find_shift(head, person)
    scattered_points = jax.jit(head_shape.scattered_points)
    points, depth = map(np.asarray, scattered_points(head, person))
    moved = np.asarray(jax.jit(smooth_fields.at_points)(shift.waves, points))
    moved = moved + points @ np.asarray(shift.linear).T + shift.offset
    moved = moved[np.asarray(depth) > 0]
    design = np.column_stack([points, np.ones(len(points))])[np.asarray(depth) > 0]
    affine = np.linalg.lstsq(design, moved, rcond=None)[0]
    assert np.abs(design @ affine).max() < 1e-2
    assert np.sqrt((moved**2).mean()) == pytest.approx(
        float(person.deformation), rel=1e-3
    )


def test_a_batch_is_its_scans_one_by_one_and_the_key_decides(head):
    keys = (
        jax.random.split(jax.random.key(3), 3)
        .at[2]
        .set(jax.random.split(jax.random.key(3), 3)[0])
    )
    batch = jax.jit(jax.vmap(lambda key: synthesis.synthesise(key, head, ANY)))(keys)
    for index, key in enumerate(keys[:2]):
        person_key, scan_key = jax.random.split(key)
        one = form_scan(head, draw_person(person_key, ANY), draw_scan(scan_key, ANY))
        np.testing.assert_allclose(batch.image[index], one.image, atol=5e-3)
        np.testing.assert_allclose(batch.brain[index], one.brain, atol=1e-4)
        np.testing.assert_allclose(batch.landmarks[index], one.landmarks, atol=1e-4)
    assert np.abs(batch.image[0] - batch.image[1]).max() > 0.1
    np.testing.assert_array_equal(batch.image[0], batch.image[2])


# Changes of a draw that must not change the truth.
SWITCHES = {
    "contrast": {"means": np.linspace(0, 1, len(tissues.TISSUES), dtype=np.float32)},
    "texture": {"texture": np.full(len(tissues.TISSUES), 0.05, np.float32)},
    "bias": {"bias": np.float32(0.3)},
    "noise": {"noise": np.float32(0.1)},
    "blur": {"blur": np.float32(6.0)},
    "slices": {"spacing": np.float32([0, 0, 15]), "thickness": np.float32([0, 0, 12])},
    "field": {"field_low": np.float32([-1e4, -1e4, -40])},
    "stripped": {"stripped": np.True_},
    "tightly": {"stripped": np.True_, "margin": np.float32(-8)},
    "loosely": {"stripped": np.True_, "margin": np.float32(8)},
    "ragged": {"stripped": np.True_, "ragged": np.float32(3)},
    "holes": {"stripped": np.True_, "holes": np.float32(1.5)},
    "deface": {"deface": np.float32(75)},
    "lesion": {"lesion_radius": np.float32([[20] * 3, [0] * 3, [0] * 3])},
    "8 bits": {"levels": np.float32(255)},
    "16 bits": {"levels": np.float32(1000)},
}


def test_distant_samples_are_means_of_voxels_that_lie_where_they_did(head, plain):
    """Coordinates as channels come out as they are; noise loses its variance."""
    person, *_ = plain
    shift = find_shift(head, person)
    indices = np.indices(head.labels.shape)
    matrix = np.asarray(head.to_mm)
    coordinates = np.einsum("ij,jxyz->ixyz", matrix[:3, :3], indices)
    coordinates += matrix[:3, 3, None, None, None]
    axes = tuple(jnp.linspace(a, a + 24, 4) for a in (-20.0, -30.0, -16.0))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    random = jax.random.normal(jax.random.key(0), head.labels.shape)
    sample = jax.jit(head_signal.sample, static_argnums=6)
    values = {}
    for spacing in (4.0, 8.0):
        options = head, person, shift, jnp.eye(4), axes, spacing
        channels = [jnp.asarray(part, jnp.float32) for part in coordinates]
        sampled = sample(channels, *options)
        assert np.allclose(sampled, grid, atol=1e-3)
        values[spacing] = sample([random] * 3, *options)[0].std()
    assert values[8.0] < 0.6 * values[4.0]


@pytest.fixture(scope="module")
def switched(head, plain):
    person, draw, _ = plain
    return {
        name: form_scan(head, person, draw._replace(**changes))
        for name, changes in SWITCHES.items()
    }


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_changes_the_image_and_leaves_the_truth(plain, switched, name):
    base, scan = plain[2], switched[name]
    changed = np.abs(scan.image - base.image)
    assert changed.max() > (0.0004 if "bits" in name else 0.05)
    assert np.isfinite(scan.image).all()
    assert scan.image.min() >= 0
    assert 0.995 < scan.image.max() <= 1
    np.testing.assert_array_equal(scan.brain, base.brain)
    np.testing.assert_array_equal(scan.mask, base.mask)
    np.testing.assert_array_equal(scan.head_to_image, base.head_to_image)


def apart(scan, base, where) -> float:
    """Largest difference up to a common brightness, without clipped voxels."""
    where = where & (base.image < 0.98) & (scan.image < 0.98)
    a, b = scan.image[where], base.image[where]
    return np.abs(a - (a @ b) / (b @ b) * b).max()


def test_stripping_does_not_change_the_brain(plain, switched):
    base, scan = plain[2], switched["stripped"]
    np.testing.assert_array_equal(scan.image > 0, base.mask & (base.image > 0))
    assert apart(scan, base, base.mask) < 0.01
    volumes = [
        (switched[n].image > 0).sum() for n in ("tightly", "stripped", "loosely")
    ]
    assert volumes[0] < 0.85 * volumes[1] < 0.75 * volumes[2]
    assert (switched["tightly"].image > 0)[~base.mask].sum() == 0
    ragged = (switched["ragged"].image > 0) != base.mask
    assert 0.02 < ragged.sum() / base.mask.sum() < 0.3
    holes = base.mask & (switched["holes"].image == 0) & (scan.image > 0)
    assert 0.01 < holes.sum() / base.mask.sum() < 0.3
    assert (switched["holes"].image > 0)[~base.mask].sum() == 0


def test_a_field_of_view_ends_at_its_limits(plain, switched):
    base, scan = plain[2], switched["field"]
    height = (np.arange(48) - 23.5) * 4.8  # mm, of the brain's centre, which is 0
    assert (scan.image[:, :, height < -40] == 0).all()
    assert apart(scan, base, np.broadcast_to(height > -40, scan.image.shape)) < 0.01


def test_defacing_cuts_before_a_plane_and_not_near_the_brain(plain, switched):
    base, scan = plain[2], switched["deface"]
    cut = (scan.image == 0) & (base.image > 0)
    _, j, k = np.nonzero(cut)
    y, z = (j - 21.5) * 5.5, (k - 23.5) * 4.8  # mm from the brain's centre
    tilt = scan.draw.deface_tilt
    assert cut.sum() > 20
    assert (np.cos(tilt) * y - np.sin(tilt) * z >= 75 - 1e-3).all()
    assert not (cut & ndimage.binary_dilation(base.mask)).any()
    assert apart(scan, base, ~cut) < 0.01


def test_a_lesion_is_a_ball_of_its_brightness_within_the_brain(plain, switched):
    base, scan = plain[2], switched["lesion"]
    changed = np.abs(scan.image - base.image) > 0.02
    volume = changed.sum() * 5.0 * 5.5 * 4.8
    assert 0.2 < volume / (4 / 3 * np.pi * 20**3) < 1.5
    assert changed[~ndimage.binary_dilation(base.mask)].sum() == 0


def test_bias_is_smooth_and_blur_and_slices_lose_detail(plain, switched):
    base = plain[2]
    inside = base.mask & (base.image > 0.1) & (base.image < 1)
    ratio = np.where(
        inside, switched["bias"].image / np.maximum(base.image, 0.1), np.nan
    )
    assert np.nanstd(np.log(ratio)) > 0.05
    assert np.nanmax(np.abs(np.diff(np.log(ratio), axis=0))) < 0.15

    def detail(scan, axis) -> float:
        return np.square(np.diff(scan.image, axis=axis)).mean()

    for axis in range(3):
        assert detail(switched["blur"], axis) < 0.6 * detail(base, axis)
    assert detail(switched["slices"], 2) < 0.5 * detail(base, 2)
    centres = [
        ndimage.center_of_mass(scan.image) for scan in (base, switched["slices"])
    ]
    np.testing.assert_allclose(*centres, atol=0.3)


@pytest.mark.parametrize(("name", "levels"), [("8 bits", 255), ("16 bits", 1000)])
def test_whole_numbers_are_whole(plain, switched, name, levels):
    whole = switched[name].image * levels
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-3)
    assert np.abs(whole - plain[2].image * levels).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("signal", [0.0, 0.1, 2.0])
def test_noise_is_that_of_rice(signal):
    values = acquisition.add_rician_noise(
        jax.random.key(1), jnp.full((40, 50, 60), signal), jnp.float32(0.1)
    )
    sample = np.asarray(values).ravel()[:20000]
    assert stats.kstest(sample, stats.rice(signal / 0.1, scale=0.1).cdf).pvalue > 1e-3
    without = acquisition.add_rician_noise(jax.random.key(1), values, jnp.float32(0))
    np.testing.assert_array_equal(without, values)


def test_a_slice_is_the_mean_over_its_thickness():
    source = acquisition.axis_positions(60, 1.0)
    target = acquisition.axis_positions(10, 5.0)
    matrix = jax.jit(acquisition.slice_profile)(
        source, target, thickness=jnp.float32(5), blur=jnp.float32(0)
    )
    rising = matrix @ source
    np.testing.assert_allclose(rising, target, atol=1e-4)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    edge = matrix @ (source > 0)
    np.testing.assert_allclose(edge, target > 0, atol=0.02)
    back = acquisition.interpolate_slices(target, source, jnp.float32(5))
    np.testing.assert_allclose((back @ target)[7:-7], source[7:-7], atol=1e-4)


def test_draws_come_as_often_and_as_strong_as_the_settings_say():
    settings = Settings(turn=0.5)
    keys = jax.random.split(jax.random.key(0), 4000)
    draws = jax.jit(jax.vmap(lambda key: scan_draw.draw_scan(key, settings)))(keys)
    people = jax.jit(jax.vmap(lambda key: scan_draw.draw_person(key, settings)))(keys)
    often = {
        "stripped": (draws.stripped, settings.stripped),
        "turned": (draws.turn > 0, settings.turn * 23 / 24),
        "inverted": (draws.inverted, settings.invert * 0.95),  # never CT
        "defaced": (draws.deface < 1e3, settings.deface * (1 - settings.stripped)),
        "lesions": (draws.lesion_radius.max(-1) > 0, settings.lesions),
        "8 bits": (draws.levels == 255, settings.bits[2] * 0.95),  # never CT
        "mirror": (people.mirror, settings.mirror),
        "padded": (draws.field_high[:, 0] < 1e3, settings.padded),
    }
    for name, (happened, probability) in often.items():
        assert np.mean(happened) == pytest.approx(probability, abs=0.03), name
    share = np.bincount(np.asarray(draws.contrast), minlength=7) / 4000
    np.testing.assert_allclose(share, settings.contrasts, atol=0.03)
    degrees = np.rad2deg(np.asarray(draws.rotation))
    assert np.abs(degrees).max() <= 20 and degrees.std() == pytest.approx(
        20 / 3**0.5, rel=0.05
    )
    assert draws.means.min() >= 0 and np.isfinite(draws.means).all()
    assert (draws.field_low < draws.field_high).all()
    assert people.deformation.max() <= settings.deformation


def test_one_setting_changes_one_property():
    key = jax.random.key(5)
    base = draw_scan(key, Settings())
    other = draw_scan(key, Settings(noise=0.5))
    different = {
        name
        for name in base._fields
        if name != "key" and (getattr(base, name) != getattr(other, name)).any()
    }
    assert different == {"noise"}


def test_a_draw_is_described_in_words():
    draw = draw_scan(jax.random.key(0), STILL)
    assert scan_description.describe(draw).startswith(
        "whole head; T1 contrast; rotated 0"
    )
    changed = draw._replace(**SWITCHES["holes"], levels=jnp.float32(255), turn=3)
    words = scan_description.describe(changed)
    for word in ("brain", "holes", "255 levels", "axes turned (3 of 24)"):
        assert word in words


def test_turns_are_the_rotations_of_a_cube():
    assert len({turn.tobytes() for turn in turns.TURNS + 0.0}) == 24
    np.testing.assert_array_equal(turns.TURNS[0], np.eye(3))
    assert np.linalg.det(turns.TURNS) == pytest.approx(np.ones(24))
