"""Fine-tuning on OASIS of a network that was pre-trained on ADNI (paper 3.1).

    python train.py --config configs/oasis_finetune.py --config.optim.start_from=runs/adni
    python eval.py --config configs/oasis_finetune.py --checkpoint runs/oasis_finetune

Attention is frozen; patch embeddings, dilated layers and the affine heads are trained, at a
learning rate of 1e-5 for 30,000 steps. The data are those of configs/oasis.py.
"""

from configs import default, oasis


def get_config():
    """The paper's fine-tuning, reference-based."""
    config = oasis.get_config()
    config.workdir = "runs/oasis_finetune"
    config.optim.start_from = "runs/adni"
    return default.finetuning(config)
