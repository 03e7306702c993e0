"""The tables of regions against the protocols' own lists of names."""

import csv
import re

import numpy as np
import pytest
from nibabel import nifti1

from mdvit_jax import errors
from mdvit_jax.evaluation import regions

# Names in Neuromorphometrics' list, without the side.
NEUROMORPHOMETRICS_NAMES = {
    "cerebellum cortex": {
        "Cerebellum Exterior",
        "Cerebellar Vermal Lobules I-V",
        "Cerebellar Vermal Lobules VI-VII",
        "Cerebellar Vermal Lobules VIII-X",
    },
    "brain stem": {"Brain Stem"},
    "cerebellum white matter": {"Cerebellum White Matter"},
    "thalamus": {"Thalamus Proper"},
    "putamen": {"Putamen"},
    "lateral ventricle": {"Lateral Ventricle"},
    "caudate": {"Caudate"},
    "hippocampus": {"Hippocampus"},
    "pallidum": {"Pallidum"},
    "amygdala": {"Amygdala"},
    "4th ventricle": {"4th Ventricle"},
    "3rd ventricle": {"3rd Ventricle"},
}


# FreeSurferColorLUT.txt and seg35_labels.txt: region → left and right, or middle.
BY_SIDE = {
    "freesurfer": {
        "Lateral-Ventricle": (4, 43), "Cerebellum-White-Matter": (7, 46),
        "Cerebellum-Cortex": (8, 47), "Thalamus": (10, 49), "Caudate": (11, 50),
        "Putamen": (12, 51), "Pallidum": (13, 52), "3rd-Ventricle": (14,),
        "4th-Ventricle": (15,), "Brain-Stem": (16,), "Hippocampus": (17, 53),
        "Amygdala": (18, 54),
    },
    "neurite_oasis": {
        "Lateral-Ventricle": (3, 22), "Cerebellum-White-Matter": (5, 24),
        "Cerebellum-Cortex": (6, 25), "Thalamus": (7, 26), "Caudate": (8, 27),
        "Putamen": (9, 28), "Pallidum": (10, 29), "3rd-Ventricle": (11,),
        "4th-Ventricle": (12,), "Brain-Stem": (13,), "Hippocampus": (14, 30),
        "Amygdala": (15, 31),
    },
}  # fmt: skip


@pytest.mark.parametrize("scheme", BY_SIDE)
def test_values_are_those_of_the_protocols_names(scheme):
    named = {name.replace("-", " ").lower(): v for name, v in BY_SIDE[scheme].items()}
    assert regions.label_values(scheme) == named


@pytest.mark.parametrize("scheme", regions.SCHEMES)
def test_a_label_belongs_to_one_region_and_is_not_background(scheme):
    values = [v for region in regions.label_values(scheme).values() for v in region]
    assert len(values) == len(set(values)) and min(values) > 0


def test_which_protocols_draw_the_papers_regions():
    for scheme in ("freesurfer", "neurite_oasis", "neuromorphometrics"):
        assert tuple(regions.label_values(scheme)) == regions.PAPER_REGIONS
        assert regions.missing_regions(scheme) == ()
    assert regions.missing_regions("lpba40") == (
        "cerebellum cortex",
        "cerebellum white matter",
        "thalamus",
        "lateral ventricle",
        "pallidum",
        "amygdala",
        "4th ventricle",
        "3rd ventricle",
    )
    assert regions.missing_regions("harvard_oxford") == (
        "cerebellum cortex",
        "cerebellum white matter",
        "4th ventricle",
        "3rd ventricle",
    )
    assert regions.missing_regions("tissue") == regions.PAPER_REGIONS
    assert list(regions.label_values("tissue").values()) == [(1,), (2,), (3,)]


@pytest.mark.parametrize(
    ("scheme", "offset", "midline"),
    [("neurite_oasis", None, 3), ("harvard_oxford", None, 1), ("lpba40", 1, 2)],
)
def test_every_region_off_the_midline_has_two_sides(scheme, offset, midline):
    table = regions.label_values(scheme)
    pairs = [values for values in table.values() if len(values) == 2]
    assert len(table) - len(pairs) == midline
    if offset:
        assert all(right - left == offset for left, right in pairs)


def test_an_unknown_scheme_suggests_the_nearest():
    with pytest.raises(errors.UserError, match="Did you mean 'freesurfer'"):
        regions.label_values("FreeSurf")
    with pytest.raises(errors.UserError, match="Did you mean 'neuromorphometrics'"):
        regions.missing_regions("neuromorphometric")


def test_neuromorphometrics_names(real_data):
    with open(real_data / "oasis1_malf/labels.csv", newline="") as file:
        names = {int(r["Label Number"]): r["Label Name"] for r in csv.DictReader(file)}
    for region, values in regions.label_values("neuromorphometrics").items():
        unsided = {re.sub("^(Left|Right) ", "", names[v]) for v in values}
        assert unsided == NEUROMORPHOMETRICS_NAMES[region]
        sided = [names[v] for v in values if names[v].startswith(("Left ", "Right "))]
        assert len(sided) in (0, 2)  # both or none


def test_every_neuromorphometrics_region_is_in_a_real_scan(real_data):
    path = sorted((real_data / "oasis1_malf").glob("*_glm.nii.gz"))[0]
    labels = np.asarray(nifti1.load(path).dataobj)
    present = set(np.unique(labels).tolist())
    table = regions.label_values("neuromorphometrics")
    assert all(set(values) <= present for values in table.values())
    volume = {r: int(np.isin(labels, v).sum()) for r, v in table.items()}  # mm³
    assert 80_000 < volume["cerebellum cortex"] < 160_000
    assert 10_000 < volume["brain stem"] < 30_000
    assert 4_000 < volume["hippocampus"] < 12_000
    assert volume["3rd ventricle"] < volume["lateral ventricle"]
