"""Configurations: overrides, what people mistype, and the record of a run."""

import glob
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mdvit_jax import errors
from mdvit_jax.cli import parser
from mdvit_jax.config import differences, leaves, load_config, read_config, save_config

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ROOT / "configs/default.py"


@pytest.mark.parametrize("path", sorted(glob.glob(str(ROOT / "configs/[!_]*.py"))))
def test_every_file_loads_and_names_no_new_value(path):
    default, settings = load_config(DEFAULT), load_config(path)
    assert {name for name, _ in leaves(settings)} == {
        name for name, _ in leaves(default)
    }
    assert settings.is_locked


@pytest.mark.parametrize("name", ["adni", "adni_template", "oasis", "lpba"])
def test_a_form_is_named_after_a_colon(name):
    path = ROOT / f"configs/{name}.py"
    paper, ours = load_config(path), load_config(f"{path}:recipe")
    changed = set(differences(paper, ours))
    assert {"augment.affine.which", "model.head", "loss.known"} < changed
    assert {name.split(".")[0] for name in changed} == {
        "augment", "loss", "model", "optim"
    }  # fmt: skip
    assert differences(paper, load_config(f"{path}:paper")) == {}


def test_a_form_that_a_file_does_not_have():
    with pytest.raises(errors.UserError, match='"paper" or "recipe", not "receipt"'):
        load_config(f"{ROOT}/configs/adni.py:receipt")
    with pytest.raises(errors.UserError, match="one form only"):
        load_config(f"{ROOT}/configs/quickstart.py:recipe")


def test_overrides_have_the_type_of_the_file():
    settings = load_config(
        DEFAULT,
        {
            "optim.steps": "200_000",
            "optim.batch": "4",
            "optim.lr": "1",
            "model.remat": "True",
            "data.root": "12",
            "data.split": "[10, 2, 3]",
            "data.same_person": "[['1003', '1023']]",
            "optim.trained": "'msda'",
        },
    )
    assert settings.optim.steps == 200_000 and isinstance(settings.optim.steps, int)
    assert settings.optim.batch == 4
    assert settings.optim.lr == 1.0 and isinstance(settings.optim.lr, float)
    assert settings.model.remat is True
    assert settings.data.root == "12"
    assert settings.data.split == (10, 2, 3)
    assert settings.data.same_person == (("1003", "1023"),)
    assert settings.optim.trained == ("msda",)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("optim.lrr", "optim.lr"),
        ("optim.rl", "optim.lr"),
        ("validation", "validation."),
        ("steps", "optim.steps"),
        ("data.spilt", "data.split"),
        ("model.dilated_from", "model.dilated_form"),
    ],
)
def test_a_mistyped_name_suggests_the_right_one(name, meant):
    with pytest.raises(errors.UserError, match=f"did you mean --config.{meant}"):
        load_config(DEFAULT, {name: "1"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("optim.steps", "many"),
        ("optim.steps", "1.5"),
        ("optim.steps", "inf"),
        ("optim.lr", "small"),
        ("model.remat", "perhaps"),
    ],
)
def test_a_wrong_value_is_named(name, text):
    with pytest.raises(errors.UserError, match=rf"^--config.{name}={text} is not"):
        load_config(DEFAULT, {name: text})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("seed", "-1"),
        ("optim.batch", "0"),
        ("optim.lr", "nan"),
        ("model.depth", "-1"),
        ("model.passes", "0"),
        ("model.first_stride", "0"),
        ("validation.every", "0"),
    ],
)
def test_a_value_that_is_too_small_is_named(name, text):
    with pytest.raises(errors.UserError, match=f"{name} is {text}; it must be"):
        load_config(DEFAULT, {name: text})


def test_an_override_without_a_value_does_not_swallow_the_next():
    for words in (["--config.workdir", "--config.seed=3"], ["--config.workdir"]):
        with pytest.raises(errors.UserError, match="config.workdir needs a value"):
            load_config(DEFAULT, words)


def test_overrides_stand_anywhere_on_a_command_line():
    """A value with a space is not one of an option that takes several."""
    command = parser.Parser()
    command.add_config()
    command.add_argument("--note", nargs="+")
    words = ["--config.optim.lr=3e-4", "--config", str(DEFAULT), "--note", "x", "y"]
    options = command.parse_args([*words, "--config.data.split=(4, 2, 1)"])
    settings = load_config(options.config, options.overrides)
    assert options.note == ["x", "y"]
    assert settings.optim.lr == 3e-4 and settings.data.split == (4, 2, 1)
    assert command.parse_args(words[1:3]).overrides == ()


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(errors.UserError, match=r"; did you mean .*configs/adni.py\?$"):
        load_config(ROOT / "configs/adnii.py")
    with pytest.raises(errors.UserError, match=r"name one .*adni.py, ") as caught:
        load_config(ROOT / "configs/xyzzy.py")
    assert "__init__" not in str(caught.value)
    broken = tmp_path / "broken.py"
    broken.write_text("def get_config():\n    return 1 / 0\n")
    with pytest.raises(errors.UserError, match=r"broken.py cannot be used \(ZeroDiv"):
        load_config(broken)


def test_a_saved_configuration_comes_back(tmp_path):
    settings = load_config(DEFAULT, {"data.same_person": "(('a', 'b'), ('c',))"})
    save_config(settings, tmp_path)
    restored = read_config(tmp_path)
    assert differences(settings, restored) == {}
    other = load_config(DEFAULT, {"optim.lr": "3e-4"})
    assert differences(restored, other) == {
        "data.same_person": ((("a", "b"), ("c",)), ()),
        "optim.lr": (1e-4, 3e-4),
    }
    with pytest.raises(errors.UserError, match="not the folder of a run"):
        read_config(tmp_path / "none")


def test_a_run_from_before_a_setting_does_what_it_did(tmp_path):
    settings = load_config(DEFAULT)
    older = settings.to_dict()
    for group, name in (
        ("model", "passes"),
        ("model", "first_stride"),
        ("model", "heat_maps"),
        ("loss", "people"),
    ):
        del older[group][name]
    (tmp_path / "config.json").write_text(json.dumps(older))
    assert differences(settings, read_config(tmp_path)) == {}


@pytest.mark.parametrize("text", ["", "[]", "3", '{"train": 3}', '{"data": 1}', "\xff"])
def test_a_damaged_copy_in_a_run_is_reported(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(errors.UserError, match="config.json is missing or damaged"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "command",
    [["train.py"], ["eval.py", "--checkpoint", "x"], ["-m", "mdvit_jax", "prepare"]],
)
def test_a_mistake_is_one_sentence_in_every_program(command):
    program = [sys.executable, *command, "--config", "configs/oasis.py"]
    run = subprocess.run(
        [*program, "--config.optim.stepz=3"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: --config.optim.stepz names no value")
    assert run.stderr.count("\n") == 1 and run.stdout == ""


@pytest.mark.parametrize("program", ["train.py", "eval.py"])
def test_programs_explain_themselves(run_python, program):
    """At once, without JAX."""
    run = run_python(f"""
import runpy, sys
sys.modules["jax"] = sys.modules["numpy"] = None  # importing them raises ImportError
sys.argv = ["{program}", "--help"]
runpy.run_path("{program}", run_name="__main__")
""")
    for words in (
        f"python {program} --config configs/quickstart.py",
        "--config.GROUP.NAME=VALUE",
        "configs/default.py",
        "Exit codes:",
    ):
        assert words in run.stdout
