"""A draw of the campaign: synthetic pairs of all kinds, held against their truth."""

import jax
import numpy as np
import pytest

from benchmarks.registration import (
    campaign,
    campaign_plot,
    campaign_table,
    network_gain,
)
from mdvit_jax import geometry, register
from mdvit_jax.data import (
    label_maps,
    random_scans,
    scan_draw,
    synthesis,
    synthetic_files,
)
from mdvit_jax.data.scan_settings import PLAIN, Settings
from mdvit_jax.registration import network_start

SEEDS = range(4)
FAR = scan_draw.FAR
GRID = (40, 44, 48), (5.0, 5.5, 4.8), (1, 1, 1)  # of test_synthetic_files, too


@pytest.fixture(scope="module")
def heads() -> label_maps.Head:
    head = label_maps.mni152_head(voxel=4.0)
    return label_maps.Head(*(np.stack([part, part]) for part in head))


@pytest.fixture(scope="module")
def rows(heads, tmp_path_factory):
    """The rows of a campaign, and its file."""
    path = tmp_path_factory.mktemp("campaign") / "results.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_scans, "ACQUISITIONS", {"small": GRID})
        patch.setattr(random_scans, "_CLEAN", "small")
        return campaign.run_pairs(heads, SEEDS, path), path


def test_what_is_called_ok_is_not_wrong(rows):
    result, _ = rows
    wrong = result.error.isna() | (result.error > campaign_table.WRONG)
    assert not (wrong & (result.status == "ok") & (result.people == 1)).any()
    brains = (result.fixed_object == "brain") & (result.moving_object == "brain")
    assert (result.error[brains & (result.people == 1)] < campaign_table.RIGHT).all()


def test_a_campaign_goes_on_where_it_was(rows, heads, monkeypatch):
    result, path = rows
    monkeypatch.setattr(random_scans, "random_pair", None)  # nothing is drawn again
    again = campaign.run_pairs(heads, SEEDS, path)
    assert again.equals(result)


def test_a_start_is_measured_and_options_reach_register(rows, heads, monkeypatch):
    monkeypatch.setattr(random_scans, "ACQUISITIONS", {"small": GRID})
    pair = random_scans.random_pair(SEEDS[0], heads)
    row, _ = campaign.register_pair(pair, refine=False)
    assert row["error"] > rows[0].error[0] and "score" not in row
    asked = {}
    monkeypatch.setattr(campaign, "register", lambda *pair, **how: asked.update(how))
    with pytest.raises(AttributeError):  # of None, the result
        campaign.register_pair(pair, start="network", refine=False)
    assert asked == {"start": "network", "refine": False}


def test_the_tables(rows):
    result, _ = rows
    text = campaign_table.summarise(result)
    assert text.startswith("4 pairs") and "| fixed ← moving |" in text
    called = result.assign(status="ok", error=20.0, people=1)
    counts = campaign_table.summarise(called).splitlines()
    assert "| all | 4 | 20.00 | 0% | 4 | 4 | 0 |" in counts
    right = called.assign(error=0.2, status="check")
    assert "| all | 4 | 0.20 | 100% | 0 | 0 | 4 |" in campaign_table.summarise(right)


def test_the_picture_has_each_pair(rows):
    result, _ = rows
    axes = campaign_plot.draw(result).axes
    points = [part.get_offsets() for axis in axes for part in axis.collections]
    drawn = np.concatenate(points)
    points = sorted(zip(result.correlation, result.error.clip(lower=0.01), strict=True))
    np.testing.assert_allclose(sorted(map(tuple, drawn)), points)
    legends = [axis.get_legend_handles_labels()[1] for axis in axes]
    ok = sum(int(words[2].removeprefix("ok (").removesuffix(")")) for words in legends)
    assert ok == (result.status == "ok").sum()


def test_what_the_network_is_asked(heads, monkeypatch):
    monkeypatch.setattr(random_scans, "ACQUISITIONS", {"small": GRID})
    pair = random_scans.random_pair(SEEDS[0], heads)
    _, result = campaign.register_pair(pair)
    place = result.matrix.copy()
    monkeypatch.setattr(network_start, "estimate", lambda *_: place)
    said = network_gain.ask_network(result)
    assert said["place_away"] < 1
    assert said["place_score"] == pytest.approx(result.alignment.score, abs=0.02)
    place[:3, 3] += 300  # nothing overlaps
    said = network_gain.ask_network(result)
    assert said["place_away"] > 1 and said["place_score"] == -np.inf


@pytest.mark.parametrize(
    ("away", "score", "may"),
    [
        (0.9, 0.5, False),  # the answer itself
        (1.1, 0.31, True),
        (1.1, 0.29, False),  # fits clearly worse
    ],
)
def test_where_the_network_may_change_a_result(away, score, may):
    assert network_gain.may_change(away, score, 0.4) is may


def test_the_table_with_and_without_the_network(rows):
    result, _ = rows
    ask = {"asked_seconds": 0.1, "may_change": True, "searched": 1.0}
    both = result.assign(
        people=1, error=0.5, status="ok", error_with=4.0, status_with="check", **ask
    )
    text = network_gain.summarise(both)
    assert "| without | 1 | 4 | 0.50 | 4 | 0 | 0 | 0 |" in text
    assert "| with | 1 | 4 | 4.00 | 0 | 4 | 0 | 0 |" in text
    assert "made 0 better and 4 worse" in text


NECK_CUT = {
    "field_low": np.array([-FAR, -FAR, -95], np.float32),
    "field_high": np.array([FAR, FAR, FAR], np.float32),
}
PADDED = {
    "field_low": np.array([-90, -115, -110], np.float32),
    "field_high": np.array([90, 115, 100], np.float32),
}


@pytest.mark.parametrize(
    ("change", "masked"),
    [
        ({"deface": np.float32(70)}, False),
        (NECK_CUT, False),
        ({"noise": np.float32(0.06), **PADDED}, False),
        ({"noise": np.float32(0.06), **PADDED}, True),
        ({"noise": np.float32(0.004), "levels": np.float32(255)}, False),
    ],
    ids=["defaced", "neck cut off", "noise in zeros", "masks", "8 bits"],
)
def test_whole_heads(heads, change, masked):
    """A clean head and another scan of it: right, and `ok` or `check`."""
    grid = Settings(*GRID, conformed=False)
    head = label_maps.Head(*(part[0] for part in heads))
    person = random_scans._draw_person(jax.random.key(0), PLAIN)
    fixed, moving = (
        random_scans._draw_scan(jax.random.key(seed), settings)
        for seed, settings in ((1, PLAIN), (2, PLAIN._replace(rotation=10.0)))
    )
    scans = [
        jax.device_get(random_scans._form_scan(head, person, draw, grid))
        for draw in (fixed, moving._replace(**change))
    ]
    plain = synthetic_files.Storage()
    files = [synthetic_files.store(scan, plain, voxel=grid.voxel) for scan in scans]
    truth = geometry.in_world(
        np.asarray(synthesis.known_affine(*scans)),
        fixed=files[0].to_world,
        moving=files[1].to_world,
    )
    masks = [scan.mask if masked else None for scan in scans]
    result = register(
        files[0].image, files[1].image, fixed_mask=masks[0], moving_mask=masks[1]
    )
    brain = random_scans._brain_points(scans[0].mask, files[0].to_world)
    assert campaign.distances(result.matrix, truth, brain).mean() < 1
    assert result.quality.status in ("ok", "check")
