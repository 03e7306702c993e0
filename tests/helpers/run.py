"""The state that a training run saved, to the last bit; runs of no steps and of one."""

from pathlib import Path

import jax
import numpy as np

from mdvit_jax.config import read_config, save_config
from mdvit_jax.training import checkpoint, setup, step


def first_state(config):
    """The network of a configuration and the state before the first step."""
    learner = setup.create_learner(config)
    return learner.network, step.create_state(config, *learner)


def first_step(config):
    """The network of a configuration, the state before the first step, and the step."""
    learner = setup.create_learner(config)
    state = step.create_state(config, *learner)
    return learner.network, state, step.create_step(config, *learner)


def untrained(config):
    """Save the first state as checkpoint 1; return the network and parameters."""
    network, state = first_state(config)
    Path(config.workdir).mkdir()
    save_config(config, Path(config.workdir))
    with checkpoint.Checkpoints(config.workdir, keep=None) as saved:
        saved.save(1, jax.block_until_ready(state))
    return network, state.params


def newest_checkpoint(workdir):
    """Step and state, with the optimiser's; fail if the checkpoint is damaged."""
    _, like = first_state(read_config(workdir))
    with checkpoint.Checkpoints(workdir, keep=None) as saved:
        state, newest = saved.restore(like)
        assert newest == saved.latest
    return newest, state


def final_bytes(workdir):
    """The step of the newest checkpoint, and the bytes of all its arrays."""
    newest, state = newest_checkpoint(workdir)
    assert len(jax.tree.leaves(state)) > 2 * len(jax.tree.leaves(state.params))
    return newest, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]
