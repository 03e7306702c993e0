"""Who is in a cohort and in which part: every layout, every split, and their errors."""

import collections
import operator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import default
from mdvit_jax import errors
from mdvit_jax.data import cohort
from mdvit_jax.data.scan import Scan


def configuration(layout: str, root="", **data):
    config = default.get_config()
    config.data.layout = layout
    config.data.root = str(root)
    with config.data.unlocked():
        config.data.update(data)
    return config


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def summary(root: Path, scans):
    """Subject → person, image, labels, mask, relative to the root."""
    return {
        scan.subject: (
            scan.person,
            *(
                path and path.relative_to(root).as_posix()
                for path in (scan.image, scan.labels, scan.mask)
            ),
        )
        for scan in scans
    }


def refusal(config) -> str:
    with pytest.raises(errors.UserError) as caught:
        cohort.read(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_freesurfer(tmp_path, caplog):
    touch(
        tmp_path,
        "002_S_0295_m00/mri/norm.mgz",
        "002_S_0295_m00/mri/brain.mgz",
        "002_S_0295_m00/mri/aseg.mgz",
        "002_S_0295_m12/mri/brain.mgz",
        "002_S_0295_m12/mri/aseg.mgz",
        "bert/mri/norm.mgz",
        "bert_t1.long.bert/mri/norm.mgz",
        "broken/mri/orig.mgz",
        "fsaverage/mri/norm.mgz",
        ".trash/mri/norm.mgz",
        "notes.txt",
    )
    scans = summary(tmp_path, cohort.read(configuration("freesurfer", tmp_path)))
    m00, m12 = "002_S_0295_m00/mri", "002_S_0295_m12/mri"
    assert scans == {
        "002_S_0295_m00": ("002_S_0295", f"{m00}/norm.mgz", f"{m00}/aseg.mgz", None),
        "002_S_0295_m12": ("002_S_0295", f"{m12}/brain.mgz", f"{m12}/aseg.mgz", None),
        "bert": ("bert", "bert/mri/norm.mgz", None, None),
        "bert_t1.long.bert": ("bert", "bert_t1.long.bert/mri/norm.mgz", None, None),
    }
    assert "1 folders" in caplog.text and "broken" in caplog.text
    assert "2 of 4 scans have no labels; the first is bert" in caplog.text


def test_neurite_oasis(tmp_path, caplog):
    one, two, other = (f"OASIS_OAS1_{n}" for n in ("0001_MR1", "0001_MR2", "0002_MR1"))
    touch(tmp_path, f"{one}/norm.nii.gz", f"{one}/seg35.nii.gz", "subjects.txt")
    touch(tmp_path, f"{one}/aligned_norm.nii.gz", f"{one}/aligned_seg35.nii.gz")
    touch(tmp_path, f"{two}/norm.nii.gz", f"{two}/seg35.nii.gz")
    config = configuration("neurite_oasis", tmp_path)
    assert summary(tmp_path, cohort.read(config)) == {
        name: ("OAS1_0001", f"{name}/norm.nii.gz", f"{name}/seg35.nii.gz", None)
        for name in (one, two)
    }
    assert not caplog.records
    touch(tmp_path, f"{other}/aligned_norm.nii.gz", f"{other}/aligned_seg35.nii.gz")
    scans = summary(tmp_path, cohort.read(config))[other]
    assert scans[:2] == ("OAS1_0002", f"{other}/aligned_norm.nii.gz")
    assert scans[2] == f"{other}/aligned_seg35.nii.gz"
    assert "aligned to a template before" in caplog.text


def test_lpba40(tmp_path):
    for space in ("native_space", "delineation_space"):
        for subject in ("S01", "S02"):
            stem = f"{space}/{subject}/{subject}.{space.split('_')[0]}"
            if space == "native_space":
                names = ["mri.img.gz", "mri.hdr", "brain.bfc.hdr", "brain.bfc.img.gz"]
                names += ["brain.mask.hdr", "brain.mask.img.gz"]
            else:
                names = ["skullstripped.hdr", "skullstripped.img.gz", "mri.hdr"]
                names += ["structure.label.hdr", "structure.label.img.gz"]
            touch(tmp_path, *(f"{stem}.{name}" for name in names))
    stem = "delineation_space/S01/S01.delineation"
    scans = summary(tmp_path, cohort.read(configuration("lpba40", tmp_path)))
    assert list(scans) == ["S01", "S02"]
    assert scans["S01"] == (
        "S01", f"{stem}.skullstripped.hdr", f"{stem}.structure.label.hdr", None
    )  # fmt: skip
    native = tmp_path / "native_space"
    scans = summary(native, cohort.read(configuration("lpba40", native)))
    assert scans["S02"] == (
        "S02", "S02/S02.native.brain.bfc.hdr", None, "S02/S02.native.brain.mask.hdr"
    )  # fmt: skip


def test_lpba40_converted_to_nifti(tmp_path):
    names = ("delineation.skullstripped", "delineation.structure.label")
    touch(tmp_path, *(f"S{n:02}.{name}.nii.gz" for n in range(1, 41) for name in names))
    scans = summary(tmp_path, cohort.read(configuration("lpba40", tmp_path)))
    assert len(scans) == 40
    assert scans["S40"][1:] == (*(f"S40.{name}.nii.gz" for name in names), None)


def test_bids(tmp_path):
    touch(
        tmp_path,
        "dataset_description.json",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_T1w.json",
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_T1w.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_T1w.nii",
        "sub-03_T1w.nii.gz",
        "._sub-03_T1w.nii.gz",
        "derivatives/x/sub-01/anat/sub-01_T1w.nii.gz",
    )
    scans = summary(tmp_path, cohort.read(configuration("bids", tmp_path)))
    assert {subject: person for subject, (person, *_) in scans.items()} == {
        "sub-01": "sub-01",
        "sub-02_ses-a_run-1": "sub-02",
        "sub-02_ses-b": "sub-02",
        "sub-03": "sub-03",
    }


def test_folder(tmp_path, caplog):
    touch(tmp_path, *(f"{n}{end}.nii.gz" for n in "ab" for end in ("", "_seg", "_m")))
    touch(tmp_path, "c.nii.gz", "c_m.nii.gz", "._c.nii.gz", "notes.txt")
    touch(tmp_path, "d_seg.nii.gz")  # its image is missing
    config = configuration(
        "folder", tmp_path, labels="{subject}_seg.nii.gz", mask="{subject}_m.nii.gz"
    )
    scans = summary(tmp_path, cohort.read(config))
    assert scans == {
        "a": ("a", "a.nii.gz", "a_seg.nii.gz", "a_m.nii.gz"),
        "b": ("b", "b.nii.gz", "b_seg.nii.gz", "b_m.nii.gz"),
        "c": ("c", "c.nii.gz", None, "c_m.nii.gz"),
    }
    assert "1 of 3 scans have no labels" in caplog.text
    assert "labels or masks without an image" in caplog.text
    assert "d_seg.nii.gz" in caplog.text
    touch(tmp_path, "deep/x/T1.nii.gz", "deep/y/T1.nii.gz", "deep/.z/T1.nii.gz")
    config = configuration("folder", tmp_path, image="./deep//*/T1.nii.gz")
    assert summary(tmp_path, cohort.read(config)) == {
        name: (name, f"deep/{name}/T1.nii.gz", None, None) for name in "xy"
    }


def test_folder_refusals(tmp_path):
    touch(tmp_path, "a.nii.gz")
    for image in (
        "a.nii.gz",
        "[ab]*.nii.gz",
        "?*.nii.gz",
        "*/*.nii.gz",
        "**/*.nii.gz",
        "",
        "/data/*.nii.gz",
    ):
        assert "exactly one *" in refusal(
            configuration("folder", tmp_path, image=image)
        )
    assert "needs {subject}" in refusal(
        configuration("folder", tmp_path, labels="seg.nii.gz")
    )
    message = refusal(configuration("folder", tmp_path, mask="{subject}_m.nii.gz"))
    assert "data.mask" in message and '"a"' in message
    assert "holds no scan" in refusal(configuration("folder", tmp_path, image="*.mgz"))
    assert "no name" in refusal(configuration("folder", tmp_path, image="a*.nii.gz"))
    for setting in ({"labels": "{subject}_seg.nii.gz"}, {"mask": "{subject}_m.nii.gz"}):
        message = refusal(configuration("bids", tmp_path, **setting))
        assert "layout bids does not use" in message


def test_real_folders(real_data):
    config = configuration(
        "folder",
        real_data / "oasis1_malf",
        image="*_SS.nii.gz",
        labels="{subject}_glm.nii.gz",
        same_person=(("1003", "1023"),),
    )
    scans = cohort.read(config)
    assert len(scans) == 16 and all(scan.labels for scan in scans)
    assert len({scan.person for scan in scans}) == 15
    scans = cohort.read(configuration("bids", real_data / "ds002748"))
    assert len({scan.person for scan in scans}) == 40


def manifest(tmp_path, text: str) -> Path:
    touch(tmp_path, "a.nii.gz", "b.nii.gz", "seg/a.nii.gz", "mask.nii.gz")
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_manifest(tmp_path):
    path = manifest(
        tmp_path,
        "\ufeffsubject, Image ,age,labels,mask,split,person\r\n"
        'b,b.nii.gz,"70,5",,,val,\r\n'
        "\r\n"
        f"a_1,{tmp_path}/a.nii.gz,71,seg/a.nii.gz,mask.nii.gz,Train,ann\r\n"
        "sub-7_x,b.nii.gz,72\r\n",
    )
    scans = cohort.read(configuration("csv", path))
    assert summary(tmp_path, scans) == {
        "a_1": ("ann", "a.nii.gz", "seg/a.nii.gz", "mask.nii.gz"),
        "b": ("b", "b.nii.gz", None, None),
        "sub-7_x": ("sub-7", "b.nii.gz", None, None),
    }
    assert [scan.split for scan in scans] == ["train", "validation", ""]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; its first line"),
        ("subject,picture\na,a.nii.gz\n", "no column image"),
        ("subject,image,lables\na,a.nii.gz,\n", 'did you mean "labels"'),
        ("subject,image\na,missing.nii.gz\n", '"missing.nii.gz" as image in row 2'),
        ("subject,image\na,\n", '"" as image in row 2'),
        ("subject,image,mask\na,a.nii.gz,m.nii\n", '"m.nii" as mask in row 2'),
        ("subject,image\n,a.nii.gz\n", "no subject in row 2"),
        ("subject,image\na,a.nii.gz,x\n", "3 values in row 2"),
        ("subject,image,split\na,a.nii.gz,dev\n", 'split "dev" in row 2'),
        ("subject,image\na,a.nii.gz\na,b.nii.gz\n", "both named a"),
        ("subject,image\n", "holds no scan"),
        ('subject,image\n"a,a.nii.gz\n', "cannot be read"),
    ],
)
def test_manifest_refusals(tmp_path, text, words):
    path = manifest(tmp_path, text)
    message = refusal(configuration("csv", path))
    assert words in message and str(tmp_path) in message


def test_manifest_that_is_no_text(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00")
    assert "cannot be read" in refusal(configuration("csv", tmp_path / "list.csv"))
    assert "cannot be read" in refusal(configuration("csv", tmp_path))  # a folder


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("freesurfer", "adni.loni.usc.edu"),
        ("neurite_oasis", "adalca/medical-datasets"),
        ("lpba40", "resource.loni.usc.edu"),
        ("bids", "openneuro.org"),
        ("folder", "data.image"),
        ("csv", "subject and image"),
    ],
)
def test_missing_data_are_explained(tmp_path, layout, words):
    message = refusal(configuration(layout, tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in message and words in message
    assert "data.root is empty" in refusal(configuration(layout))
    if layout != "csv":
        message = refusal(configuration(layout, tmp_path))
        assert "holds no scan" in message and words in message


def test_unknown_layout():
    assert 'did you mean "freesurfer"' in refusal(configuration("freesurfr"))


def test_synthetic():
    config = configuration("synthetic")
    config.data.synthetic.people = 3
    scans = cohort.read(config)
    assert [str(scan.image) for scan in scans] == ["0", "1", "2"]
    assert len({scan.person for scan in scans}) == 3
    config.data.synthetic.people = 0
    assert "data.synthetic.people is 0" in refusal(config)


def test_people(tmp_path, caplog):
    touch(tmp_path, *(f"{name}.nii.gz" for name in ("a1", "a2", "b1", "b2", "c1")))
    config = configuration("folder", tmp_path, person="^([a-z])")
    assert [scan.person for scan in cohort.read(config)] == list("aabbc")
    config.data.same_person = (("a2", "c1"), ("b1", "x9"))
    assert [scan.person for scan in cohort.read(config)] == list("aabba")
    assert "x9" in caplog.text
    config.data.same_person = (("a2", "c1"), ("c1", "b1"))
    assert len({scan.person for scan in cohort.read(config)}) == 1
    config.data.same_person = ("a2", "c1")
    assert "needs lists of subjects" in refusal(config)
    for pattern, words in (
        ("(", "not a regular expression"),
        ("^[a-z]", "first group"),
    ):
        assert words in refusal(configuration("folder", tmp_path, person=pattern))
    assert '"c1"' in refusal(configuration("folder", tmp_path, person="^([ab])"))


def people(*scans_of: int):
    """A cohort in which person i has scans_of[i] scans."""
    return [
        Scan(f"{i:04}_{j}", f"person {i:04}", Path("x"), None, None, "")
        for i, count in enumerate(scans_of)
        for j in range(count)
    ]


def parts(scans, wanted, seed=0):
    config = default.get_config()
    config.data.split = wanted
    config.seed = seed
    return cohort.split(scans, config)


def lengths(split) -> list[int]:
    assert list(split) == ["train", "validation", "test"]
    return [len(part) for part in split.values()]


@pytest.mark.parametrize("wanted", [(207, 104, 103), (20, 10, 10), (3, 0, 0)])
def test_counts_are_met(wanted, caplog):
    split = parts(people(*[1] * 414), wanted)
    assert lengths(split) == list(wanted)
    assert not caplog.records


def test_adni_counts_by_whole_people(caplog):
    visits = [1 + i % 8 for i in range(900)]
    split = parts(people(*visits), (3453, 433, 0))
    assert lengths(split) == [3453, 433, 0]
    assert not caplog.records
    whose = [{scan.person for scan in part} for part in split.values()]
    assert not whose[0] & whose[1]


@pytest.mark.parametrize(
    ("wanted", "scans", "expected"),
    [
        ((0.8, 0.1, 0.1), 40, [32, 4, 4]),
        ((0.8, 0.1, 0.1), 16, [13, 1, 2]),
        ((0.5, 0.25, 0.25), 414, [207, 104, 103]),
        ((1.0, 0.0, 0.0), 7, [7, 0, 0]),
        ((0.5, 0, 0.5), 4, [2, 0, 2]),
        ((0.5, 0.1, 0.1), 10, [5, 1, 1]),
        ((1 / 3, 1 / 3, 1 / 3), 9, [3, 3, 3]),
    ],
)
def test_fractions(wanted, scans, expected):
    assert lengths(parts(people(*[1] * scans), wanted)) == expected


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ((30, 8, 3), "41 scans together, but the cohort has 40"),
        ((0.8, 0.2, 0.1), "more than 1"),
        ((20.0, 10, 10), "more than 1"),
        ((0.5, 0.5), "needs three"),
        ((20, -1, 10), "needs three"),
    ],
)
def test_impossible_splits(wanted, words):
    with pytest.raises(errors.UserError, match="data.split") as caught:
        parts(people(*[1] * 40), wanted)
    assert words in str(caught.value)


def test_counts_that_whole_people_cannot_meet_are_reported(caplog):
    split = parts(people(3, 3, 3, 3, 3), (7, 3, 3))
    assert lengths(split) == [6, 3, 3]
    assert "train part gets 6 scans instead of 7" in caplog.text
    # Greedily taking whoever fits would miss the exact sum.
    for seed in range(20):
        assert lengths(parts(people(3, 2, 2, 9), (4, 9, 3), seed)) == [4, 9, 3]


def test_a_possible_split_is_found(caplog):
    for seed in range(20):
        scans = people(2, 1, 1, 2, 1, 1)
        assert lengths(parts(scans, (4, 1, 1), seed)) == [4, 1, 1]
        assert lengths(parts(scans, (4, 2, 2), seed)) == [4, 2, 2]
        assert lengths(parts(people(3, 1, 3, 1, 2), (6, 1, 3), seed)) == [6, 1, 3]
    assert not caplog.records
    # Rather too many than nobody, as long as there are people.
    assert lengths(parts(people(2, 2, 2, 2), (4, 1, 1))) == [4, 2, 2]


def test_remaining_people_go_to_the_last_part():
    split = parts(people(4, 4, 4, 4, 1), (0.5, 0.25, 0.25))
    assert sum(lengths(split)) == 17


def test_seed_and_names_alone_decide():
    scans = people(*[1, 2, 1, 3] * 10)
    split = parts(scans, (35, 20, 15))
    assert split == parts(scans, (35, 20, 15))
    backwards = parts(scans[::-1], (35, 20, 15))
    assert {k: set(v) for k, v in backwards.items()} == {
        k: set(v) for k, v in split.items()
    }
    assert split["train"] == sorted(split["train"])  # in the cohort's order
    seeds = [tuple(parts(scans, (35, 20, 15), seed)["test"]) for seed in range(10)]
    assert len(set(seeds)) == 10
    drawn = collections.Counter(
        scan.person
        for seed in range(200)
        for scan in parts(people(*[1] * 10), (5, 3, 2), seed)["test"]
    )
    assert len(drawn) == 10 and max(drawn.values()) < 80  # 40 each are expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=25),
    st.tuples(st.integers(0, 25), st.integers(0, 25), st.integers(0, 25)),
    st.integers(0, 5),
)
def test_no_person_is_in_two_parts(scans_of, wanted, seed):
    scans = people(*scans_of)
    if sum(wanted) > len(scans):
        return
    split = parts(scans, wanted, seed)
    where = collections.defaultdict(set)
    for part, members in split.items():
        for scan in members:
            where[scan.person].add(part)
    assert all(len(value) == 1 for value in where.values())
    subjects = [scan.subject for members in split.values() for scan in members]
    assert len(subjects) == len(set(subjects))
    for members in split.values():  # whole people
        for person in {scan.person for scan in members}:
            assert [s for s in members if s.person == person] == [
                s for s in scans if s.person == person
            ]
    # The first part is as near as any set of people comes, and all are exact if they
    # can be.
    sums, triples = {0}, {(0, 0, 0)}
    for count in scans_of:
        sums |= {total + count for total in sums}
        grown = [
            tuple(n + count * (i == part) for i, n in enumerate(triple))
            for triple in triples
            for part in range(3)
        ]
        triples |= {t for t in grown if all(map(operator.le, t, wanted))}
    if sum(wanted[1:]):
        nearest = min(abs(total - wanted[0]) for total in sums)
        assert abs(len(split["train"]) - wanted[0]) == nearest
    assert (wanted in triples) == (lengths(split) == list(wanted))


def test_the_split_of_a_manifest_wins(caplog):
    scans = people(1, 1, 2, 1)
    assigned = ["test", "train", "validation", "validation", ""]
    scans = [s._replace(split=part) for s, part in zip(scans, assigned, strict=True)]
    split = parts(scans, (1, 0, 0))
    assert lengths(split) == [1, 2, 1] and split["test"] == scans[:1]
    assert "1 scans have no split" in caplog.text
    scans[3] = scans[3]._replace(split="test")
    with pytest.raises(errors.UserError, match="person 0002 in two parts"):
        parts(scans, (1, 0, 0))


def test_people_are_split_by_their_names(tmp_path):
    touch(tmp_path, *(f"sub-{i:02d}_T1w.nii.gz" for i in range(1, 13)))
    split = (r"sub-0\d", r"sub-1[01]", "sub-12")
    config = configuration("bids", tmp_path, split=split)
    parts = cohort.split(cohort.read(config), config)
    counts = [len(parts[part]) for part in cohort.PARTS]
    assert counts == [9, 2, 1]
    assert parts["test"][0].subject == "sub-12"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (("sub-.*", "sub-02", ""), "puts sub-02 into train and validation"),
        (("sub-(", "a", "b"), "not a regular expression"),
        (("sub-01", 1, 1), "three counts, fractions or regular expressions"),
    ],
)
def test_invalid_expressions_for_a_split(tmp_path, wanted, words):
    touch(tmp_path, "sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz")
    config = configuration("bids", tmp_path, split=wanted)
    scans = cohort.read(config)
    with pytest.raises(errors.UserError, match=words):
        cohort.split(scans, config)
