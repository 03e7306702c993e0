"""A plain 4×4 of numbers: fixed → moving, world RAS+ mm (or a matrix of FSL)."""

import numpy as np


def encode(matrix: np.ndarray) -> str:
    """4×4 as four lines."""
    return "".join(numbers(row) + "\n" for row in matrix)


def decode(text: str) -> np.ndarray:
    """Sixteen numbers in four lines as 4×4, between blanks, commas or semicolons.

    A number may be one of C99 in hexadecimal (0x1.8p+1), and a "#" begins a comment.

    Raises:
        ValueError: the text is something else.
    """
    rows = []
    for line in text.splitlines():
        words = line.partition("#")[0].replace(",", " ").replace(";", " ").split()
        if words:
            rows.append([_number(word) for word in words])
    if len(rows) != 4 or any(len(row) != 4 for row in rows):
        lengths = "×".join(str(n) for n in sorted({len(row) for row in rows})) or "0"
        raise ValueError(f"it has {len(rows)} rows of {lengths} numbers and is not 4×4")
    return np.array(rows)


def numbers(values: np.ndarray) -> str:
    """Values [n] as text, with 17 digits each, which restore the same float64."""
    return " ".join(f"{v:.17g}" for v in values)


def _number(word: str) -> float:
    if "0x" in word.lower():
        return float.fromhex(word)
    return float(word)
