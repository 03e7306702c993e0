"""MDViT for brains and heads of any contrast, orientation and field of view.

    ln -s FOLDER data       # with ds002748/ and synthseg_labels/
    python -m mdvit_jax prepare --config configs/anything.py
    python train.py --config configs/anything.py

Learns from skull-stripped people (OpenNeuro's ds002748, CC0) moved and recoloured at
random, where `prepare` aligns each with MNI152 so that the affine between two of them
is known; and from synthetic scans of SynthSeg's label maps of whole heads (Apache-2.0)
that the devices make in every step. 32³ voxels of 8 mm: a head's affine needs no more.
sub-37 to sub-40 are not looked at until the very end; sub-31 to sub-36 and the last
four label maps choose between recipes.
"""

from configs import default


def get_config():
    """A GPU needs minutes for it; two CPU cores days."""
    config = default.recipe(default.small(default.get_config(), size=32))
    config.workdir = "runs/anything"

    data = config.data
    data.layout = "bids"
    data.root = "data/ds002748"
    data.cache = "cache/anything"
    data.in_memory = True
    data.split = (r"sub-([012]\d|30)", r"sub-3[1-6]", r"sub-(3[7-9]|40)")

    config.loss.people = True

    model = config.model
    model.embedding = 128
    model.heads = 4
    model.depth = 2
    model.passes = 2

    optim = config.optim
    optim.steps = 20_000
    optim.batch = 16
    optim.cooldown = 8_000

    synthesis = config.synthesis
    synthesis.heads = "data/synthseg_labels"
    synthesis.held_out = 4
    synthesis.pairs = 2

    config.validation.every = 2_000
    config.validation.known = 4
    config.checkpoint.every = 2_000
    config.evaluation.split = "validation"
    return config
