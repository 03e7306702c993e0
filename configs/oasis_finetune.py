"""Fine-tuning on OASIS of a network that was pre-trained on ADNI (paper 3.1).

    python train.py --config configs/oasis_finetune.py --config.optim.start_from=runs/adni
    python eval.py --config configs/oasis_finetune.py --checkpoint runs/oasis_finetune

Patch embeddings, dilated layers and the affine heads are trained, with a learning rate
of 1e-5 for 30,000 steps; attention is frozen. The data are those of configs/oasis.py.

Time: 5 hours at the paper's 0.65 s a step (see configs/adni.py). Result: the paper has
a reference-based DSC of 0.94 ± 0.01 and an HD95 of 2.79 ± 0.42 voxels; template-based
0.93 ± 0.01 and 3.79 ± 0.49 (Table 1).
"""

from configs import default, oasis


def get_config():
    """The paper's fine-tuning, reference-based."""
    config = oasis.get_config()
    config.workdir = "runs/oasis_finetune"
    config.optim.start_from = "runs/adni"
    return default.finetuning(config)
