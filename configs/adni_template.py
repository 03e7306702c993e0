"""Pre-training of MDViT with NTG on ADNI to MNI152 (paper 3.1): 150,000 steps.

    python -m mdvit_jax prepare --config configs/adni.py
    python train.py --config configs/adni_template.py

The data, and their cache, are those of configs/adni.py. Time: 27 hours at the paper's
0.65 s a step. Result: without fine-tuning, the paper has a template-based DSC of
0.92 ± 0.01 on OASIS and of 0.93 ± 0.01 on LPBA40 (Table 2, +MSDA).
This is the paper's form; configs/adni_template.py:recipe is ours (see configs/adni.py).
"""

from configs import adni, default


def get_config(form: str = "paper"):
    """The paper's pre-training, template-based."""
    config = adni.get_config()
    config.workdir = "runs/adni_template"
    config.data.task = "template"
    # paper 3.1
    config.optim.steps = 150_000
    return default.in_form(config, form)
