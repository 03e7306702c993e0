"""The chain of trainings behind Table 2."""

from pathlib import Path

from mdvit_jax import config as configuration
from mdvit_jax.studies import chain, evaluation
from mdvit_jax.training import loop

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


def test_a_signal_ends_the_chain_and_the_same_command_goes_on(tmp_path, monkeypatch):
    """Each run resumes by itself, so that all four are started again."""
    codes, trained, evaluated = [0, 143, 0, 0, 0, 0], [], []

    def train(config):
        trained.append(Path(config.workdir).name)
        return codes.pop(0)

    def evaluate(config, options, *, command):
        evaluated.append(([run.name for run in options.checkpoint], command))
        return "tables"

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(evaluation, "run", evaluate)
    both = load("small_finetuning"), load("small_pretraining")
    assert chain.run(*both, tmp_path, command="again") == 143
    assert trained == ["c2fvit", "ntg"] and not evaluated
    assert chain.run(*both, tmp_path, command="again") == 0
    names = ["c2fvit", "ntg", "msda", "fine_tuning"]
    assert trained[2:] == names and evaluated == [(names, "again")]
