"""Affine transforms: read, written, taken apart, and applied to images.

In this package a transform is one 4×4 float64 matrix `fixed_to_moving` in world RAS+
millimetres: it takes a point of the fixed image's space to the point of the moving
image's space that shows the same anatomy, so that the warped image at x is the moving
image at `fixed_to_moving` · x. Each file has a convention of its own:

| format | file | its matrix |
|---|---|---|
| itk | .tfm (text), .mat (binary), .h5 (read only) | fixed → moving, LPS+ mm |
| fsl | .mat (text) | moving → fixed, scaled voxels of both images |
| lta | .lta (FreeSurfer) | moving → fixed, RAS+ mm or voxels, with both grids |
| x5 | .x5 (HDF5) | fixed → moving, RAS+ mm |
| text | .txt (4×4) | fixed → moving, RAS+ mm |
"""

from mdvit_jax.io.grid import Grid
from mdvit_jax.transforms.application import apply
from mdvit_jax.transforms.averaging import average, power
from mdvit_jax.transforms.decomposition import Components, decompose
from mdvit_jax.transforms.displacement import DisplacementField
from mdvit_jax.transforms.files import (
    FORMATS,
    format_of_ending,
    read,
    read_chain,
    write,
)
from mdvit_jax.transforms.resampling import resample, resample_labels

__all__ = [
    "FORMATS",
    "Components",
    "DisplacementField",
    "Grid",
    "apply",
    "average",
    "decompose",
    "format_of_ending",
    "power",
    "read",
    "read_chain",
    "resample",
    "resample_labels",
    "write",
]
