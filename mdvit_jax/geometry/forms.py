"""Which form of a computation is taken where: one table for all platforms.

A computation may be written in several forms that give the same numbers: "reference",
the definition in JAX's own words, and a faster one. "auto" takes the form that a
benchmark measured to be the fastest on the platform in use.
"""

from collections.abc import Collection

import jax

# Computation → platform → fastest form, forward and gradient at 128³, by
# `python -m benchmarks.losses` (sobel) and `python -m benchmarks.warp` (warp). Other
# platforms take DEFAULT.
DEFAULT = {"sobel": "slices", "warp": "gather"}
FASTEST: dict[str, dict[str, str]] = {
    "sobel": {"cpu": "slices"},
    "warp": {"cpu": "gather"},
}


def choose_form(computation: str, form: str, forms: Collection[str]) -> str:
    """Return the form to take: `form` itself, or the platform's fastest for "auto".

    Args:
        computation: a row of the table, such as "sobel".
        form: "auto" or one of `forms`.
        forms: all forms in which the computation is written.

    Raises:
        ValueError: there is no such form.
    """
    if form == "auto":
        return FASTEST[computation].get(jax.default_backend(), DEFAULT[computation])
    if form not in forms:
        names = ", ".join(f'"{name}"' for name in ("auto", *forms))
        raise ValueError(f'form is one of {names}, not "{form}"')
    return form
