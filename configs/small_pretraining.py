"""Pre-training at small scale on two CPU cores: 36 people of OpenNeuro's ds002748.

    python -m mdvit_jax prepare --config configs/small_pretraining.py
    python train.py --config configs/small_pretraining.py

`data.root` holds the skull-stripped scans sub-01_T1w.nii.gz … sub-40_T1w.nii.gz of
https://openneuro.org/datasets/ds002748. The paper's chain with a smaller network on
fewer voxels and people.

Time: 25 minutes on one CPU core. Result: docs/reproduction.md.
"""

from configs import default


def get_config():
    """Template-based; --config.data.task=reference for the other task."""
    # Voxels of 4 mm.
    config = default.small(default.get_config(), size=64)
    config.workdir = "runs/small/msda"
    config.data.layout = "bids"
    config.data.root = "data/ds002748"
    config.data.cache = "cache/ds002748"
    config.data.split = (36, 4, 0)
    config.data.task = "template"
    config.optim.steps = 6000
    config.optim.lr = 3e-4
    config.optim.decay_every = 3000
    config.optim.decay_factor = 0.5
    config.optim.weight_decay = 0.0
    config.evaluation.split = "validation"
    return config
