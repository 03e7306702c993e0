"""Table 2 of the paper: what NTG, MSDA and fine-tuning add to C2FViT."""

from mdvit_jax.evaluation.methods import centres_of_mass
from mdvit_jax.studies import cases, tables
from mdvit_jax.studies.case import Case, count_pairs
from mdvit_jax.studies.section import Section

# What a network is called by its configuration (`training.pretrained`) → the
# setting of Table 2.
SETTINGS = {
    "C2FViT (NCC)": "C2FViT",
    "C2FViT (NTG)": "+NTG",
    "MDViT (NTG)": "+MSDA",
    "MDViT (NTG), fine-tuned": "+fine-tuning",
}


def run(setting: cases.Setting) -> tuple[Section, list[Case]]:
    """The four settings on the pairs as they are.

    Raises:
        Lacking: networks of the four are missing.
    """
    networks = {network.name: network for network in setting.networks}
    missing = [name for name in SETTINGS if name not in networks]
    if missing:
        raise cases.Lacking(
            f"the ablation compares {', '.join(SETTINGS)}; {missing[0]} is not among "
            "the networks; name the four runs with --checkpoint, or train them "
            "with python -m mdvit_jax ablation."
        )
    methods = centres_of_mass(), *(networks[name] for name in SETTINGS)
    found = cases.run(setting, methods)
    text = (
        "What the loss, the dilated convolutions and fine-tuning add (paper, Table 2): "
        "C2FViT with NCC, with NTG, MDViT with NTG, all as pre-trained, and MDViT "
        f"fine-tuned. Mean ± standard deviation over {count_pairs(found)}."
    )
    unit = setting.config.evaluation.hausdorff_unit
    table = tables.overlap(found, unit, names=SETTINGS)
    return Section("ablation", "Table 2: ablation", text, [table], {}), found
