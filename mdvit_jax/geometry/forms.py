"""Which form of a computation is taken where: one table for all platforms.

A computation may be written in several forms that give the same numbers: "reference",
the definition in JAX's own words, and faster ones. "auto" takes the form that a
benchmark measured to be the fastest on the platform in use.
"""

import contextlib
from collections.abc import Collection, Iterator

import jax
from jax.extend import backend

# Computation → platform ("cpu", "cuda", "rocm", "tpu") → fastest form, forward and
# gradient at 128³, by `python -m benchmarks.losses` (sobel), `benchmarks.warp` (warp)
# and `benchmarks.forms` (the others). Other platforms take DEFAULT.
DEFAULT = {
    "sobel": "slices",
    "warp": "gather",
    "attention": "whole",
    "depthwise": "slices",
    "depthwise gradient": "sums",
    "dense convolution": "reference",
    "strided convolution": "blocks",
}
FASTEST: dict[str, dict[str, str]] = {
    "sobel": {"cpu": "slices"},
    "warp": {"cpu": "gather", "tpu": "blocks"},
    "attention": {"cpu": "blocks", "cuda": "cudnn"},
    "depthwise": {"cpu": "slices"},
    "depthwise gradient": {"cpu": "rows"},
    "dense convolution": {"cpu": "taps"},
    "strided convolution": {"cpu": "blocks"},
}

_traced_for: list[str] = []


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
        return FASTEST[computation].get(platform(), DEFAULT[computation])
    if form not in forms:
        names = ", ".join(f'"{name}"' for name in ("auto", *forms))
        raise ValueError(f'form is one of {names}, not "{form}"')
    return form


def platform() -> str:
    """Return what is traced for: "cpu", "cuda", "rocm", "tpu" or another."""
    if _traced_for:
        return _traced_for[-1]
    name = jax.default_backend()
    if name != "gpu":
        return name
    return "rocm" if "rocm" in backend.get_backend().platform_version else "cuda"


@contextlib.contextmanager
def trace_for(platform: str) -> Iterator[None]:
    """Take the forms of a platform that this machine need not have.

    Within the block programs can be traced, to be lowered or compiled for it.
    """
    _traced_for.append(platform)
    try:
        yield
    finally:
        _traced_for.pop()
