"""Fine-tuning on LPBA40 of a network that was pre-trained on ADNI (paper 3.1).

    python train.py --config configs/lpba_finetune.py --config.optim.start_from=runs/adni
    python eval.py --config configs/lpba_finetune.py --checkpoint runs/lpba_finetune

Patch embeddings, dilated layers and the affine heads are trained, with a learning rate
of 1e-5 for 30,000 steps; attention is frozen. The data are those of configs/lpba.py.

Time: 5 hours at the paper's 0.65 s a step (see configs/adni.py). Result: the paper has
a reference-based DSC of 0.94 ± 0.01 and an HD95 of 2.31 ± 0.27 voxels; template-based
0.94 ± 0.02 and 3.20 ± 1.09 (Table 1).
"""

from configs import default, lpba


def get_config():
    """The paper's fine-tuning, reference-based."""
    config = lpba.get_config()
    config.workdir = "runs/lpba_finetune"
    config.optim.start_from = "runs/adni"
    return default.finetuning(config)
