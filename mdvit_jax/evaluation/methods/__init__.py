"""Methods that align a pair of scans, one file for each.

To add a classical method, write a file like `simpleitk.py` (`NAME`, `describe` and
`align_images`), and name it in `CLASSICAL`. The packages that it needs are imported
only when it is used.
"""

from mdvit_jax.evaluation.methods.method import (
    CLASSICAL,
    AlignImages,
    AlignScans,
    Method,
    align_conformed,
    classical,
    import_classical,
    missing_package,
)
from mdvit_jax.evaluation.methods.simple import centres_of_mass, initial
from mdvit_jax.evaluation.methods.trained_network import aligner, network

__all__ = [
    "CLASSICAL",
    "AlignImages",
    "AlignScans",
    "Method",
    "align_conformed",
    "aligner",
    "centres_of_mass",
    "classical",
    "import_classical",
    "initial",
    "missing_package",
    "network",
]
