"""Lower the programs for GPUs and TPUs on a machine without them.

Lowering fails where a platform has no rule for an operation or does not know a type; no
compiler runs. Products that compute coordinates must ask for full precision.
"""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import export, lax

from configs import default
from helpers.programs import equations
from mdvit_jax import geometry, losses, models
from mdvit_jax.geometry import forms, warp
from mdvit_jax.losses import sobel
from mdvit_jax.registration import gauss_newton, normalisation
from mdvit_jax.training import optimizer, sharding, step

# Platforms whose forms are the same, except attention, as cuDNN is not installed here.
GPUS, TPUS = ("cuda", "rocm"), ("tpu",)


def array(*shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def small_config(dtype: str, dilated_form: str = "channels"):
    config = default.get_config()
    config.data.size = 20
    config.model.update(embedding=16, depth=1, compute_dtype=dtype)
    config.model.update(patches=(3, 7), strides=(2, 4))  # quicker to trace
    config.model.dilated_form = dilated_form
    return config


def training_step(dtype: str, dilated_form: str = "channels", batch: int = 1):
    """The jitted step and the shapes of its arguments."""
    config = small_config(dtype, dilated_form)
    config.optim.batch = batch
    mesh = sharding.create_mesh(config.optim.batch)
    network = models.create(config)
    volume = array(batch, *[config.data.size] * 3)
    shapes = jax.eval_shape(network.init, jax.random.key(0), volume, volume)
    descent = optimizer.create(config.optim, shapes)
    create = functools.partial(step.create_state, config, network, descent, mesh)
    train = step.create_step(config, network, descent, mesh)
    return train, (jax.eval_shape(create), volume, volume)


def gradient(function, *shapes, to: int):
    """The function, and the gradient of its sum with respect to one input."""
    total = lambda *inputs: function(*inputs).sum()  # noqa: E731
    return jax.value_and_grad(total, argnums=to), shapes


def ntg(form: str):
    loss = functools.partial(losses.ntg, stride=4, form=form)
    pyramid = functools.partial(losses.similarity_pyramid, loss)
    return gradient(pyramid, array(2, 24, 20, 28), array(2, 24, 20, 28), to=1)


def ncc():
    return gradient(losses.ncc, array(2, 9, 8, 7), array(2, 9, 8, 7), to=1)


def warped(form: str, to: int):
    function = functools.partial(geometry.warp_affine, form=form)
    return gradient(function, array(2, 9, 8, 7), array(2, 4, 4), to=to)


def nearest():
    labels = array(9, 8, 7, dtype=jnp.int32)
    return functools.partial(geometry.warp_affine, order=0), (labels, array(4, 4))


def level(size: int, dof: str, starts: int = 0):
    """Registration at one size of the pyramid, from one start or from several."""
    cube = array(size, size, size)
    image = normalisation.Level(cube, cube, cube)
    align = functools.partial(gauss_newton.align, dof=dof)
    start = array(3, 4)
    if starts:
        align = jax.vmap(align, (None, None, None, 0, *(None,) * 4))
        start = array(starts, 3, 4)
    points, steps = (array(size**2, dtype=jnp.int32),) * 2, array(dtype=jnp.int32)
    return align, (image, image, points, start, array(), array(), steps, array())


PROGRAMS = {
    "step, float32": lambda: training_step("float32"),
    "step, bfloat16": lambda: training_step("bfloat16"),
    "step, tokens": lambda: training_step("bfloat16", "tokens"),
    **{f"ntg, {form}": functools.partial(ntg, form) for form in sobel.FORMS},
    "ncc": ncc,
    **{f"warp, {f}": functools.partial(warped, f, to=1) for f in warp.FORMS},
    **{f"warp, {f}, to image": functools.partial(warped, f, to=0) for f in warp.FORMS},
    "warp of labels": nearest,
    "registration, affine": lambda: level(12, "affine"),
    "registration, similarity, several": lambda: level(12, "similarity", starts=3),
    "registration, rigid": lambda: level(24, "rigid"),
}

# Each platform has a step in float32 or in bfloat16, as tracing it takes long.
ONLY_FOR = {
    "step, float32": GPUS,
    "step, bfloat16": TPUS,
    "step, tokens": GPUS,
    "warp, blocks": TPUS,
    "warp, blocks, to image": TPUS,
}
CASES = [(n, p) for n in PROGRAMS for p in (GPUS, TPUS) if p == ONLY_FOR.get(n, p)]


@pytest.mark.parametrize(
    ("name", "platforms"), CASES, ids=["-".join([n, *p]) for n, p in CASES]
)
def test_programs_are_lowered_for(name, platforms):
    with forms.tracing_for(platforms[-1]):
        function, shapes = PROGRAMS[name]()
        lowered = export.export(jax.jit(function), platforms=platforms)(*shapes)
    assert lowered.platforms == platforms
    assert ("tpu_custom_call" in lowered.mlir_module()) == (
        platforms == ("tpu",) and name.startswith(("step", "warp, blocks"))
    )


def test_a_step_on_two_devices_is_lowered_for_tpus(run_python):
    """The compiler cannot partition our kernel; each device runs it for its pair."""
    program = """
import sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
from jax import export
from mdvit_jax.geometry import forms
sys.path.insert(0, "tests")
import test_lowering
with forms.tracing_for("tpu"):
    step, shapes = test_lowering.training_step("bfloat16", batch=2)
    lowered = export.export(step, platforms=["tpu"])(*shapes)
assert "tpu_custom_call" in lowered.mlir_module()
print(lowered.nr_devices)
"""
    assert run_python(program).stdout == "2\n"


@pytest.mark.parametrize(
    "name",
    [n for n in PROGRAMS if not n.startswith(("step", "warp, blocks"))],
)
def test_no_product_is_rounded(name):
    """An accelerator rounds factors to 8 or 11 bits by default.

    The products of the TPU's form are exact in 8 bits.
    """
    function, shapes = PROGRAMS[name]()
    for equation in equations(jax.make_jaxpr(function)(*shapes)):
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            highest = (lax.Precision.HIGHEST,) * 2
            assert equation.params["precision"] == highest, equation.source_info
