"""The five networks of the paper's Table 1 at small scale, trained alike.

    ln -s FOLDER data       # with ds002748/
    python -m mdvit_jax prepare --config configs/table1.py
    python -m mdvit_jax compare --config configs/table1.py

The recipe of configs/anything.py with real scans alone and without deformations and
recolouring: 30 people, each scan under an affine of its own, half of the pairs of one
person. Smaller steps, so that two CPU cores make enough of them. The people of the
evaluation, sub-31 to sub-36, are those that this recipe was chosen on; no checkpoint is
chosen on them, since a run validates once, at its end. Result: docs/reproduction.md.
"""

from configs import anything


def get_config():
    """MDViT; the command above sets `model`, `seed`, `workdir` and `optim.steps`."""
    config = anything.get_config()
    config.workdir = "runs/table1"
    config.data.cache = "cache/table1"

    config.loss.people = False  # from the scans alone

    config.model.embedding = 96
    config.model.heads = 2
    config.model.depth = 1
    config.model.passes = 1

    config.optim.batch = 4
    config.optim.warmup = 50
    config.optim.cooldown = 0

    config.augment.deform = 0.0
    config.augment.contrast = 0.0
    config.augment.affine.degrees = (30.0,)
    config.synthesis.pairs = 0

    config.validation.every = 1_000_000
    config.checkpoint.every = 500
    config.evaluation.pictures = 1
    return config
