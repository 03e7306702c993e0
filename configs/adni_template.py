"""Pre-training of MDViT with NTG on ADNI to MNI152 (paper 3.1): 150,000 steps.

    python -m mdvit_jax prepare --config configs/adni.py
    python train.py --config configs/adni_template.py

The data, and their cache, are those of configs/adni.py.
"""

from configs import adni


def get_config():
    """The paper's pre-training, template-based."""
    config = adni.get_config()
    config.workdir = "runs/adni_template"
    config.data.task = "template"
    config.optim.steps = 150_000  # paper 3.1
    return config
