"""A small MDViT that learns with NTG in a few minutes on two CPU cores, no download.

    python train.py --config configs/quickstart.py
    python eval.py --config configs/quickstart.py --checkpoint runs/quickstart

The cohort is synthetic: people made from MNI152 by random affines, smooth deformations,
contrast, bias field and noise. A demonstration at 64³, not the paper's experiment.
"""

from configs import default


def get_config():
    """64³, template-based, with a network of a fraction of the paper's size."""
    config = default.get_config()
    config.workdir = "runs/quickstart"
    config.data.layout = "synthetic"
    config.data.label_scheme = "tissue"
    config.data.split = (32, 4, 4)
    config.data.size = 64
    config.data.task = "template"
    config.data.workers = 0
    config.model.embedding = 64
    config.model.depth = 1
    config.loss.stride = 1
    config.optim.steps = 400
    config.optim.lr = 5e-4
    config.optim.decay_every = 150
    config.optim.decay_factor = 0.5
    config.augment.flip = 0.0
    config.augment.rotate = 0.0
    config.validation.every = 100
    config.checkpoint.every = 100
    return config
