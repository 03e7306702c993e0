"""How weights start out, as in the authors' program (after PVT and C2FViT).

Linear maps are normal with standard deviation 0.02 (the program truncates them at 100
deviations: not at all), convolutions normal with variance 2 / fan_out, where fan_out
is the number of outputs that one input reaches. Biases are 0, scales of norms 1.

One choice is ours: in the paper's form of MSDA the norm after the compression starts
with scale 0, so that MSDA adds nothing at first and MDViT starts out as C2FViT. With
scale 1 the features of all pairs get one large mean in common, and within a hundred
steps the heads' few ReLU units are off for all of them: every gradient is zero from
there on. (The program's form has one norm for both ends, which cannot start so.)

DLIR and PASTA start at the identity: the weights of their last layers are 0.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

LINEAR_DEVIATION = 0.02
LINEAR = ("paper", "fan_in")  # the values of `model.linear_weights`
_LAST_LAYER = 0.1  # of the scale of "fan_in": the first affines are near the identity
CONSTANTS = {"bias": 0.0, "scale": 1.0, "closed": 0.0}
_CLOSED = {("compressed_norm", "scale"), ("regressor", "kernel")}  # start at 0


def draw(key: Array, shapes: Any, linear: str = "paper") -> Any:
    """Random parameters for a nested dict of shapes (`jax.eval_shape` of an init).

    All of them come from one draw, which compiles in a second; 75 draws take 15.

    Args:
        key: of `jax.random.key`.
        shapes: nested dict of `jax.ShapeDtypeStruct`.
        linear: how linear maps start out. "paper": as above. "fan_in": with standard
            deviation 1/√inputs, those to the 12 parameters with a tenth of that. A
            network narrow enough to be trained in minutes learns several times as fast
            with it.
    """
    return _draw(key, jax.tree.structure(shapes), tuple(_kinds(shapes, linear)))


def _kinds(shapes: Any, linear: str):
    """Of each leaf: its name, its shape, and the standard deviation of a kernel."""
    for path, leaf in jax.tree.leaves_with_path(shapes):
        name = path[-1].key
        closed = (path[-2].key, name) in _CLOSED
        deviation = _deviation(leaf.shape) if name == "kernel" else 0.0
        if linear == "fan_in" and name == "kernel" and len(leaf.shape) == 2:
            last = path[-2].key == "parameters"
            deviation = (_LAST_LAYER if last else 1.0) / math.sqrt(leaf.shape[0])
        yield "closed" if closed else name, leaf.shape, deviation


@jax.jit(static_argnums=(1, 2))
def _draw(key: Array, structure, kinds: tuple[tuple[str, tuple[int, ...], float], ...]):
    sizes = [math.prod(shape) if name == "kernel" else 0 for name, shape, _ in kinds]
    noise = jax.random.normal(key, (sum(sizes),))
    leaves, start = [], 0
    for (name, shape, deviation), size in zip(kinds, sizes, strict=True):
        if name == "kernel":
            values = deviation * noise[start : start + size].reshape(shape)
        else:
            # The dtype is named: a weak one would change with the first update, and the
            # training step be compiled again.
            values = jnp.full(shape, CONSTANTS[name], jnp.float32)
        leaves.append(values)
        start += size
    return jax.tree.unflatten(structure, leaves)


def _deviation(shape: tuple[int, ...]) -> float:
    """Standard deviation of a kernel, whose kind shows in the number of its axes."""
    match len(shape):
        case 2:  # linear [in, out], and the 1D convolution of MSDA, whose window is one
            return LINEAR_DEVIATION
        case 4:  # depthwise [x, y, z, channels]
            return math.sqrt(2 / math.prod(shape[:3]))
        case _:  # convolution [*window, in, out]
            return math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1]))
