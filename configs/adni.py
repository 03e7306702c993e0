"""Pre-training of MDViT with NTG on ADNI (paper 3.1): 3453 scans, 433 for validation.

    python -m mdvit_jax prepare --config configs/adni.py
    python train.py --config configs/adni.py

`data.root` holds one FreeSurfer subject folder for each scan, such as
003_S_0907_I48617/mri/{brain.mgz, aseg.mgz}. ADNI is obtained at
https://adni.loni.usc.edu.

Time: 45 hours at the paper's 0.65 s a step of C2FViT on an RTX 3090 Ti (Appendix B);
docs/performance.md plans for other hardware. Result: the paper chose the checkpoint by
validation at 250,000 steps and has, without fine-tuning, a reference-based DSC of
0.94 ± 0.01 on OASIS and of 0.93 ± 0.01 on LPBA40 (Table 2, +MSDA).

This is the paper's form. At small scale a network of that form learns the outline of a
brain and little more: known affines of up to 20 degrees stay 13 mm off, those of the
centres of mass being 16 mm off (docs/training-log.md). What makes it learn them too,
the recipe of configs/default.py, is one word:

    python train.py --config configs/adni.py:recipe --config.workdir=runs/adni_recipe

It has not been trained on ADNI, or at 128³.
"""

from configs import default


def get_config(form: str = "paper"):
    """The paper's pre-training, reference-based."""
    config = default.get_config()
    config.workdir = "runs/adni"
    config.data.layout = "freesurfer"
    config.data.root = "data/adni"
    config.data.cache = "cache/adni"
    # A cached pair is read in milliseconds, and handing it over takes longer.
    config.data.workers = 0
    config.data.label_scheme = "freesurfer"
    # One person has many visits.
    config.data.person = r"^(\d+_S_\d+)"
    config.data.split = (3453, 433, 0)
    config.validation.cases = 100
    # The paper tests on other cohorts.
    config.evaluation.split = "validation"
    return default.in_form(config, form)
