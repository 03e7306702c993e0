"""MDViT with NTG on LPBA40 from scratch (paper 3.1): 20, 10 and 10 scans.

    python train.py --config configs/lpba.py
    python eval.py --config configs/lpba.py --checkpoint runs/lpba

`data.root` holds LPBA40 (Shattuck et al. 2008), a folder for each person, S01 … S40,
obtained at https://resource.loni.usc.edu/resources/atlases-downloads. For the template
task add --config.data.task=template. Time: that of configs/adni.py. The paper has no
result of this; its result on LPBA40 is that of configs/lpba_finetune.py.
This is the paper's form; configs/lpba.py:recipe is ours (see configs/adni.py).
"""

from configs import default


def get_config(form: str = "paper"):
    """LPBA40 at 128³, reference-based, from random parameters."""
    config = default.get_config()
    config.workdir = "runs/lpba"
    config.data.layout = "lpba40"
    config.data.root = "data/lpba40"
    config.data.label_scheme = "lpba40"
    config.data.split = (20, 10, 10)
    config.optim.decay_every = 500 * 20
    return default.in_form(config, form)
