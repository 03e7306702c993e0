"""Fine-tuning on LPBA40 of a network that was pre-trained on ADNI (paper 3.1).

    python train.py --config configs/lpba_finetune.py --config.optim.start_from=runs/adni
    python eval.py --config configs/lpba_finetune.py --checkpoint runs/lpba_finetune

Attention is frozen; patch embeddings, dilated layers and the affine heads are trained, at a
learning rate of 1e-5 for 30,000 steps. The data are those of configs/lpba.py.
"""

from configs import default, lpba


def get_config():
    """The paper's fine-tuning, reference-based."""
    config = lpba.get_config()
    config.workdir = "runs/lpba_finetune"
    config.optim.start_from = "runs/adni"
    return default.finetuning(config)
