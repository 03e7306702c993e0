"""The four networks of the paper's Table 2 at small scale, trained with the recipe.

    ln -s FOLDER data       # with ds002748/ and oasis1_malf/
    python -m mdvit_jax prepare --config configs/table2.py:pretraining
    python -m mdvit_jax prepare --config configs/table2.py
    python -m mdvit_jax ablation --config configs/table2.py \\
      --pretraining configs/table2.py:pretraining --seeds 3

Pre-training is that of configs/table1.py. Fine-tuning learns from five scans of OASIS-1
with the recipe's pairs too; what is trained, the clipping and the weight decay are the
paper's (3.1). Four other people test all networks, between people and, by eval.py with
--config.data.task=template, on MNI152.
"""

from configs import default, small_finetuning, table1


def get_config(part: str = "finetuning"):
    """Fine-tuning and evaluation; "pretraining" for that of the other three."""
    config = table1.get_config()
    config.optim.steps = 1500
    if part == "pretraining":
        config.workdir = "runs/table2/msda"
        return config
    if part != "finetuning":
        raise ValueError(f'the part is "finetuning" or "pretraining", not "{part}"')
    config = default.finetuning(config)
    config.workdir = "runs/table2/fine_tuning"
    config.optim.start_from = "runs/table2/msda/seed-0"
    config.optim.weight_decay = default.get_config().optim.weight_decay
    config.optim.steps = 300
    config.optim.lr = 1e-4

    data = small_finetuning.get_config().data
    for name in "layout", "root", "image", "labels", "label_scheme", "same_person":
        config.data[name] = data[name]
    config.data.cache = "cache/table2"
    # The other five scans are not looked at.
    config.data.split = (r"100[0-3]|1023", r"100[45]", r"100[6-9]")
    config.evaluation.split = "test"
    return config
