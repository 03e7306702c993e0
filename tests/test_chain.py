"""The chain of trainings behind Table 2."""

from pathlib import Path

from mdvit_jax import configuration
from mdvit_jax.studies import chain

ROOT = Path(__file__).resolve().parents[1]


def load(name, **overrides):
    return configuration.load(ROOT / f"configs/{name}.py", overrides)


def test_each_network_differs_by_one_thing(tmp_path):
    tuning = load("small_finetuning", **{"data.task": "reference"})
    made = chain.networks(tuning, load("small_pretraining"), tmp_path)
    first, ntg, msda, tuned = made.values()
    assert list(made) == ["C2FViT", "+NTG", "+MSDA", "+fine-tuning"]
    assert set(configuration.differences(first, ntg)) == {
        "workdir", "loss.name", "loss.pool"
    }  # fmt: skip
    assert configuration.differences(ntg, msda) == {
        "workdir": (str(tmp_path / "ntg"), str(tmp_path / "msda")),
        "model.dilated_form": ("none", "channels"),
    }
    assert tuned.optim.start_from == msda.workdir
    assert tuned.optim.trained == ("patch_embedding", "msda", "head")
    assert {c.data.task for c in made.values()} == {"reference"}
    assert tuning.workdir == "runs/small/fine_tuning"  # what was given is not changed
