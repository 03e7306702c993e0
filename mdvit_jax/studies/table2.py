"""Table 2 of the paper: what NTG, MSDA and fine-tuning add to C2FViT."""

import pandas as pd

from mdvit_jax.evaluation.methods import centres_of_mass
from mdvit_jax.studies import tables
from mdvit_jax.studies.compute import NotApplicable, Setting, compute_records
from mdvit_jax.studies.record import count_pairs
from mdvit_jax.studies.report.section import Section

# Name of a network, which follows from its configuration → the setting of Table 2.
SETTINGS = {
    "C2FViT (NCC)": "C2FViT",
    "C2FViT (NTG)": "+NTG",
    "MDViT (NTG)": "+MSDA",
    "MDViT (NTG), fine-tuned": "+fine-tuning",
}


def compute(setting: Setting) -> pd.DataFrame:
    """The four networks on the unperturbed pairs.

    Raises:
        NotApplicable: some of the four networks are missing.
    """
    networks = {network.name: network for network in setting.networks}
    missing = [name for name in SETTINGS if name not in networks]
    if missing:
        raise NotApplicable(
            f"table2 compares {', '.join(SETTINGS)}; {missing[0]} is not among the "
            "networks; name the four runs with --checkpoint, or train them with "
            "python -m mdvit_jax ablation."
        )
    methods = centres_of_mass(), *(networks[name] for name in SETTINGS)
    return compute_records(setting, methods)


def report(setting: Setting, records: pd.DataFrame) -> Section:
    """A row for each setting of Table 2."""
    text = (
        "What the loss, the dilated convolutions and fine-tuning add (paper, Table 2): "
        "C2FViT with NCC, with NTG, MDViT with NTG, all as pre-trained, and MDViT "
        f"fine-tuned. Mean ± standard deviation over {count_pairs(records)}."
    )
    unit = setting.config.evaluation.hausdorff_unit
    table = tables.overlap_table(records, unit, names=SETTINGS)
    return Section("Table 2: ablation", text, [table])
