"""A smaller form of configs/anything.py that needs no data but what pip brings.

    python train.py --config configs/anything_small.py

People and heads are made from MNI152 and its tissue maps (nilearn): people who are
skull-stripped, and synthetic scans of one whole head. A network learns from it how the
recipe works, not how people differ.
"""

from configs import anything


def get_config():
    """Two CPU cores make a step of it in some seconds."""
    config = anything.get_config()
    config.workdir = "runs/anything_small"

    data = config.data
    data.layout = "synthetic"
    data.root = ""
    data.cache = ""
    data.split = (28, 6, 6)

    config.loss.people = False  # nothing is prepared

    config.model.embedding = 96
    config.model.depth = 1

    config.optim.steps = 2_000
    config.optim.batch = 2
    config.optim.cooldown = 0

    config.synthesis.heads = "mni152"
    config.synthesis.held_out = 0
    config.synthesis.pairs = 1

    config.validation.every = 500
    config.checkpoint.every = 500
    return config
