"""What a training run has left behind, to the last bit."""

import jax
import numpy as np

from mdvit_jax import configuration, models
from mdvit_jax.training import checkpoint, optimizer, sharding, start, step


def newest_checkpoint(workdir):
    """Its step and its state, the optimiser's too."""
    run = configuration.saved(workdir)
    network = models.create(run)
    shapes = start.parameter_shapes(run, network)
    descent, _ = optimizer.create(run.optim, shapes)
    mesh = sharding.create_mesh(run.optim.batch)
    like = step.create_state(run, network, descent, mesh)
    with checkpoint.Checkpoints(workdir, keep=None) as saved:
        return saved.latest, saved.load(saved.latest, like)


def final_bytes(workdir):
    """Step and bytes of all that the newest checkpoint holds."""
    newest, state = newest_checkpoint(workdir)
    assert len(jax.tree.leaves(state)) > 2 * len(jax.tree.leaves(state.params))
    return newest, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]
