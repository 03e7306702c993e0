"""Fine-tuning at small scale: 8 scans of OASIS-1 to learn from, 3 to choose, 5 to test.

    python -m mdvit_jax prepare --config configs/small_finetuning.py
    python -m mdvit_jax ablation --config configs/small_finetuning.py \\
      --pretraining configs/small_pretraining.py

`data.root` holds skull-stripped scans 1000_SS.nii.gz with the Neuromorphometrics labels
1000_glm.nii.gz (15 people; 1003 and 1023 are one). What is trained, the clipping and
the weight decay are the paper's (3.1); the rate is higher, as there are fewer steps.

Time: 4 minutes on one CPU core, 90 for the ablation. Result: docs/reproduction.md.
"""

from configs import default


def get_config():
    """Template-based; the reference task, --config.data.task=reference, has regions."""
    config = default.finetuning(default.small(default.get_config(), size=64))
    config.workdir = "runs/small/fine_tuning"
    config.optim.start_from = "runs/small/msda"
    config.data.layout = "folder"
    config.data.root = "data/oasis1_malf"
    config.data.image = "*_SS.nii.gz"
    config.data.labels = "{subject}_glm.nii.gz"
    config.data.label_scheme = "neuromorphometrics"
    config.data.cache = "cache/oasis1_malf"
    config.data.same_person = (("1003", "1023"),)
    config.data.split = (8, 3, 5)
    config.data.task = "template"
    config.optim.steps = 1000
    config.optim.lr = 1e-4
    config.optim.decay_every = 500
    return config
