"""Which form of an operation is taken on a platform: one table for all.

All forms of an operation compute the same. "reference", where there is one, is its
definition by JAX's own functions; "auto" takes the form that the table names.
`python -m benchmarks.forms`, `benchmarks.losses` and `benchmarks.warp` time the forms
side by side, forward and with their gradients.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
from jax import Array
from jax.extend import backend

# Operation → platform → form; "" is every platform that is not named. The CPU's are
# measured, the TPU's warp and attention counted by its compiler
# (docs/performance.md). The remaining
# entries for accelerators are operations of XLA or NVIDIA, except in rows of one form.
FASTEST = {
    "warp": {"tpu": "blocks", "": "gather"},
    "sobel": {"": "slices"},
    "attention": {"cpu": "blocks", "cuda": "cudnn", "tpu": "flash", "": "whole"},
    "depthwise": {"": "slices"},
    "depthwise gradient": {"cpu": "rows", "": "sums"},
    "dense convolution": {"cpu": "taps", "": "reference"},
    "strided convolution": {"": "blocks"},
}

_tracing_for: list[str] = []


def choose_form(operation: str, form: str, forms: Collection[str]) -> str:
    """The form itself, or the platform's for "auto".

    Raises:
        ValueError: the operation has no such form.
    """
    if form == "auto":
        return fastest(operation)
    if form not in forms:
        names = ", ".join(f'"{name}"' for name in ("auto", *forms))
        raise ValueError(f'form is one of {names}, not "{form}"')
    return form


def fastest(operation: str) -> str:
    """The form that an operation takes on the platform that is traced for."""
    forms = FASTEST[operation]
    return forms.get(platform(), forms[""])


def multiplies_bfloat16() -> bool:
    """Whether products of bfloat16 matrices are what the platform is fastest at.

    TPUs, GPUs of AMD, and of NVIDIA from compute capability 8.0 (Ampere) on. A few CPUs
    have such instructions, too, but most emulate them.
    """
    if platform() == "cuda" and jax.default_backend() == "gpu":
        return float(jax.devices()[0].compute_capability) >= 8.0
    return platform() in ("cuda", "rocm", "tpu")


def platform() -> str:
    """What programs are traced for: "cpu", "cuda", "rocm", "tpu" or another."""
    if _tracing_for:
        return _tracing_for[-1]
    name = jax.default_backend()
    if name != "gpu":
        return name
    return "rocm" if "rocm" in backend.get_backend().platform_version else "cuda"


@contextlib.contextmanager
def tracing_for(platform: str) -> Iterator[None]:
    """Trace for a platform that this machine need not have, to compile for it here."""
    _tracing_for.append(platform)
    try:
        yield
    finally:
        _tracing_for.pop()


def on_each_device(kernel: Callable, *inputs: Array) -> Any:
    """Apply a kernel on every device to the whole of its inputs.

    The compiler cannot share a kernel out among the devices of a mesh axis, so each of
    them runs all of it.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if shared := set(mesh.axis_names) - set(mesh.manual_axes):
        kernel = jax.shard_map(
            kernel,
            in_specs=(jax.P(),) * len(inputs),
            out_specs=jax.P(),
            axis_names=shared,
            check_vma=False,
        )
    return kernel(*inputs)
