"""How bright each tissue is: the contrasts of MRI and CT, and random ones.

Values run from 0 to 1 and are typical, not exact: a scan's are drawn around them.
"""

import numpy as np

from mdvit_jax.data import label_maps

# Per tissue of `label_maps.TISSUES`, in its order: T1, T2, FLAIR, PD, EPI, CT. That of
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

NAMES = ("T1", "T2", "FLAIR", "PD", "EPI", "CT", "random")
CT, RANDOM = NAMES.index("CT"), NAMES.index("random")
MEANS = np.array([_VALUES[name] for name in label_maps.TISSUES], np.float32).T
FAT = np.array(_FAT, np.float32)
SOFT_TISSUE = list(label_maps.TISSUES).index("soft tissue")
AIR = [list(label_maps.TISSUES).index(name) for name in ("air", "air in the head")]
FLUID = list(label_maps.TISSUES).index("fluid")
# What the loss compares: the brain as T1 shows it, and nothing else.
STANDARD = np.where(
    label_maps.IN_BRAIN | (label_maps.NUMBERS == 24) | (label_maps.NUMBERS == 514),
    MEANS[NAMES.index("T1")][label_maps.TISSUE_OF_LABEL],
    0,
).astype(np.float32)
