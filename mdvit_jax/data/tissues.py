"""The tissues of a head: the labels that consist of them, and how bright each is.

Brightness runs from 0 to 1 and is typical of a contrast, not exact: that of a scan is
drawn around it.
"""

import numpy as np

# Tissues, and the numbers of the labels that consist of them. Left and right have
# different labels, but the same tissue.
TISSUES = {
    "air": (0,),
    "white matter": (2, 41),
    "cortex": (3, 42),
    "fluid": (24,),
    "ventricles": (4, 43, 5, 44, 14, 15, 72),
    "cerebellar white matter": (7, 46),
    "cerebellar cortex": (8, 47),
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "brain stem": (16,),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "accumbens": (26, 58),
    "ventral diencephalon": (28, 60),
    "vessels": (30, 62),
    "choroid plexus": (31, 63, 136, 163, 137, 164),
    "lesions": (25, 57, 77),
    "optic chiasm": (85,),
    "air in the head": (502,),
    "eyes": (506,),
    "soft tissue": (507,),
    "eye muscles": (508,),
    "mucosa": (509,),
    "skin": (511,),
    "spinal cord": (512,),
    "veins": (514,),
    "cortical bone": (515,),
    "cancellous bone": (516,),
    "optic nerves": (530,),
}
# The number of each label of a `label_maps.Head`, and its tissue as index in `TISSUES`.
NUMBERS = np.array([n for numbers in TISSUES.values() for n in numbers])
TISSUE_OF_LABEL = np.array(
    [i for i, numbers in enumerate(TISSUES.values()) for _ in numbers]
)
_OUTSIDE_BRAIN = ("air", "fluid")  # and all numbers from 500 on
IN_BRAIN = (NUMBERS < 500) & ~np.isin(
    TISSUE_OF_LABEL, [list(TISSUES).index(name) for name in _OUTSIDE_BRAIN]
)

# Per tissue of `TISSUES`, in its order: T1, T2, FLAIR, PD, EPI, CT. That of
# CT is (HU + 1024) / 2048.
_VALUES = {
    "air": (0.00, 0.00, 0.00, 0.00, 0.00, 0.000),
    "white matter": (0.80, 0.33, 0.42, 0.60, 0.42, 0.515),
    "cortex": (0.55, 0.48, 0.55, 0.75, 0.60, 0.519),
    "fluid": (0.15, 0.95, 0.10, 0.82, 0.90, 0.504),
    "ventricles": (0.14, 1.00, 0.08, 0.82, 0.95, 0.504),
    "cerebellar white matter": (0.78, 0.34, 0.43, 0.60, 0.42, 0.515),
    "cerebellar cortex": (0.54, 0.47, 0.52, 0.73, 0.58, 0.519),
    "thalamus": (0.66, 0.41, 0.48, 0.68, 0.48, 0.518),
    "caudate": (0.58, 0.44, 0.52, 0.72, 0.52, 0.519),
    "putamen": (0.61, 0.40, 0.48, 0.70, 0.46, 0.519),
    "pallidum": (0.73, 0.26, 0.38, 0.60, 0.28, 0.520),
    "brain stem": (0.74, 0.36, 0.43, 0.62, 0.40, 0.515),
    "hippocampus": (0.56, 0.50, 0.58, 0.75, 0.58, 0.518),
    "amygdala": (0.56, 0.49, 0.57, 0.74, 0.58, 0.518),
    "accumbens": (0.59, 0.44, 0.52, 0.72, 0.50, 0.518),
    "ventral diencephalon": (0.70, 0.35, 0.44, 0.64, 0.38, 0.517),
    "vessels": (0.40, 0.20, 0.25, 0.40, 0.20, 0.525),
    "choroid plexus": (0.35, 0.80, 0.40, 0.80, 0.80, 0.515),
    "lesions": (0.55, 0.75, 0.90, 0.80, 0.70, 0.511),
    "optic chiasm": (0.70, 0.40, 0.45, 0.62, 0.45, 0.515),
    "air in the head": (0.02, 0.02, 0.02, 0.02, 0.01, 0.002),
    "eyes": (0.20, 0.90, 0.12, 0.80, 0.80, 0.507),
    "soft tissue": (0.42, 0.18, 0.28, 0.50, 0.12, 0.527),
    "eye muscles": (0.45, 0.22, 0.30, 0.55, 0.20, 0.527),
    "mucosa": (0.48, 0.60, 0.55, 0.65, 0.30, 0.520),
    "skin": (0.60, 0.25, 0.35, 0.50, 0.08, 0.520),
    "spinal cord": (0.68, 0.38, 0.42, 0.62, 0.35, 0.515),
    "veins": (0.30, 0.15, 0.20, 0.35, 0.12, 0.528),
    "cortical bone": (0.07, 0.05, 0.06, 0.08, 0.03, 1.000),
    "cancellous bone": (0.50, 0.32, 0.38, 0.45, 0.08, 0.720),
    "optic nerves": (0.60, 0.40, 0.45, 0.60, 0.35, 0.515),
}
_FAT = (0.95, 0.60, 0.70, 0.75, 0.10, 0.451)  # as there is in soft tissue

CONTRASTS = ("T1", "T2", "FLAIR", "PD", "EPI", "CT", "random")
CT, RANDOM = CONTRASTS.index("CT"), CONTRASTS.index("random")
MEANS = np.array([_VALUES[name] for name in TISSUES], np.float32).T
FAT = np.array(_FAT, np.float32)
SOFT_TISSUE = list(TISSUES).index("soft tissue")
AIR = [list(TISSUES).index(name) for name in ("air", "air in the head")]
WITHIN_SKULL = np.unique(TISSUE_OF_LABEL[IN_BRAIN | (NUMBERS == 24)])
# What the loss compares: the brain as T1 shows it, and nothing else.
STANDARD = np.where(
    IN_BRAIN | np.isin(NUMBERS, (24, 514)), MEANS[0][TISSUE_OF_LABEL], 0
).astype(np.float32)


def label_index(number: int) -> int:
    """The index of a label's number in `NUMBERS`."""
    return int(np.flatnonzero(number == NUMBERS)[0])
