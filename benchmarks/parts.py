"""Where a training step goes: each part by itself, its share, and the limit it meets.

    python -m benchmarks.parts [--size 128] [--batch 1] [--dtype float32] [--repeats 3]

The default network. Each part runs as often as in a step, forward and with its
gradient, on arrays of a step's shapes; the share is that of their sum. The last row is
the whole step, compiled as one, in a process of its own. The limit of a part is the
longer of two times: its arithmetic at the rate of products of large matrices in this
dtype, and its arrays read and written once at the rate of a copy, both measured here.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks import steps, timing
from configs import default
from mdvit_jax import geometry, losses, models
from mdvit_jax.models import blocks, msda
from mdvit_jax.models.ops import attention, dense
from mdvit_jax.training import augment, optimizer


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
    parser = timing.arguments(__doc__)
    parser.set_defaults(repeats=3)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    config = default.get_config()
    config.data.size, config.model.compute_dtype = options.size, options.dtype
    dtype = jnp.dtype(options.dtype)
    flops = timing.product_rate(dtype, options.repeats)
    copied = timing.copy_rate(options.repeats)
    print(f"{options.size}³, batch {options.batch}, {options.dtype}: ", end="")
    print(f"large products {flops / 1e12:.2f} Tflop/s, copies {copied / 1e9:.1f} GB/s ")
    print("(read and written)\n")
    all_parts = parts(config, dtype, options.batch)
    functions = {name: part.function for name, part in all_parts.items()}
    inputs = {name: part.inputs for name, part in all_parts.items()}
    for name, part in all_parts.items():
        if part.learns:
            functions[f"{name}, gradient"] = with_gradient(part)
            inputs[f"{name}, gradient"] = part.inputs
    programs = timing.compile_all(functions, inputs)
    taken = {name: _seconds(programs[name], inputs[name], options) for name in programs}
    total = np.zeros(2)
    rows: list[dict[str, Any]] = []
    for name, part in all_parts.items():
        touched = timing.least_seconds(part.function, part.inputs, copied)
        passes = 3 if part.learns else 1  # a gradient is two more, of each kind
        row: dict[str, Any] = {
            "part": name,
            "runs": part.count,
            "forward_s": part.count * taken[name],
            "gradient_s": part.count * taken.get(f"{name}, gradient", taken[name]),
            "limit_s": part.count * passes * max(part.gflop * 1e9 / flops, touched),
        }
        rows.append(row)
        total += [row["forward_s"], row["gradient_s"]]
    print("| part | runs | forward (ms) | with gradient (ms) | share | limit (ms) |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['part']} | {row['runs']} | {1e3 * row['forward_s']:.2f} | "
            f"{1e3 * row['gradient_s']:.2f} | {row['gradient_s'] / total[1]:.0%} | "
            f"{1e3 * row['limit_s']:.2f} |"
        )
    print(f"| sum | | {1e3 * total[0]:.2f} | {1e3 * total[1]:.2f} | | |", flush=True)
    settings = {
        "data.size": str(options.size),
        "optim.batch": str(options.batch),
        "model.compute_dtype": options.dtype,
        "forward": "yes",
    }
    whole = steps.result(steps.run(settings))
    assert whole is not None  # it is alone, and so the first process
    print(
        f"| the whole | | {1e3 * whole['forward_s']:.2f} | "
        f"{1e3 * whole['step_s']:.2f} | | |"
    )
    arithmetic = sum(part.count * part.gflop for part in all_parts.values())
    print(f"\n{arithmetic:.0f} Gflop forward, three times as much in a step")
    if options.output:
        timing.report([*rows, {"part": "the whole", **whole}], options.output)


def _seconds(program: timing.Program | Exception, inputs, options) -> float:
    """The shortest of several runs; NaN after a failure, whose reason is printed."""
    if isinstance(program, Exception):
        print(f"{type(program).__name__}: {program}"[:300])
        return math.nan
    jax.block_until_ready(program.executable(*inputs))
    return min(timing.once(program.executable, inputs) for _ in range(options.repeats))


def parts(config, dtype: jnp.dtype, batch: int) -> dict[str, Part]:
    """The parts of a step at the configured size, heaviest kinds first."""
    model, size = config.model, config.data.size
    width, side = model.embedding, size // model.strides[-1]
    tokens, stages = side**3, len(model.patches)
    rows, layers = batch * tokens, stages * model.depth
    random = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return jnp.asarray(0.1 * random.normal(size=shape), jnp.float32)

    def module(layer, *inputs) -> tuple[Callable, tuple]:
        shapes = jax.eval_shape(layer.init, jax.random.key(0), *inputs)["params"]
        params = jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)
        return (lambda p, *x: layer.apply({"params": p}, *x)), (params, *inputs)

    features = normal(batch, side, side, side, width)
    shape = batch, model.heads, tokens, width // model.heads
    heads = [normal(*shape) for _ in range(3)]
    heads = [head.astype(dtype) for head in heads]
    hidden = model.mlp_ratio * width
    volume = jnp.asarray(random.random((batch, size, size, size)), jnp.float32)
    ntg = functools.partial(losses.ntg, stride=config.loss.stride)
    parts = {
        "attention, scores and sums": Part(
            attention.attend,
            tuple(heads),
            layers,
            4 * rows * tokens * width / 1e9,
            learns=(0, 1, 2),
        ),
        "attention, four linear maps": Part(
            functools.partial(dense.product, dtype),
            (features.reshape(-1, width), normal(width, width)),
            4 * layers,
            2 * rows * width**2 / 1e9,
        ),
        "MLP with depthwise convolution": Part(
            *module(blocks.Mlp(model.mlp_ratio, 0.0, dtype), features, None),
            layers,
            (4 * rows * width * hidden + 54 * rows * hidden) / 1e9,
        ),
        "MSDA": Part(
            *module(msda.ChannelMsda(model.dilations, dtype), features),
            stages,
            3 * (2 * rows * width**2 + 54 * rows * width) / 1e9,
        ),
        "convolution between stages": Part(
            *module(blocks.Squeeze(dtype), features),
            stages - 1,
            2 * 27 * rows * width**2 / 1e9,
        ),
    }
    for level, (patch, stride) in enumerate(
        zip(model.patches, model.strides, strict=True)
    ):
        edge = side * stride
        images = normal(batch, edge, edge, edge, 2)
        layer = blocks.PatchEmbedding(width, patch, stride)
        gflop = 4 * rows * patch**3 * width / 1e9
        parts[f"patch embedding {level + 1}, {patch}³ / {stride}"] = Part(
            *module(layer, images), 1, gflop
        )
    matrix = geometry.affine_matrix(jnp.full((batch, 12), 0.02))
    parts["warp"] = Part(
        geometry.warp_affine, (volume, matrix), stages, 0.0, learns=(1,)
    )
    parts["NTG pyramid"] = Part(
        lambda fixed, warped: losses.similarity_pyramid(ntg, fixed, warped),
        (volume, volume[:, ::-1]),
        1,
        0.0,
        learns=(1,),
    )
    keys = jax.random.split(jax.random.key(0), (batch, 2))
    changes = augment.settings(config.augment)
    parts["augmentation"] = Part(
        lambda fixed, moving: augment.augment(keys, fixed, moving, changes),
        (volume, volume),
        1,
        0.0,
        learns=(),
    )
    params = models.create(config).init(jax.random.key(0), volume, volume)
    descent = optimizer.create(config.optim, params)
    parts["optimiser"] = Part(
        descent.update,
        (params, descent.init(params), params),
        1,
        0.0,
        learns=(),
    )
    return parts


def with_gradient(part: Part) -> Callable:
    """The function and the gradient of its outputs' sum to the inputs that learn."""

    def run(*inputs):
        def run_part(*learning):
            changed = dict(zip(part.learns, learning, strict=True))
            return part.function(*(changed.get(i, x) for i, x in enumerate(inputs)))

        value, pull = jax.vjp(run_part, *(inputs[i] for i in part.learns))
        return value, pull(jax.tree.map(jnp.ones_like, value))

    return run


if __name__ == "__main__":
    main()
