"""The four trainings behind Table 2."""

import functools
from pathlib import Path

from mdvit_jax.config import differences, load_config
from mdvit_jax.studies import runner, table2_training
from mdvit_jax.training import loop

ROOT = Path(__file__).resolve().parents[1]


def load(name, **overrides):
    return load_config(ROOT / f"configs/{name}.py", overrides)


def test_each_network_differs_by_one_setting(tmp_path):
    tuning = load("small_finetuning", **{"data.task": "reference"})
    configs = table2_training.network_configs(
        tuning, load("small_pretraining"), tmp_path
    )
    first, ntg, msda, tuned = configs.values()
    assert list(configs) == ["C2FViT", "+NTG", "+MSDA", "+fine-tuning"]
    assert set(differences(first, ntg)) == {
        "workdir", "loss.name", "loss.pool"
    }  # fmt: skip
    assert differences(ntg, msda) == {
        "workdir": (str(tmp_path / "ntg"), str(tmp_path / "msda")),
        "model.dilated_form": ("none", "channels"),
    }
    assert tuned.optim.start_from == msda.workdir
    assert tuned.optim.trained == ("patch_embedding", "msda", "head")
    assert {c.data.task for c in configs.values()} == {"reference"}
    assert tuning.workdir == "runs/small/fine_tuning"  # the argument is not changed


def test_after_a_signal_the_same_command_goes_on(tmp_path, monkeypatch):
    """Each run resumes by itself, so all four are started again."""
    codes, trained, evaluated = [0, 143, 0, 0, 0, 0], [], []

    def train(config):
        trained.append(Path(config.workdir).name)
        return codes.pop(0)

    def evaluate(config, *, checkpoints, studies, output, command):
        assert studies == ["all"] and output == tmp_path / "evaluation"
        evaluated.append(([run.name for run in checkpoints], command))
        return "tables"

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(runner, "run_studies", evaluate)
    both = load("small_finetuning"), load("small_pretraining")
    start = functools.partial(
        table2_training.train_and_evaluate, *both, tmp_path, command="again"
    )
    assert start() == 143
    assert trained == ["c2fvit", "ntg"] and not evaluated
    assert start() == 0
    names = ["c2fvit", "ntg", "msda", "fine_tuning"]
    assert trained[2:] == names and evaluated == [(names, "again")]
