"""The forms of the network's operations beside each other (`geometry.forms`).

    python -m benchmarks.forms [--size 128] [--batch 1] [--dtype bfloat16]
        [--only attention depthwise same strided] [--output FILE]

At the shapes of a training step of the default network, forward and with the gradients.
`losses` and `warp` do so for NTG, NCC and warps. The reference of the strided
convolution has a gradient that a CPU does not finish above 64³.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks import timing
from configs import default
from mdvit_jax.models.ops import attention, convolution


def main() -> None:
    """Compare the forms of each operation, and print a row for each."""
    parser = timing.arguments(__doc__)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--only", nargs="+", choices=OPERATIONS, default=[*OPERATIONS])
    options = parser.parse_args()
    model, dtype = default.get_config().model, jnp.dtype(options.dtype)
    side = options.size // model.strides[-1]
    rate = timing.copy_rate(options.repeats)
    print(
        f"{options.size}³, batch {options.batch}, {options.dtype}; limit: inputs and "
    )
    print(f"outputs once, copies {rate / 1e9:.1f} GB/s")
    timing.print_header()
    rows: list[dict[str, Any]] = []
    for operation in options.only:
        cases = OPERATIONS[operation](model, options.batch, side, dtype)
        for what, (forms, inputs) in cases.items():
            gradients = {name: with_gradients(form) for name, form in forms.items()}
            kinds = {what: forms}
            if "gradient" not in what:
                kinds[f"{what}, gradient"] = gradients
            for kind, forms_by_name in kinds.items():
                first = next(iter(forms_by_name.values()))
                limit = timing.least_seconds(first, inputs, rate)
                rows += timing.compare(
                    kind, forms_by_name, inputs, options.repeats, limit=limit
                )
    timing.report(rows, options.output)


Cases = dict[str, tuple[Mapping[str, Callable[..., Any]], tuple[Array, ...]]]


def with_gradients(function: Callable) -> Callable:
    """The function with the gradients of its output's sum to all inputs."""

    def run(*inputs):
        value, pull = jax.vjp(function, *inputs)
        return value, pull(jnp.ones_like(value))

    return run


def noise(*shape: int, dtype: Any = jnp.float32) -> Array:
    """Small random numbers, the same for the same shape."""
    return (0.1 * jax.random.normal(jax.random.key(0), shape)).astype(dtype)


def attention_cases(model, batch: int, side: int, dtype) -> Cases:
    shape = batch, model.heads, side**3, model.embedding // model.heads
    forms = {
        form: functools.partial(attention.attend, form=form) for form in attention.FORMS
    }
    inputs = (noise(*shape, dtype=dtype),) * 3
    return {"attention": (forms, inputs)}


def depthwise_cases(model, batch: int, side: int, dtype) -> Cases:
    channels = model.mlp_ratio * model.embedding
    features, kernel = (
        noise(batch, side, side, side, channels),
        noise(3, 3, 3, channels),
    )
    cases: Cases = {}
    for dilation in (1, max(model.dilations)):
        forms = {
            form: functools.partial(convolution.depthwise, dilation=dilation, form=form)
            for form in ("reference", "slices")
        }
        cases[f"depthwise, dilation {dilation}"] = forms, (features, kernel)
    padded = noise(batch, *[side + 2] * 3, channels)
    sums = {
        form: functools.partial(function, dilation=1)
        for form, function in convolution.KERNEL_GRADIENTS.items()
    }
    cases["depthwise, gradient to the kernel"] = sums, (padded, features)
    return cases


def same_cases(model, batch: int, side: int, dtype) -> Cases:
    width = model.embedding
    forms = {
        form: functools.partial(convolution.same, dtype, form=form)
        for form in ("reference", "taps")
    }
    inputs = noise(batch, side, side, side, width), noise(3, 3, 3, width, width)
    return {"3³ between stages": (forms, inputs)}


def strided_cases(model, batch: int, side: int, dtype) -> Cases:
    cases: Cases = {}
    for patch, stride in zip(model.patches, model.strides, strict=True):
        forms = {
            form: functools.partial(convolution.strided, stride=stride, form=form)
            for form in ("reference", "blocks")
        }
        edge = side * stride
        inputs = (
            noise(batch, edge, edge, edge, 2),
            noise(*[patch] * 3, 2, model.embedding),
        )
        cases[f"patch embedding, {patch}³ / {stride}"] = forms, inputs
    return cases


OPERATIONS = {
    "attention": attention_cases,
    "depthwise": depthwise_cases,
    "same": same_cases,
    "strided": strided_cases,
}


if __name__ == "__main__":
    main()
