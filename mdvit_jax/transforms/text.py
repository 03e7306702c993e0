"""A plain 4×4 of numbers: fixed → moving, world RAS+ mm; FSL writes its own so too."""

import io
import warnings

import numpy as np


def encode(matrix: np.ndarray) -> str:
    """4×4 as four lines."""
    return "".join(numbers(row) + "\n" for row in matrix)


def decode(text: str) -> np.ndarray:
    """Four lines as 4×4; ValueError if there is something else."""
    with warnings.catch_warnings(action="ignore"):  # that there are no numbers
        matrix = np.loadtxt(io.StringIO(text), ndmin=2)
    if matrix.shape != (4, 4):
        rows, columns = matrix.shape
        raise ValueError(f"it is {rows}×{columns}, not 4×4")
    return matrix


def numbers(values: np.ndarray) -> str:
    """17 digits bring the same float64 back."""
    return " ".join(f"{v:.17g}" for v in values)
