"""The scans of a run stay the same when their files are lost, moved or damaged."""

import shutil
from pathlib import Path

import pytest

from helpers.people import fill
from mdvit_jax import errors
from mdvit_jax.data import cache, cohort, dataset
from mdvit_jax.training import scans
from test_dataset import config, save, without_cache

__all__ = ["config"]  # a fixture


def begin(config, workdir):
    workdir.mkdir()
    parts = scans.open_parts(config, workdir)
    scans.save(workdir, *parts)
    return parts


def assert_same_scans(result, expected):
    for one, other in zip(result, expected, strict=True):
        assert one.subjects == other.subjects and one.persons == other.persons


@pytest.mark.parametrize("part", [0, 1])
def test_a_lost_file_changes_neither_parts_nor_pairs(config, tmp_path, part):
    config = without_cache(config)
    parts = begin(config, tmp_path / "run")
    lost = parts[part].scans[0]
    lost.image.unlink()
    save(Path(config.data.root), "a new one")
    fresh = [dataset.open_part(config, name).subjects for name in cohort.PARTS[:2]]
    assert fresh != [opened.subjects for opened in parts]  # what it guards against
    again = scans.open_parts(config, tmp_path / "run")
    assert_same_scans(again, parts)
    with pytest.raises(errors.UserError, match="cannot be read") as caught:
        again[part][0]
    assert str(lost.image) in str(caught.value)
    others = [i for i in range(len(again[0])) if (part, i) != (0, 0)]
    assert all(again[0][i].labels is not None for i in others)
    scans.save(tmp_path / "run", *again)
    assert_same_scans(scans.open_parts(config, tmp_path / "run"), parts)


def test_moved_files_are_read_from_their_new_place(config, tmp_path):
    config = without_cache(config)
    parts = begin(config, tmp_path / "run")
    shutil.move(config.data.root, tmp_path / "moved")
    config.data.root = str(tmp_path / "moved")
    again = scans.open_parts(config, tmp_path / "run")
    assert_same_scans(again, parts)
    assert all(scan.image.parent == tmp_path / "moved" for scan in again[0].scans)


def test_a_scan_that_became_bad_keeps_its_place(config, tmp_path):
    """Its file is damaged when the cache is prepared again."""
    fill(config)
    parts = begin(config, tmp_path / "run")
    bad = parts[0].scans[1]
    bad.image.write_bytes(b"")
    entry = {"why": "it is empty", "recipe": cache.recipe(bad, config)}
    cache.write_bad({bad.subject: entry}, config)
    assert len(dataset.open_part(config, "train")) == 2
    with pytest.raises(errors.UserError, match=f"{bad.subject}: another image"):
        scans.open_parts(config, tmp_path / "run")
    config.data.skip_unreadable = True
    again = scans.open_parts(config, tmp_path / "run")
    assert_same_scans(again, parts)
    with pytest.raises(errors.UserError, match="out of date"):
        again[0][1]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"train": [["a"]]}', "{}"])
def test_a_damaged_list_is_one_sentence(config, tmp_path, text):
    config = without_cache(config)
    begin(config, tmp_path / "run")
    (tmp_path / "run/scans.json").write_text(text)
    with pytest.raises(errors.UserError, match="is damaged") as caught:
        scans.open_parts(config, tmp_path / "run")
    assert str(tmp_path / "run/scans.json") in str(caught.value)
