"""Where a training step goes: each part by itself, its share, and the limit it meets.

    python -m benchmarks.parts [--size 128] [--dtype float32] [--repeats 3]

The default network, batch 1. Each part runs as often as in a step, forward and with its
gradient, on arrays of a step's shapes; the last rows are their sum and the whole step,
compiled as one. The limit of a part is the longer of two times: its arithmetic at the
rate of products of large matrices in this dtype, and its arrays read and written once
at the rate of a copy, both measured here.
"""

import argparse
import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks import steps, timing
from configs import default
from mdvit_jax import geometry, losses, models
from mdvit_jax.models import attention, blocks, dense, msda
from mdvit_jax.training import augment, optimizer

_EDGE = 2048  # of the matrices, and of the copied array


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the step.

    Attributes:
        function: of the inputs.
        inputs: arrays, the first of the features or volumes.
        count: how often it runs in a step.
        gflop: of one forward run.
        learns: which inputs a step's gradient goes to.
    """

    function: Callable
    inputs: tuple
    count: int
    gflop: float
    learns: tuple[int, ...] = (0, 1)


def main() -> None:
    """Time all parts and the whole, and print a row of Markdown for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=128, help="voxels along each axis")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    given = parser.parse_args()
    config = default.get_config()
    config.data.size, config.model.compute_dtype = given.size, given.dtype
    dtype = jnp.dtype(given.dtype)
    flops, copied = machine(dtype, given.repeats)
    print(f"{given.size}³, {given.dtype}: large products {flops / 1e9:.0f} Gflop/s, ")
    print(f"copies {copied / 1e9:.1f} GB/s (read and written)\n")
    settings = {
        "data.size": str(given.size),
        "model.compute_dtype": given.dtype,
        "forward": "yes",
    }
    whole = steps.result(steps.run(settings))
    assert whole is not None  # it is alone, and so the first process
    print("| part | runs | forward (s) | with gradient (s) | share | limit (s) |")
    print("|---|---|---|---|---|---|", flush=True)
    total = [0.0, 0.0]
    found = parts(config, dtype)
    for name, part in found.items():
        once = timing.seconds(part.function, part.inputs, given.repeats)
        both = once
        if part.learns:
            both = timing.seconds(with_gradient(part), part.inputs, given.repeats)
        touched = sum(leaf.nbytes for leaf in jax.tree.leaves(part.inputs))
        touched += sum(
            math.prod(leaf.shape) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(jax.eval_shape(part.function, *part.inputs))
        )
        passes = 3 if part.learns else 1  # a gradient is two more, of each kind
        limit = passes * max(part.gflop * 1e9 / flops, touched / copied)
        print(
            f"| {name} | {part.count} | {part.count * once:.3f} | "
            f"{part.count * both:.3f} | {part.count * both / whole['step_s']:.0%} | "
            f"{part.count * limit:.3f} |",
            flush=True,
        )
        total = [total[0] + part.count * once, total[1] + part.count * both]
    print(f"| sum of the parts | | {total[0]:.2f} | {total[1]:.2f} | | |")
    arithmetic = sum(part.count * part.gflop for part in found.values())
    print(f"| the whole | | {whole['forward_s']:.2f} | {whole['step_s']:.2f} | | |")
    print(f"\n{arithmetic:.0f} Gflop forward, three times as much in a step")


def parts(config, dtype: jnp.dtype) -> dict[str, Part]:
    """The parts of a step at the configured size, heaviest kinds first."""
    model, size = config.model, config.data.size
    width, side = model.embedding, size // model.strides[-1]
    tokens, stages = side**3, len(model.patches)
    layers = stages * model.depth
    random = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return jnp.asarray(0.1 * random.normal(size=shape), jnp.float32)

    def module(layer, *inputs) -> tuple[Callable, tuple]:
        shapes = jax.eval_shape(layer.init, jax.random.key(0), *inputs)["params"]
        params = jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)
        return (lambda p, *x: layer.apply({"params": p}, *x)), (params, *inputs)

    features = normal(1, side, side, side, width)
    heads = [normal(1, model.heads, tokens, width // model.heads) for _ in range(3)]
    heads = [head.astype(dtype) for head in heads]
    hidden = model.mlp_ratio * width
    volume = jnp.asarray(random.random((1, size, size, size)), jnp.float32)
    ntg = functools.partial(losses.ntg, stride=config.loss.stride)
    found = {
        "attention, scores and sums": Part(
            attention.attend,
            tuple(heads),
            layers,
            4 * tokens**2 * width / 1e9,
            learns=(0, 1, 2),
        ),
        "attention, four linear maps": Part(
            functools.partial(dense.product, dtype),
            (features.reshape(-1, width), normal(width, width)),
            4 * layers,
            2 * tokens * width**2 / 1e9,
        ),
        "MLP with depthwise convolution": Part(
            *module(blocks.Mlp(model.mlp_ratio, 0.0, dtype), features, None),
            layers,
            (4 * tokens * width * hidden + 54 * tokens * hidden) / 1e9,
        ),
        "MSDA": Part(
            *module(msda.ChannelMsda(model.dilations, dtype), features),
            stages,
            3 * (2 * tokens * width**2 + 54 * tokens * width) / 1e9,
        ),
        "convolution between stages": Part(
            *module(blocks.Squeeze(dtype), features),
            stages - 1,
            2 * 27 * tokens * width**2 / 1e9,
        ),
    }
    for level, (patch, stride) in enumerate(
        zip(model.patches, model.strides, strict=True)
    ):
        edge = side * stride
        images = normal(1, edge, edge, edge, 2)
        layer = blocks.PatchEmbedding(width, patch, stride)
        gflop = 4 * tokens * patch**3 * width / 1e9
        found[f"patch embedding {level + 1}, {patch}³ / {stride}"] = Part(
            *module(layer, images), 1, gflop
        )
    matrix = geometry.affine_matrix(jnp.full((1, 12), 0.02))
    found["warp"] = Part(
        geometry.warp_affine, (volume, matrix), stages, 0.0, learns=(1,)
    )
    found["NTG pyramid"] = Part(
        lambda fixed, warped: losses.similarity_pyramid(ntg, fixed, warped),
        (volume, volume[:, ::-1]),
        1,
        0.0,
        learns=(1,),
    )
    keys = jax.random.split(jax.random.key(0), (1, 2))
    changes = augment.settings(config.augment)
    found["augmentation"] = Part(
        lambda fixed, moving: augment.augment(keys, fixed, moving, changes),
        (volume, volume),
        1,
        0.0,
        learns=(),
    )
    params = models.create(config).init(jax.random.key(0), volume, volume)
    descent = optimizer.create(config.optim, params)
    found["optimiser"] = Part(
        descent.update,
        (params, descent.init(params), params),
        1,
        0.0,
        learns=(),
    )
    return found


def with_gradient(part: Part) -> Callable:
    """The function and the gradient of the sum of its outputs, to what learns."""

    def run(*inputs):
        def of_learning(*learning):
            changed = dict(zip(part.learns, learning, strict=True))
            return part.function(*(changed.get(i, x) for i, x in enumerate(inputs)))

        value, pull = jax.vjp(of_learning, *(inputs[i] for i in part.learns))
        return value, pull(jax.tree.map(jnp.ones_like, value))

    return run


def machine(dtype: jnp.dtype, repeats: int) -> tuple[float, float]:
    """Flops in a second of large products, bytes in a second of a copy."""
    square = jnp.ones((_EDGE, _EDGE), dtype)
    product = timing.seconds(lambda a: dense.contract(a, a, 1, 0), (square,), repeats)
    large = jnp.ones((16, _EDGE, _EDGE))  # does not fit into any cache
    copy = timing.seconds(lambda a: a + 1, (large,), repeats)
    return 2 * _EDGE**3 / product, 2 * large.nbytes / copy


if __name__ == "__main__":
    main()
