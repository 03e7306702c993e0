"""Pre-training of MDViT with NTG on ADNI (paper 3.1): 3453 scans, 433 for validation.

    python -m mdvit_jax prepare --config configs/adni.py
    python train.py --config configs/adni.py
    python train.py --config configs/adni_template.py

`data.root` holds one FreeSurfer subject folder for each scan, such as
003_S_0907_I48617/mri/{brain.mgz, aseg.mgz}. ADNI is obtained at https://adni.loni.usc.edu.
The paper chose the checkpoint by validation at 250,000 steps (template-based: 150,000).
"""

from configs import default


def get_config():
    """The paper's pre-training, reference-based."""
    config = default.get_config()
    config.workdir = "runs/adni"
    config.data.layout = "freesurfer"
    config.data.root = "data/adni"
    config.data.cache = "cache/adni"
    # A cached pair is read in milliseconds, and handing it over takes longer.
    config.data.workers = 0
    config.data.label_scheme = "freesurfer"
    config.data.person = r"^(\d+_S_\d+)"  # one person has many visits
    config.data.split = (3453, 433, 0)
    config.validation.cases = 100
    config.evaluation.split = "validation"  # the paper tests on other cohorts
    return config
