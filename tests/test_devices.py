"""A step on many devices: the result of one device, and the data exchanged."""

import re
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
# One stage is quickest to compile.
DROPPING |= {"model__patches": (3,), "model__strides": (4,), "loss__levels": 1}
TOKENS = {"optim__batch": BATCH, "model__dilated_form": "tokens"} | {
    "model__dilations": (1,)
}


def set_up(config):
    """A step whose optimiser keeps the gradient as its state, the state and a batch."""
    mesh = sharding.create_mesh(
        BATCH, model=config.mesh.model, accumulate=config.optim.accumulate
    )
    network = models.create(config)
    remember = optax.trace(decay=0.0)
    state = step.create_state(config, network, remember, mesh)
    pair = [sharding.to_devices(mesh, heads(BATCH, seed)) for seed in (0, 1)]
    return step.create_step(config, network, remember, mesh), state, pair


def measure(config) -> tuple[np.ndarray, list[np.ndarray], str]:
    """The losses, the gradient, and the names and shapes of all collectives."""
    train_step, state, pair = set_up(config)
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
    return np.asarray(measured.loss), gradient, "\n".join(travels)


PROGRAM = """
import sys; sys.path[:0] = [{root!r}, {root!r} + "/tests"]
import jax; jax.config.update("jax_num_cpu_devices", {devices})
import numpy as np, test_devices as t
from mdvit_jax import errors
from mdvit_jax.training import sharding
for number, changes in enumerate({configs!r}):
    loss, gradient, travels = t.measure(t.small_config(**changes))
    np.savez({out!r} + f"/{{number}}.npz", loss, *gradient)
    open({out!r} + f"/{{number}}.txt", "w").write(travels)
"""


def on_devices(run_python, folder: Path, devices: int, *configs: dict, then: str = ""):
    """`measure` of each configuration in a process with so many devices."""
    root = str(Path(__file__).resolve().parents[1])
    program = PROGRAM.format(
        root=root, devices=devices, configs=configs, out=str(folder)
    )
    output = run_python(program + then).stdout
    results = []
    for number in range(len(configs)):
        with np.load(folder / f"{number}.npz") as archive:
            loss, *gradient = (archive[name] for name in archive.files)
        travels = (folder / f"{number}.txt").read_text().splitlines()
        results.append((loss, gradient, travels))
    return results, output


@pytest.fixture(scope="module")
def one_device():
    return measure(small_config(**DROPPING))


@pytest.fixture(scope="module")
def tokens_on_one_device():
    return measure(small_config(**TOKENS))


def assert_same(result, expected):
    np.testing.assert_allclose(result[0], expected[0], rtol=1e-5)
    largest = max(np.abs(leaf).max() for leaf in expected[1])
    assert largest > 1e-4
    for one, other in zip(result[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * largest)


def test_eight_devices_give_the_result_of_one(tmp_path, run_python, one_device):
    """Dropout and augmentation too; the only collectives are sums."""
    (result,), _ = on_devices(run_python, tmp_path, 8, DROPPING)
    assert_same(result, one_device)
    assert result[2] and all(line.startswith("all-reduce ") for line in result[2])
    # Each gradient and the losses travel once.
    shapes = re.findall(r"f32\[([\d,]*)\]", "".join(result[2]))
    gradient_size = sum(leaf.size for leaf in one_device[1])
    sizes = [np.prod([int(n) for n in shape.split(",") if n]) for shape in shapes]
    assert sum(sizes) == gradient_size + BATCH


FOUR = """
for batch, options in ((6, {}), (8, dict(accumulate=4)), (8, dict(model=3))):
    try:
        sharding.create_mesh(batch, **options)
    except errors.UserError as error:
        print(error)
mesh = sharding.create_mesh(8, model=2)
_, state, _ = t.set_up(t.small_config(**t.TOKENS, mesh__model=2))
for tree in (state.params, state.optimizer.trace):
    kernel = tree["stage_1"]["msda"]["compress"]["kernel"]
    print(kernel.shape, {s.data.shape for s in kernel.addressable_shards})
    bias = tree["stage_1"]["msda"]["compress"]["bias"]
    print(bias.shape, {s.data.shape for s in bias.addressable_shards})
"""


def test_micro_steps_and_shared_weights_change_nothing(
    tmp_path, run_python, one_device, tokens_on_one_device
):
    micro = DROPPING | {"optim__accumulate": 2}
    shared = TOKENS | {"mesh__model": 2}
    results, output = on_devices(run_python, tmp_path, 4, micro, shared, then=FOUR)
    assert_same(results[0], one_device)
    assert all(line.startswith("all-reduce ") for line in results[0][2])
    assert_same(results[1], tokens_on_one_device)
    # Tokens are exchanged, but neither weights nor volumes.
    assert {line.split()[0] for line in results[1][2]} == {"all-reduce", "all-gather"}
    gathered = [line for line in results[1][2] if line.startswith("all-gather ")]
    assert [re.findall(r"\[([\d,]*)\]", line)[0] for line in gathered] == ["4,64,8"] * 2
    assert output.splitlines() == [
        "optim.batch is 6, which 4 devices cannot share evenly; make it a multiple of "
        "4.",
        "optim.batch is 8, which 4 devices in 4 micro-steps cannot share evenly; make "
        "it a multiple of 16.",
        "mesh.model is 3, which does not fit 4 devices, 4 in a process; make it a "
        "divisor of 4.",
        *["(3, 64, 64) {(3, 64, 32)}", "(64,) {(64,)}"] * 2,
    ]


def test_all_devices_may_share_the_weights(tmp_path, run_python, tokens_on_one_device):
    """Tokens and sums over them are exchanged, but neither weights nor volumes."""
    shared = TOKENS | {"mesh__model": 2}
    (result,), _ = on_devices(run_python, tmp_path, 2, shared)
    assert_same(result, tokens_on_one_device)
    assert {line.split()[0] for line in result[2]} == {"all-reduce", "all-gather"}
    shapes = re.findall(r"f32\[([\d,]*)\]", "".join(result[2]))
    assert set(shapes) == {f"{BATCH},64,8", "64", ""}


def test_shared_weights_need_weights_to_share():
    device = jax.devices()[0]
    mesh = jax.sharding.Mesh(np.array([[device, device]]), ("data", "model"))
    network = models.create(small_config(model__dilated_form="channels"))
    volume = jax.ShapeDtypeStruct((1, 32, 32, 32), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), volume, volume)
    with pytest.raises(errors.UserError, match="are none; set mesh.model to 1"):
        sharding.state_sharding(mesh, shapes)


@pytest.mark.timeout(1200)  # several programs, one after the other
def test_a_run_continues_on_other_devices(tmp_path, tiny):
    """Also where the weights are shared between other numbers of devices."""
    tokens = tiny | {"model.dilated_form": "tokens"}
    unbroken, moved = (
        recorded_run.Run(tmp_path / name, tokens) for name in ("unbroken", "moved")
    )
    unbroken.train(4)
    for steps, devices, model in ((2, 4, 2), (4, 2, 1)):
        moved.train(steps, devices=devices, model=model)
    assert moved.pairs() == unbroken.pairs() and len(moved.pairs()) == 4
    np.testing.assert_allclose(moved.losses(), unbroken.losses(), rtol=1e-5)
