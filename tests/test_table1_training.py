"""The trainings behind Table 1, and the rows of networks that several seeds trained."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from mdvit_jax import errors, models
from mdvit_jax.config import differences, load_config, save_config
from mdvit_jax.studies import runner, table1_training, tables
from mdvit_jax.studies.record import Record, tabulate
from mdvit_jax.training import loop, pretrained

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def settings():
    return load_config(ROOT / "configs/table1.py")


def test_the_runs_differ_by_network_and_seed_alone(settings, tmp_path):
    (tmp_path / "steps.json").write_text(
        json.dumps(dict.fromkeys(table1_training.NETWORKS, 0.5))
    )
    steps = table1_training.count_steps(settings, tmp_path / "steps.json", 100)
    assert set(steps.values()) == {200}
    runs = list(table1_training.run_configs(settings, tmp_path, steps, 2))
    folders = [Path(run.workdir).relative_to(tmp_path) for run in runs]
    names = list(table1_training.NETWORKS)
    assert folders == [Path(n) / f"seed-{i}" for i in (0, 1) for n in names]
    for run in runs[:5]:
        changed = set(differences(settings, run))
        changed -= {"workdir", "optim.steps"}
        assert all(name.startswith("model.") for name in changed)
        models.create(run)  # a network that exists
    assert set(differences(runs[0], runs[5])) == {"seed", "workdir"}
    assert settings.model.name == "mdvit"  # the argument is not changed


def test_the_time_of_a_step_is_measured(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(table1_training, "measure_step", lambda config: 0.25)
    path = tmp_path / "new/steps.json"
    steps = table1_training.count_steps(settings, path, 10)
    assert steps == dict.fromkeys(table1_training.NETWORKS, 40)
    monkeypatch.delattr(table1_training, "measure_step")
    assert table1_training.count_steps(settings, path, 5)["pasta"] == 20


def test_the_first_seed_of_all_networks_comes_first(settings, tmp_path, monkeypatch):
    codes, trained, evaluated = [0, 143, *[0] * 10], [], []

    def train(config):
        trained.append("/".join(Path(config.workdir).parts[-2:]))
        return codes.pop(0)

    def evaluate(config, *, checkpoints, studies, output, command):
        assert studies == ["table1"] and command == "again" and len(checkpoints) == 10
        evaluated.append((config.data.task, output.name))
        return "a table"

    monkeypatch.setattr(table1_training, "measure_step", lambda config: 0.25)
    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(runner, "run_studies", evaluate)
    start = functools.partial(
        table1_training.train_and_evaluate,
        *(settings, tmp_path),
        **{"seconds": 10, "seeds": 2, "command": "again"},
    )
    with pytest.raises(errors.UserError, match="0 seconds are nothing"):
        start(seconds=0)
    assert start() == 143 and not evaluated
    assert start() == 0
    assert trained[:3] == ["dlir/seed-0", "pasta/seed-0", "dlir/seed-0"]
    assert trained[6:8] == ["mdvit/seed-0", "dlir/seed-1"]
    assert evaluated == [("template",) * 2, ("reference",) * 2]


def saved(settings, folder: Path, **changed) -> Path:
    own = load_config(
        ROOT / "configs/table1.py",
        {"workdir": str(folder)}
        | {n.replace("__", "."): v for n, v in changed.items()},
    )
    save_config(own, folder)
    return folder


def test_runs_of_one_network_with_several_seeds_are_a_family(
    settings, tmp_path, monkeypatch
):
    network = models.create(settings)
    monkeypatch.setattr(
        pretrained,
        "trained_network",
        lambda path: pretrained.Trained(
            "MDViT (NTG)", network, {}, "step 1", 32, 256.0
        ),
    )
    runs = [saved(settings, tmp_path / str(i), seed=str(i)) for i in range(3)]
    networks = runner.load_networks(settings, runs)
    assert [one.name for one in networks] == [f"MDViT (NTG), {i}" for i in range(3)]
    assert {one.family for one in networks} == {"MDViT (NTG)"}
    other = saved(settings, tmp_path / "other", seed="3", optim__lr="1e-4")
    networks = runner.load_networks(settings, [*runs, other])
    assert {one.family for one in networks} == {""}
    # The parts of this split are patterns of names; with counts the seed draws them.
    counts = load_config(ROOT / "configs/table1.py", {"data.split": "(30, 6, 4)"})
    drawn = saved(settings, tmp_path / "drawn", seed="4", data__split="(30, 6, 4)")
    with pytest.raises(errors.UserError, match=r"trained with seed 4 \(now 0\)"):
        runner.load_networks(counts, [drawn])


def test_a_row_of_several_seeds():
    def record(method, moving, dsc):
        return Record(
            method, "f", moving, "", dsc=dsc, hd95=1.0, jaccard=dsc, seconds=2.0
        )

    values = {"A, 0": (0.5, 0.7), "A, 1": (0.6, 0.8), "B": (0.9, 0.9)}
    records = tabulate(
        [
            record(method, moving, dsc)
            for method, pair in values.items()
            for moving, dsc in zip("mn", pair, strict=True)
        ]
    )
    table = tables.seed_table(records, "mm", {"A, 0": "A", "A, 1": "A"})
    assert table.heads[:2] == ("Method", "Runs") and table.heads[3] == "HD95↓ (mm)"
    # Of the pairs 0.55 and 0.75, of the seeds 0.6 and 0.7.
    for spread, scores in ((0.1, (0.55, 0.75)), (0.05, (0.6, 0.7))):
        assert np.std(scores, ddof=1) / np.sqrt(2) == pytest.approx(spread)
    overlap = "0.650 ± 0.100"
    assert table.rows[0] == (
        "A",
        "2",
        overlap,
        "1.00 ± 0.00",
        overlap,
        "0.0500",
        "2.00",
    )
    overlap = "0.900 ± 0.000"
    assert table.rows[1] == ("B", "1", overlap, "1.00 ± 0.00", overlap, "–", "2.00")
    # A pair at which one seed failed is in the mean of none, as in all studies.
    records.loc[0, ["dsc", "error"]] = np.nan, "no way"
    table = tables.seed_table(records, "mm", {"A, 0": "A", "A, 1": "A"})
    assert table.rows[0][2] == "0.750 ± 0.000"
