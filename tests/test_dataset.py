"""The data set: the same bits with and without a cache, and checks of the cache."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from configs import default
from helpers.people import fill
from mdvit_jax import errors
from mdvit_jax.data import cache, cohort, dataset

AFFINE = np.array([[-2, 0, 0, 20], [0, 2, 0.3, -20], [0, 0, 3, 5], [0, 0, 0, 1.0]])


def save(folder, subject: str, seed=0) -> None:
    """A small scan with labels and a mask."""
    random = np.random.default_rng(seed)
    image = np.zeros((13, 16, 11), np.float32)
    image[3:10, 4:13, 2:8] = random.uniform(1, 2, (7, 9, 6))
    for ending, volume in (("", image), ("_seg", image > 1.4), ("_mask", image > 0)):
        volume = volume if ending == "" else volume.astype(np.int16)
        nib.Nifti1Image(volume, AFFINE).to_filename(
            folder / f"{subject}{ending}.nii.gz"
        )


@pytest.fixture
def config(tmp_path):
    """A cohort of five scans; its cache is named but empty."""
    scans = tmp_path / "scans"
    scans.mkdir()
    for seed, subject in enumerate(("a", "b", "c", "d", "e f.g")):
        save(scans, subject, seed)
    config = default.get_config()
    config.data.root = str(scans)
    config.data.labels = "{subject}_seg.nii.gz"
    config.data.mask = "{subject}_mask.nii.gz"
    config.data.split = (3, 1, 1)
    config.data.size = 12
    config.data.field_of_view = 48.0
    config.data.cache = str(tmp_path / "cache")
    return config


def without_cache(config):
    config = config.copy_and_resolve_references()
    config.data.cache = ""
    return config


def equal(one, other) -> bool:
    return all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for a, b in zip(one, other, strict=True)
    )


def test_the_same_bits_with_and_without_a_cache(config, caplog):
    fill(config)
    subjects = []
    for part in cohort.PARTS:
        cached = dataset.open_part(config, part)
        assert not caplog.records
        plain = dataset.open_part(without_cache(config), part)
        assert "slower" in caplog.text
        caplog.clear()
        assert len(cached) == len(plain) == len(cached.persons)
        assert cached.subjects == plain.subjects
        subjects += cached.subjects
        for i in range(len(cached)):
            assert equal(cached[i], plain[i])
        with pytest.raises(IndexError):
            cached[len(cached)]
    assert sorted(subjects) == ["a", "b", "c", "d", "e f.g"]


def test_volumes_are_mapped_and_not_read(config):
    fill(config)
    scan = dataset.open_part(config, "train")[0]
    for volume in (scan.image, scan.mask, scan.labels):
        assert type(volume) is np.ndarray and not volume.flags.writeable
        base = volume
        while base.base is not None and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)
    assert scan.image.dtype == np.float32 and scan.labels.dtype == np.int32


def test_scans_without_labels(config):
    config.data.labels = config.data.mask = ""
    config.data.image = "*_mask.nii.gz"
    fill(config)
    scan = dataset.open_part(config, "train")[0]
    assert scan.labels is None and scan.image.any()


def test_a_store_can_be_sent_to_another_process(config, tmp_path):
    fill(config)
    opened = dataset.open_part(config, "train")
    first = opened[0]
    sent = pickle.loads(pickle.dumps(opened))
    assert len(pickle.dumps(opened)) < 20_000  # no volumes
    assert equal(sent[0], first) and sent.subjects == opened.subjects
    (tmp_path / "store").write_bytes(pickle.dumps(opened))
    program = (
        "import pickle, sys\n"
        "from mdvit_jax.data import conform_cohort, dataset, synthetic_cohort\n"
        f"opened = pickle.load(open({str(tmp_path / 'store')!r}, 'rb'))\n"
        "print(repr(float(opened[0].image.sum())))\n"
        "assert not {'jax', 'grain', 'flax', 'nilearn'} & set(sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) == float(first.image.sum())


def refusal(config, part="train") -> str:
    with pytest.raises(errors.UserError) as caught:
        dataset.open_part(config, part)
    message = str(caught.value)
    assert "prepare" in message and config.data.cache in message
    return message


def test_the_sources_of_the_cache_are_compared(config):
    assert "does not exist" in refusal(config)
    fill(config)
    opened = dataset.open_part(config, "train")
    subject = opened.subjects[0]

    changed = config.copy_and_resolve_references()
    changed.data.size = 16
    assert "3 of 3 scans" in refusal(changed) and "another size" in refusal(changed)
    changed.data.size = 12
    changed.data.field_of_view = 50.0
    assert "another field_of_view" in refusal(changed)
    changed = config.copy_and_resolve_references()
    changed.data.labels = changed.data.mask = ""
    changed.data.image = "*_mask.nii.gz"  # the masks as images, of the same subjects
    assert "another image and labels and mask" in refusal(changed)

    save(Path(config.data.root), subject, seed=77)
    message = refusal(config)
    assert "1 of 3 scans" in message and f"({subject}: another image" in message


def test_a_changed_seed_or_setting_makes_another_synthetic_person(tmp_path):
    config = default.get_config()
    config.data.layout = "synthetic"
    config.data.synthetic.people = 3
    config.data.split = (2, 1, 0)
    config.data.size = 16
    config.data.cache = str(tmp_path)
    scan = cohort.read(config)[0]
    before = cache.recipe(scan, config)
    config.data.synthetic.people = 40
    assert cache.recipe(scan, config) == before
    config.data.synthetic.noise = 0.5
    assert cache.recipe(scan, config) != before
    config.data.synthetic.noise = before["noise"]
    config.seed = 1
    assert cache.recipe(scan, config) != before


def test_a_changed_partner_of_an_analyze_pair_is_seen(tmp_path):
    volume = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    nib.Nifti1Pair(volume, np.eye(4)).to_filename(tmp_path / "a.hdr")
    config = default.get_config()
    config.data.root = str(tmp_path)
    config.data.image = "*.hdr"
    (scan,) = cohort.read(config)
    before = cache.recipe(scan, config)
    assert cache.recipe(scan, config) == before
    os.utime(tmp_path / "a.img", ns=(1, 1))
    assert cache.recipe(scan, config) != before
    (tmp_path / "a.img").unlink()
    assert cache.recipe(scan, config)["image"] == [str(tmp_path / "a.hdr")]


def test_missing_and_damaged_entries(config):
    fill(config)
    opened = dataset.open_part(config, "train")
    folder = os.path.join(config.data.cache, opened.subjects[1])
    with open(os.path.join(folder, "image.npy"), "r+b") as file:
        file.truncate(500)
    with pytest.raises(errors.UserError, match="is damaged") as caught:
        opened[1]
    assert folder in str(caught.value)
    with open(os.path.join(folder, "scan.json"), "w") as file:
        file.write("{")
    assert f"({opened.subjects[1]}: damaged)" in refusal(config)
    os.remove(os.path.join(folder, "scan.json"))
    assert f"({opened.subjects[1]}: missing)" in refusal(config)


def test_a_stale_scan_that_may_be_skipped_is_refused_on_access(config):
    fill(config)
    missing, changed, fine = dataset.open_part(config, "train").subjects
    (held_out,) = dataset.open_part(config, "validation").subjects
    shutil.rmtree(Path(config.data.cache, missing))
    save(Path(config.data.root), changed, seed=77)
    assert "skip_unreadable" in refusal(config)
    config.data.skip_unreadable = True
    opened = pickle.loads(pickle.dumps(dataset.open_part(config, "train")))
    assert opened.subjects == (missing, changed, fine)
    for index, why in enumerate(("(missing)", "(another image and labels and mask)")):
        with pytest.raises(errors.UserError) as caught:
            opened[index]
        assert why in str(caught.value) and "prepare" in str(caught.value)
        assert os.path.join(config.data.cache, opened.subjects[index]) in str(
            caught.value
        )
    assert opened[2].image.any()
    shutil.rmtree(Path(config.data.cache, held_out))
    assert "skip_unreadable" not in refusal(config, "validation")


def test_bad_scans_are_left_out_until_their_file_changes(config, caplog):
    fill(config)
    opened = dataset.open_part(config, "train")
    scan = opened.scans[0]
    entry = {"why": "it is", "recipe": cache.recipe(scan, config)}
    cache.write_bad({scan.subject: entry}, config)
    fewer = dataset.open_part(config, "train")
    assert fewer.subjects == opened.subjects[1:]
    assert "1 of the 3 scans of the train part are bad" in caplog.text
    assert "bad.json" in caplog.text
    entry["recipe"]["image"][1] += 1  # it had another size then
    cache.write_bad({scan.subject: entry}, config)
    assert dataset.open_part(config, "train").subjects == opened.subjects


def test_a_bad_file_is_named_when_there_is_no_cache(config):
    config = without_cache(config)
    opened = dataset.open_part(config, "test")
    path = opened.scans[0].image
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(errors.UserError) as caught:
        opened[0]
    assert str(path) in str(caught.value)


def test_names_of_subjects_are_safe_as_names_of_folders(config):
    os.makedirs(config.data.cache)
    scan = cohort.read(config)[0]
    conformed = dataset.conform_scan(scan, config)
    names = ["../evil", ".hidden", "..", "a/b", "a\\b", "ä ö", ".partial-1"]
    for name in names:
        cache.write(scan._replace(subject=name), conformed, config)
        assert equal(cache.read(scan._replace(subject=name), config), conformed)
    files = os.listdir(config.data.cache)
    assert len(files) == len(names)
    assert not any(name.startswith(".") for name in files)


def test_writing_replaces_and_leaves_nothing_else(config):
    os.makedirs(config.data.cache)
    one, other = cohort.read(config)[:2]
    cache.write(one, dataset.conform_scan(one, config), config)
    cache.write(one, dataset.conform_scan(other, config), config)
    assert os.listdir(config.data.cache) == [one.subject]
    assert equal(cache.read(one, config), dataset.conform_scan(other, config))
    details = json.loads(
        (Path(config.data.cache, one.subject) / "scan.json").read_text()
    )
    assert set(details) == {"to_world", "recipe"}


def test_a_damaged_list_of_bad_scans_is_one_sentence(config):
    folder = Path(config.data.cache)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bad.json").write_text('{"s0')
    with pytest.raises(errors.UserError, match=r"bad\.json is damaged"):
        cache.read_bad(config)
