"""KeyMorph instead of MDViT, otherwise as configs/anything.py.

    ln -s FOLDER data       # with ds002748/ and synthseg_labels/
    python -m mdvit_jax prepare --config configs/anything_keymorph.py
    python train.py --config configs/anything_keymorph.py

Sixteen pairs of people and two synthetic ones a step, as synthetic scans cost a CPU
more than the network does.
"""

from configs import anything


def get_config():
    """An hour of one CPU core for 2,000 steps."""
    config = anything.get_config()
    config.workdir = "runs/anything_keymorph"

    model = config.model
    model.name = "keymorph"
    model.channels = (16, 32, 64, 64, 96)
    model.keypoints = 96
    model.first_stride = 2
    model.heat_maps = "softplus"  # with ReLU two thirds of the keypoints fell silent
    model.passes = 1

    config.loss.known = 0.2
    config.synthesis.pairs = 0.125

    optim = config.optim
    optim.steps = 2_000
    optim.warmup = 100
    optim.cooldown = 0

    config.validation.every = 500
    config.checkpoint.every = 250
    return config
