"""The study of affines that are known, and the losses minimised without a network."""

import numpy as np
import pytest

from mdvit_jax.data import conform, dataset
from mdvit_jax.evaluation import scoring
from mdvit_jax.studies import cases, changes, known_affine, run
from mdvit_jax.studies.case import Case
from oracle import people


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The study of three synthetic people at 32³, what it found, and its folder."""
    folder = tmp_path_factory.mktemp("known_affine")
    config = people.config(data__size="32", loss__stride="1")
    scans = dataset.open_part(config, "test")
    setting = cases.Setting(config, scans, None, (), [], folder, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_affine, "GAMMAS", (0.5, 1.0))
        section, rows = known_affine.run(setting)
        text = run.run("known_affine", setting, command="python eval.py")
    return section, rows, folder, text


def of(rows, method, change):
    return [c.mm for c in rows if c.method == method and c.change == change]


def test_a_loss_finds_the_affine_of_like_contrast(found):
    _, rows, _, _ = found
    for change in ("affine 0", "affine 1"):
        start = of(rows, "Initial (CoM)", change)
        assert len(start) == 3 and min(start) > 8
        assert max(of(rows, "NTG minimised", change)) < 1
        assert max(of(rows, "NCC minimised", change)) < 1


def test_the_error_is_over_people(found):
    section, rows, _, text = found
    table, differences = section.tables
    assert [row[0] for row in table.rows] == [
        "NTG minimised",
        "NCC minimised",
        "Initial (CoM)",
    ]
    of_people = np.mean(
        [of(rows, "NTG minimised", f"affine {seed}, gamma 0.5") for seed in (0, 1)],
        axis=0,
    )
    error = of_people.std(ddof=1) / np.sqrt(3)
    assert table.rows[0][1] == f"{of_people.mean():.2f} ± {error:.2f}"
    others = np.mean(
        [of(rows, "NCC minimised", f"affine {seed}, gamma 0.5") for seed in (0, 1)],
        axis=0,
    )
    (row,) = differences.rows
    assert row[0] == "NTG minimised − NCC minimised"
    assert row[1].startswith(f"{(of_people - others).mean():+.2f} ± ")
    assert table.rows[0][1] in text


def test_what_it_leaves(found):
    _, rows, folder, _ = found
    lines = (folder / "known_affine.csv").read_text().splitlines()
    assert len(lines) == 1 + len(rows) and ",mm," in lines[0]
    assert (folder / "known_affine.png").is_file()


def test_millimetres_are_those_of_the_world():
    """Voxels of 2, 3 and 4 mm, and a brain off the centre."""
    mask = np.zeros((8, 10, 12), np.uint8)
    mask[1:3, 2:7, 3:11] = 1
    to_world = np.diag([2.0, -3, 4, 1])
    scan = conform.Conformed(mask.astype(np.float32), mask, None, to_world)
    pair = scoring.Pair("a", "a", scan, scan)
    voxels = np.array([[1.1, 0.1, 0, 2], [0, 0.9, 0.2, -1], [0.1, 0, 1, 0.5]])
    inside = np.argwhere(mask)
    ends = inside @ voxels[:, :3].T + voxels[:, 3]
    apart = np.linalg.norm((ends - inside) * [2, 3, 4], axis=1).mean()
    # Normalised: (2 i + 1) / n − 1.
    to_normalised = np.diag([*2 / np.array(mask.shape), 1.0])
    to_normalised[:3, 3] = 1 / np.array(mask.shape) - 1
    matrix = (
        to_normalised @ np.vstack([voxels, [0, 0, 0, 1]]) @ np.linalg.inv(to_normalised)
    )
    case = Case("m", "a", "a", "", 1, 1, 1, matrix=tuple(matrix.ravel()))
    assert known_affine.millimetres(case, pair) == pytest.approx(apart, rel=1e-5)


def test_a_known_affine_is_undone_by_its_inverse():
    random = np.random.default_rng(0)
    image = np.zeros((32, 32, 32), np.float32)
    blocks = random.random((4, 5, 4)).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    image[10:22, 8:23, 11:23] = blocks
    scan = conform.Conformed(image, (image > 0).astype(np.uint8), None, np.eye(4))
    change = changes.known_affine(3, 2.0, 256.0)
    assert change.name == "affine 3, gamma 2"
    assert np.array_equal(change.back, changes.known_affine(3, 1.0, 256.0).back)
    assert not np.array_equal(change.back, changes.known_affine(4, 2.0, 256.0).back)
    turned = change.turned(scan)
    back = scoring.warp(turned, np.linalg.inv(change.back), threshold=0.5)
    inside = back.mask & scan.mask
    assert inside.sum() > 0.9 * scan.mask.sum()
    assert np.corrcoef(back.image[inside > 0], image[inside > 0])[0, 1] > 0.9
