"""NTG in both forms; local NCC by dense convolutions and by box sums.

    python -m benchmarks.losses [--size 128] [--batch 1] [--output losses.json]

The reference form of NTG takes 5 s forward and 14 s with its gradient at 128³ on 2
cores; NCC's dense convolution, which would take minutes, is tried at half the size.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import Array, lax

from benchmarks import timing
from mdvit_jax import losses
from mdvit_jax.losses import sobel
from mdvit_jax.losses.ncc import EPSILON


def dense_ncc(fixed: Array, warped: Array, *, window: int) -> Array:
    """Local NCC in its usual form: five convolutions with a kernel of ones."""
    ones = jnp.ones((1, 1, *[window] * 3), fixed.dtype)

    def windowed(volume):
        summed = lax.conv_general_dilated(
            volume[None, None], ones, window_strides=(1, 1, 1), padding="SAME"
        )
        return summed[0, 0]

    sum_f, sum_w = windowed(fixed), windowed(warped)
    cross = windowed(fixed * warped) - sum_f * sum_w / window**3
    variance_f = windowed(fixed * fixed) - sum_f * sum_f / window**3
    variance_w = windowed(warped * warped) - sum_w * sum_w / window**3
    return 1 - (cross * cross / (variance_f * variance_w + EPSILON)).mean()


def _with_gradient(loss: Callable) -> Callable:
    return jax.value_and_grad(lambda f, w: loss(f, w).sum(), argnums=1)


def main() -> None:
    """Compare the forms, value alone and value with gradient to the warped image."""
    options = timing.arguments(__doc__).parse_args()
    key = jax.random.key(0)
    pair = jax.random.uniform(key, (2, options.batch, *[options.size] * 3))
    inputs, half = [pair[0], pair[1]], slice(options.size // 2)
    halved = [volume[:, half, half, half] for volume in inputs]
    cases: dict[str, tuple[Mapping[str, Callable], list[Array]]] = {
        f"ntg, stride {stride}": (
            {
                form: functools.partial(losses.ntg, stride=stride, form=form)
                for form in sobel.FORMS
            },
            inputs,
        )
        for stride in (1, 4)
    }
    box_sums = functools.partial(losses.ncc, window=7)
    dense = jax.vmap(functools.partial(dense_ncc, window=7))
    both = {"dense convolution": dense, "box sums": box_sums}
    cases["ncc, window 7, half the size"] = both, halved
    cases["ncc, window 7"] = {"box sums": box_sums}, inputs
    strided = functools.partial(losses.ntg, stride=4)
    pyramid = functools.partial(losses.similarity_pyramid, strided)
    cases["pyramid of ntg, stride 4"] = {"default": pyramid}, inputs
    rate = timing.copy_rate(options.repeats)
    print(f"limit: inputs and outputs once, copies {rate / 1e9:.1f} GB/s")
    timing.print_header()
    rows = []
    for name, (forms, images) in cases.items():
        with_gradient = {form: _with_gradient(loss) for form, loss in forms.items()}
        for what, kind in ((name, forms), (f"{name}, gradient", with_gradient)):
            limit = timing.least_seconds(next(iter(kind.values())), images, rate)
            rows += timing.compare(what, kind, images, options.repeats, limit=limit)
    timing.report(rows, options.output)


if __name__ == "__main__":
    main()
