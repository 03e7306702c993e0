"""MDViT with NTG on OASIS from scratch (paper 3.1): 207, 104 and 103 scans.

    python train.py --config configs/oasis.py
    python eval.py --config configs/oasis.py --checkpoint runs/oasis

`data.root` holds neurite-OASIS (Hoopes et al. 2022), a folder for each scan such as
OASIS_OAS1_0001_MR1/{norm.nii.gz, seg35.nii.gz}, obtained at
https://github.com/adalca/medical-datasets/blob/master/neurite-oasis.md. For the
template task add --config.data.task=template. Time: that of configs/adni.py. The paper
has no result of this; its result on OASIS is that of configs/oasis_finetune.py.
This is the paper's form; configs/oasis.py:recipe is ours (see configs/adni.py).
"""

from configs import default


def get_config(form: str = "paper"):
    """OASIS at 128³, reference-based, from random parameters."""
    config = default.get_config()
    config.workdir = "runs/oasis"
    config.data.layout = "neurite_oasis"
    config.data.root = "data/neurite-oasis"
    config.data.label_scheme = "neurite_oasis"
    config.data.split = (207, 104, 103)
    config.optim.decay_every = 500 * 207
    return default.in_form(config, form)
