"""Which label values make up the paper's 12 regions, for each labelling protocol.

Left and right are joined. Every value comes from the protocol's own list, whose link
stands above the table. A protocol that does not draw a region leaves it out, and
`missing_regions` names it. To add a protocol, add a table.
"""

import difflib
from collections.abc import Mapping

from mdvit_jax import errors

# Paper, Fig. 5, in its order.
PAPER_REGIONS = (
    "cerebellum cortex",
    "brain stem",
    "cerebellum white matter",
    "thalamus",
    "putamen",
    "lateral ventricle",
    "caudate",
    "hippocampus",
    "pallidum",
    "amygdala",
    "4th ventricle",
    "3rd ventricle",
)

# FreeSurfer's aseg, and the same values in aparc+aseg and wmparc:
# https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/AnatomicalROI/FreeSurferColorLUT
# The temporal horns (5, 44) are a label of their own and not counted as ventricle.
_FREESURFER = {
    "cerebellum cortex": (8, 47),
    "brain stem": (16,),
    "cerebellum white matter": (7, 46),
    "thalamus": (10, 49),
    "putamen": (12, 51),
    "lateral ventricle": (4, 43),
    "caudate": (11, 50),
    "hippocampus": (17, 53),
    "pallidum": (13, 52),
    "amygdala": (18, 54),
    "4th ventricle": (15,),
    "3rd ventricle": (14,),
}

# neurite-OASIS, seg35 (its file seg35_labels.txt), also Learn2Reg's OASIS task:
# https://github.com/adalca/medical-datasets/blob/master/neurite-oasis.md
_NEURITE_OASIS = {
    "cerebellum cortex": (6, 25),
    "brain stem": (13,),
    "cerebellum white matter": (5, 24),
    "thalamus": (7, 26),
    "putamen": (9, 28),
    "lateral ventricle": (3, 22),
    "caudate": (8, 27),
    "hippocampus": (14, 30),
    "pallidum": (10, 29),
    "amygdala": (15, 31),
    "4th ventricle": (12,),
    "3rd ventricle": (11,),
}

# LPBA40's own 56 labels: https://resource.loni.usc.edu/resources/atlases-downloads/
# It draws the cerebellum as one, so it stands beside the paper's regions.
_LPBA40 = {
    "cerebellum": (181,),
    "brain stem": (182,),
    "putamen": (163, 164),
    "caudate": (161, 162),
    "hippocampus": (165, 166),
}

# Neuromorphometrics (general + BrainCOLOR), as in the MICCAI 2012 challenge:
# http://www.neuromorphometrics.com. The vermis (71 to 73) is drawn apart here, but
# belongs to the cortex in FreeSurfer's protocol, so it is joined to it.
_NEUROMORPHOMETRICS = {
    "cerebellum cortex": (38, 39, 71, 72, 73),
    "brain stem": (35,),
    "cerebellum white matter": (40, 41),
    "thalamus": (59, 60),
    "putamen": (57, 58),
    "lateral ventricle": (51, 52),
    "caudate": (36, 37),
    "hippocampus": (47, 48),
    "pallidum": (55, 56),
    "amygdala": (31, 32),
    "4th ventricle": (11,),
    "3rd ventricle": (4,),
}

# FSL's Harvard-Oxford subcortical maximum-probability maps (the value is one more than
# the index in HarvardOxford-Subcortical.xml): https://fsl.fmrib.ox.ac.uk/fsl/docs
_HARVARD_OXFORD = {
    "brain stem": (8,),
    "thalamus": (4, 15),
    "putamen": (6, 17),
    "lateral ventricle": (3, 14),
    "caudate": (5, 16),
    "hippocampus": (9, 19),
    "pallidum": (7, 18),
    "amygdala": (10, 20),
}

# The three tissues of the synthetic cohort and of the MNI152 template.
_TISSUE = {
    "cerebrospinal fluid": (1,),
    "grey matter": (2,),
    "white matter": (3,),
}

_TABLES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "freesurfer": _FREESURFER,
    "neurite_oasis": _NEURITE_OASIS,
    "lpba40": _LPBA40,
    "neuromorphometrics": _NEUROMORPHOMETRICS,
    "harvard_oxford": _HARVARD_OXFORD,
    "tissue": _TISSUE,
}
SCHEMES = tuple(_TABLES)


def label_values(scheme: str) -> Mapping[str, tuple[int, ...]]:
    """Region → its label values, in the paper's order.

    Raises:
        UserError: the scheme is unknown.
    """
    if scheme not in _TABLES:
        near = difflib.get_close_matches(scheme.lower(), SCHEMES, n=1, cutoff=0.0)
        raise errors.UserError(
            f"data.label_scheme is {scheme!r}; choose one of {', '.join(SCHEMES)}. "
            f"Did you mean {near[0]!r}?"
        )
    return _TABLES[scheme]


def missing_regions(scheme: str) -> tuple[str, ...]:
    """Those of the paper's 12 regions that the scheme does not draw, in its order."""
    drawn = label_values(scheme)
    return tuple(region for region in PAPER_REGIONS if region not in drawn)
