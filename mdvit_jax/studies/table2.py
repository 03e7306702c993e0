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
    """The four networks, each with all of its seeds, on the unperturbed pairs.

    Raises:
        NotApplicable: some of the four networks are missing.
    """
    rows = _rows(setting)
    for name, row in SETTINGS.items():
        if row not in rows.values():
            raise NotApplicable(
                f"table2 compares {', '.join(SETTINGS)}; {name} is not among the "
                "networks; name the four runs with --checkpoint, or train them with "
                "python -m mdvit_jax ablation."
            )
    networks = [network for network in setting.networks if network.name in rows]
    networks.sort(key=lambda network: list(SETTINGS.values()).index(rows[network.name]))
    return compute_records(setting, (centres_of_mass(), *networks))


def report(setting: Setting, records: pd.DataFrame) -> Section:
    """A row for each setting of Table 2."""
    text = (
        "What the loss, the dilated convolutions and fine-tuning add (paper, Table 2): "
        "C2FViT with NCC, with NTG, MDViT with NTG, all as pre-trained, and MDViT "
        f"fine-tuned, on {count_pairs(records)}. "
    )
    unit, rows = setting.config.evaluation.hausdorff_unit, _rows(setting)
    if setting.families:
        text += tables.SEEDS
        table = tables.seed_table(records, unit, rows)
    else:
        text += "Mean ± standard deviation over pairs."
        table = tables.overlap_table(records, unit, names=rows)
    return Section("Table 2: ablation", text, [table])


def _rows(setting: Setting) -> dict[str, str]:
    """Name of a network → its row."""
    names = {n.name: setting.families.get(n.name, n.name) for n in setting.networks}
    return {name: SETTINGS[own] for name, own in names.items() if own in SETTINGS}
