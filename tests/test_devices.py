"""A step on many devices: the result of one device, and the data exchanged."""

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from helpers import recorded_run
from mdvit_jax import errors, models
from mdvit_jax.training import sharding, step
from test_step import heads, small_config

pytestmark = pytest.mark.usefixtures("quick_compilation")

BATCH = 8
# Seed 0 moves a voxel onto the border of two others, where the slope of interpolation
# jumps and rounding decides: on some processors the gradients differ by 4e-5 there.
DROPPING = {"seed": 1, "optim__batch": BATCH, "model__dropout": 0.1}
# One stage of tokens, whose weights can be shared, is quickest to compile.
DROPPING |= {"model__patches": (3,), "model__strides": (4,), "loss__levels": 1}
DROPPING |= {"model__dilated_form": "tokens", "model__dilations": (1,)}


def measure(config):
    """The losses, the gradient, the names and shapes of all collectives; the state."""
    mesh = sharding.create_mesh(
        BATCH, model=config.mesh.model, accumulate=config.optim.accumulate
    )
    network = models.create(config)
    remember = optax.trace(decay=0.0)
    state = step.create_state(config, network, remember, mesh)
    pair = [sharding.to_devices(mesh, heads(BATCH, seed)) for seed in (0, 1)]
    train_step = step.create_step(config, network, remember, mesh)
    compiled = train_step.lower(state, *pair).compile()
    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    with jax.transfer_guard("disallow"):
        state, measured = compiled(state, *pair)
    # So that the next step needs neither a copy nor another program.
    assert jax.tree.map(lambda leaf: leaf.sharding, state) == places
    gradient = [np.asarray(leaf) for leaf in jax.tree.leaves(state.optimizer)]
    form = r"= (.*?) (all-\w+|collective-\w+|reduce-scatter|\w*send\w*)(?:-start)?\("
    travels = [
        f"{name} {shape}" for shape, name in re.findall(form, compiled.as_text())
    ]
    return np.asarray(measured.loss), gradient, "\n".join(travels), state


PROGRAM = """
import sys; sys.path[:0] = [{root!r}, {root!r} + "/tests"]
import jax; jax.config.update("jax_num_cpu_devices", 4)
import numpy as np, test_devices as t
from mdvit_jax import errors
from mdvit_jax.training import sharding
for name, changes in {configs!r}.items():
    loss, gradient, travels, state = t.measure(t.small_config(**changes))
    np.savez({out!r} + f"/{{name}}.npz", loss, *gradient)
    open({out!r} + f"/{{name}}.txt", "w").write(travels)
for tree in (state.params, state.optimizer.trace):
    kernel = tree["stage_1"]["msda"]["compress"]["kernel"]
    print(kernel.shape, {{s.data.shape for s in kernel.addressable_shards}})
    bias = tree["stage_1"]["msda"]["compress"]["bias"]
    print(bias.shape, {{s.data.shape for s in bias.addressable_shards}})
for batch, options in ((6, {{}}), (8, dict(accumulate=4)), (8, dict(model=3))):
    try:
        sharding.create_mesh(batch, **options)
    except errors.UserError as error:
        print(error)
"""


def assert_same(result, expected):
    np.testing.assert_allclose(result[0], expected[0], rtol=1e-5)
    largest = max(np.abs(leaf).max() for leaf in expected[1])
    assert largest > 1e-4
    for one, other in zip(result[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * largest)


def test_four_devices_give_the_result_of_one(tmp_path, run_python):
    """Dropout and augmentation too, in micro-steps and with weights that are shared."""
    configs = {
        "pairs": DROPPING,
        "micro-steps": DROPPING | {"optim__accumulate": 2},
        "all share": DROPPING | {"mesh__model": 4},
        "two share": DROPPING | {"mesh__model": 2},
    }
    root = str(Path(__file__).resolve().parents[1])
    output = run_python(PROGRAM.format(root=root, configs=configs, out=str(tmp_path)))
    expected, travels = measure(small_config(**DROPPING)), {}
    for name in configs:
        with np.load(tmp_path / f"{name}.npz") as archive:
            loss, *gradient = (archive[key] for key in archive.files)
        assert_same((loss, gradient), expected)
        travels[name] = (tmp_path / f"{name}.txt").read_text()

    def kinds(name):
        return {line.split()[0] for line in travels[name].splitlines()}

    def shapes(name):
        return re.findall(r"f32\[([\d,]*)\]", travels[name])

    # Each gradient and the losses travel once, and are summed.
    assert kinds("pairs") == kinds("micro-steps") == {"all-reduce"}
    sizes = [
        np.prod([int(n) for n in shape.split(",") if n]) for shape in shapes("pairs")
    ]
    assert sum(sizes) == sum(leaf.size for leaf in expected[1]) + BATCH
    # Tokens and sums over them are exchanged, but neither weights nor volumes.
    assert kinds("all share") == kinds("two share") == {"all-reduce", "all-gather"}
    assert set(shapes("all share")) == {f"{BATCH},64,8", ""}
    gathered = [
        line
        for line in travels["two share"].splitlines()
        if line.startswith("all-gather ")
    ]
    assert [re.findall(r"\[([\d,]*)\]", line)[0] for line in gathered] == ["4,64,8"]
    assert output.stdout.splitlines() == [
        *["(3, 64, 64) {(3, 64, 32)}", "(64,) {(64,)}"] * 2,
        "optim.batch is 6, which 4 devices cannot share evenly; make it a multiple of "
        "4.",
        "optim.batch is 8, which 4 devices in 4 micro-steps cannot share evenly; make "
        "it a multiple of 16.",
        "mesh.model is 3, which does not fit 4 devices, 4 in a process; make it a "
        "divisor of 4.",
    ]


def test_shared_weights_need_weights_to_share():
    device = jax.devices()[0]
    mesh = jax.sharding.Mesh(np.array([[device, device]]), ("data", "model"))
    network = models.create(small_config(model__dilated_form="channels"))
    volume = jax.ShapeDtypeStruct((1, 32, 32, 32), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), volume, volume)
    with pytest.raises(errors.UserError, match="are none; set mesh.model to 1"):
        sharding.state_sharding(mesh, shapes)


@pytest.mark.timeout(1200)  # two programs, one after the other
def test_a_run_continues_on_other_devices(tmp_path, tiny):
    """Also where the weights are shared between other numbers of devices."""
    tokens = tiny | {"model.dilated_form": "tokens", "checkpoint.every": "2"}
    run = recorded_run.Run(tmp_path, tokens)
    run.train(4, devices=4, model=2)
    losses, pairs = run.losses(), run.pairs()
    shutil.rmtree(run.workdir / "checkpoints/4")  # its last two steps are repeated
    run.train(4, devices=2)
    last = max(run.records.iterdir()).read_text()
    assert json.loads(last.splitlines()[0])["step"] == 2
    assert run.pairs() == pairs and len(pairs) == 4
    np.testing.assert_allclose(run.losses(), losses, rtol=1e-5)
