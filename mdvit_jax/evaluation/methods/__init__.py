"""What can align a pair of conformed scans, one file for each.

To add a method, write a file like `simpleitk.py`, whose `create()` makes a `Method`,
and name the file in `CLASSICAL`. What it needs is imported when it is asked for.
"""

from mdvit_jax.evaluation.methods.method import (
    CLASSICAL,
    Align,
    Method,
    classical,
    missing,
    of_world,
)
from mdvit_jax.evaluation.methods.simple import centres_of_mass, initial
from mdvit_jax.evaluation.methods.trained_network import aligner, network

__all__ = [
    "CLASSICAL",
    "Align",
    "Method",
    "aligner",
    "centres_of_mass",
    "classical",
    "initial",
    "missing",
    "network",
    "of_world",
]
