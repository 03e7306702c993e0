"""The four trainings behind Table 2."""

import functools
import re
from pathlib import Path

import pytest

from mdvit_jax import errors
from mdvit_jax.config import differences, load_config
from mdvit_jax.studies import runner, table2_training
from mdvit_jax.training import loop

ROOT = Path(__file__).resolve().parents[1]


def load(name, **overrides):
    name, _, form = name.partition(":")
    path = f"{ROOT}/configs/{name}.py" + (form and f":{form}")
    return load_config(path, overrides)


def test_each_network_differs_by_one_setting(tmp_path):
    tuning = load("small_finetuning", **{"data.task": "reference"})
    configs = table2_training.network_configs(
        tuning, load("small_pretraining"), tmp_path, seed=3
    )
    first, ntg, msda, tuned = configs.values()
    assert list(configs) == ["C2FViT", "+NTG", "+MSDA", "+fine-tuning"]
    assert set(differences(first, ntg)) == {
        "workdir", "loss.name", "loss.pool"
    }  # fmt: skip
    assert differences(ntg, msda) == {
        "workdir": (str(tmp_path / "ntg/seed-3"), str(tmp_path / "msda/seed-3")),
        "model.dilated_form": ("none", "channels"),
    }
    assert tuned.optim.start_from == msda.workdir
    assert tuned.optim.trained == ("patch_embedding", "msda", "head")
    assert {(c.data.task, c.seed) for c in configs.values()} == {("reference", 3)}
    assert tuning.workdir == "runs/small/fine_tuning"  # the argument is not changed


def test_after_a_signal_the_same_command_goes_on(tmp_path, monkeypatch):
    """Each run resumes by itself, so all four are started again."""
    codes, trained, evaluated = [0, 143, *[0] * 8], [], []

    def train(config):
        trained.append(str(Path(config.workdir).relative_to(tmp_path)))
        return codes.pop(0)

    def evaluate(config, *, checkpoints, studies, output, command):
        assert studies == ["all"] and output == tmp_path / "evaluation"
        runs = [str(run.relative_to(tmp_path)) for run in checkpoints]
        evaluated.append((runs, command))
        return "tables"

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(runner, "run_studies", evaluate)
    both = load("table2"), load("table2:pretraining")
    start = functools.partial(
        *(table2_training.train_and_evaluate, *both, tmp_path), seeds=2, command="again"
    )
    assert start() == 143
    assert trained == ["c2fvit/seed-0", "ntg/seed-0"] and not evaluated
    assert start() == 0
    names = ["c2fvit", "ntg", "msda", "fine_tuning"]
    runs = [f"{name}/seed-{seed}" for seed in (0, 1) for name in names]
    assert trained[2:] == runs and evaluated == [(runs, "again")]


def test_several_seeds_need_the_same_people(tmp_path):
    both = load("small_finetuning"), load("small_pretraining")
    with pytest.raises(errors.UserError, match=r"data.split is \(8, 3, 5\), so that"):
        table2_training.train_and_evaluate(*both, tmp_path, seeds=2, command="")
    with pytest.raises(errors.UserError, match="0 seeds are nothing"):
        table2_training.train_and_evaluate(*both, tmp_path, seeds=0, command="")


def test_the_recipe_s_networks_learn_from_others_than_those_tested():
    for name in "table2", "table2:pretraining":
        config = load(name)
        assert config.model.head == "moments" and config.augment.affine.which == "both"
        assert not any(re.search(p, s) for p in config.data.split for s in LEFT_OUT)
    assert config.optim.steps > load("table2").optim.steps


# The last people of either cohort, on whom nothing is chosen.
LEFT_OUT = [f"11{number:02}" for number in (1, 7, 13, 19, 25)]
