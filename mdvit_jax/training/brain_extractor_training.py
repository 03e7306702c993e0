"""Train the network that finds the brain in a head (`models.brain_extractor`).

    python -m mdvit_jax.training.brain_extractor_training --heads data/synthseg_labels \
        --output runs/brain_extractor --steps 3000

Every image is drawn anew by the scanner in software. A run that was interrupted goes on
from its last checkpoint with the same command.
"""

import argparse
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tqdm import tqdm

from mdvit_jax import errors
from mdvit_jax.data import head_file, label_maps, scan_settings, synthesis
from mdvit_jax.evaluation import metrics
from mdvit_jax.io import layer_weights
from mdvit_jax.io.layer_weights import Params
from mdvit_jax.models import brain_extractor
from mdvit_jax.training import checkpoint
from mdvit_jax.training.step import TrainState

SCANNER = scan_settings.Settings(
    shape=(brain_extractor.SIZE,) * 3,
    voxel=(brain_extractor.VOXEL,) * 3,
    deformation=5.0,
    rotation=40.0,
    turn=0.2,
    translation=35.0,
    scale=0.2,
    shear=0.1,
    noise=0.06,
    bias=0.4,
    blur=2.0,
    stripped=0.2,
    cut_top=0.1,
    slab=0.05,
)
NETWORK = brain_extractor.BrainExtractor()
_EVERY = 250  # steps between two checkpoints
_EVALUATED = 24  # images, at each of them
_AVERAGE = 0.998  # of the running mean of the parameters, which is what is kept


def draw(key: Array, heads: label_maps.Head) -> tuple[Array, Array]:
    """An image of a random head and the brain's share of each voxel, [x, y, z] each."""
    head_key, scan_key, dim_key = jax.random.split(key, 3)
    index = jax.random.randint(head_key, (), 0, len(heads.labels))
    head = jax.tree.map(lambda field: jnp.asarray(field)[index], heads)
    scan = synthesis.synthesise(scan_key, head, SCANNER)
    dim = jax.random.uniform(dim_key, minval=0.7, maxval=1.3)
    share = jnp.clip(scan.depth / brain_extractor.VOXEL + 0.5, 0, 1)
    return jnp.clip(scan.image * dim, 0, 1), share


def loss(logits: Array, share: Array) -> Array:
    """Cross entropy and 1 − Dice of shares of voxels, mean over a batch."""
    entropy = optax.sigmoid_binary_cross_entropy(logits, share).mean()
    axes = (1, 2, 3)
    mask = jax.nn.sigmoid(logits)
    dice = 2 * (mask * share).sum(axes) / ((mask**2).sum(axes) + (share**2).sum(axes))
    return 4 * entropy + 1 - dice.mean()


def evaluate(params: Params, heads: label_maps.Head) -> np.ndarray:
    """Dice of the masks of some images, the same in each run, [images] rising."""
    result = []
    for key in jax.random.split(jax.random.key(2), _EVALUATED):
        images, shares = make_batch(key, 1, heads)
        share = _find_share(params, images)
        result.append(metrics.dice(shares[0] > 0.5, share[0] > 0.5))
    return np.sort(result)


@functools.partial(jax.jit, static_argnums=1)
def make_batch(key: Array, count: int, heads: label_maps.Head) -> tuple[Array, Array]:
    """Random images and shares, [count, x, y, z] each."""
    keys = jax.random.split(key, count)
    return jax.lax.map(lambda key: draw(key, heads), keys)


def create_optimiser(rate: float, steps: int) -> optax.GradientTransformation:
    """AdamW with warm-up, and a cosine to 0 over all steps."""
    warm_up = min(100, steps // 10)
    schedule = optax.warmup_cosine_decay_schedule(0, rate, warm_up, steps)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-4)
    )


def start(optimiser: optax.GradientTransformation, params: Params) -> TrainState:
    """The state before the first step; the mean of the parameters is beside Adam's."""
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, params, (optimiser.init(params), params))


def advance(
    optimiser: optax.GradientTransformation,
    state: TrainState,
    images: Array,
    shares: Array,
) -> tuple[TrainState, Array]:
    """One step; the state after it, and its loss."""

    def objective(params: Params) -> Array:
        return loss(jnp.asarray(NETWORK.apply({"params": params}, images)), shares)

    value, gradient = jax.value_and_grad(objective)(state.params)
    inner, mean = state.optimizer
    change, inner = optimiser.update(gradient, inner, state.params)
    params = optax.apply_updates(state.params, change)
    # The mean begins with the first steps' parameters and forgets them.
    weight = jnp.minimum(_AVERAGE, (1 + state.step) / (10 + state.step))
    mean = optax.incremental_update(params, mean, 1 - weight)
    return TrainState(state.step + 1, params, (inner, mean)), value


def train(args: argparse.Namespace) -> Params:
    """Train, or go on, as the command says; the mean of the parameters."""
    parts = {
        part: head_file.read_part(args.heads, part, held_out=args.held_out)
        for part in ("train", "validation")[: 1 + bool(args.held_out)]
    }
    optimiser = create_optimiser(args.rate, args.steps)
    step_once = jax.jit(functools.partial(advance, optimiser), donate_argnums=0)
    if args.start_from:
        params, _ = layer_weights.load(args.start_from)
    else:
        volume = jnp.zeros((1, *SCANNER.shape))
        params = jax.jit(NETWORK.init)(jax.random.key(0), volume)["params"]
    state, losses = jax.jit(functools.partial(start, optimiser))(params), []
    with checkpoint.Checkpoints(args.output, keep=2) as checkpoints:
        if (restored := checkpoints.restore(state)) is not None:
            state, _ = restored
        done, end = int(state.step), min(args.steps, args.stop_after or args.steps)
        for step in tqdm(range(done, end), initial=done, total=end):
            key = jax.random.fold_in(jax.random.key(args.seed), step)
            batch = make_batch(key, args.batch, parts["train"])
            state, value = step_once(state, *batch)
            losses.append(float(value))
            if (step + 1) % _EVERY and step + 1 < end:
                continue
            checkpoints.save(step + 1, state)
            line = f"step {step + 1}: loss {np.mean(losses):.4f}"
            if args.held_out:
                dice = evaluate(state.optimizer[1], parts["validation"])
                line += f"; held-out heads: Dice median {np.median(dice):.4f}, lowest "
                line += f"{dice[:3].round(3)}"
            tqdm.write(line)
            with (args.output / "log.txt").open("a") as log:
                log.write(line + "\n")
            losses = []
    return state.optimizer[1]


@jax.jit
def _find_share(params: Params, images: Array) -> Array:
    return jax.nn.sigmoid(jnp.asarray(NETWORK.apply({"params": params}, images)))


@errors.handle_user_errors
def main() -> int:
    """Train, and write brain_extractor.safetensors into the run's folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--heads", type=Path, required=True, help="folder of label maps (*.nii*)"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=3000, help="of the whole run")
    parser.add_argument("--stop-after", type=int, help="step to stop at; goes on later")
    parser.add_argument("--start-from", type=Path, help="weights of another run")
    parser.add_argument("--batch", type=int, default=2, help="images in a step")
    parser.add_argument(
        "--held-out", type=int, default=4, help="last maps, not learned from"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the images")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    args = parser.parse_args()
    if args.steps < 1 or args.batch < 1 or args.held_out < 0:
        parser.error("--steps and --batch must be at least 1, --held-out at least 0")
    mean = train(args)
    metadata = {"voxel": str(brain_extractor.VOXEL)}
    layer_weights.save(args.output / "brain_extractor.safetensors", mean, metadata)
    return 0


if __name__ == "__main__":
    sys.exit(main())
