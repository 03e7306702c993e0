"""Commands explain themselves, and a mistake on a command line is one sentence."""

import importlib.metadata
import json
import platform
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import mdvit_jax
from mdvit_jax import transforms
from mdvit_jax.cli import bids_app, option_values
from mdvit_jax.cli.main import create_parser, main
from mdvit_jax.transforms import resampling

TRAINING = ("prepare", "ablation", "compare", "export")
COMMANDS = (
    *("register", "batch", "template", "apply", "convert"),
    *("bids-app", "completion", *TRAINING),
)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["regster"], "did you mean register?"),
        (["register", "--fixd", "a", "--moving", "b"], "did you mean --fixed?"),
        (["register", "--fixed", "a", "--transfrom=t.tfm"], "mean --transform?"),
        (["register", "--dof", "afine"], "did you mean affine?"),
        (["apply", "--label", "--refrence", "a"], "did you mean --reference?"),
        (["convert", "--form", "fsl"], "did you mean --from?"),
        (["batch", "--pears", "a.csv"], "did you mean --pairs?"),
        (["batch", "--xyzzy"], "there is no option --xyzzy; see mdvit batch --help."),
        (["prepare", "--confg.optim.lr=1"], "did you mean --config?"),
        (["export", "--config.optim.lr=1"], "no option --config; see"),
        (["convert", "--inp", "--output=x"], "--input: expected one argument; see"),
        (["convert", "--output=x"], "are required: --input; see mdvit convert --help."),
        (["convert", "--input=a", "--output=x", "y"], "unrecognized arguments: y; see"),
        ([], "are required: COMMAND; see mdvit --help."),
    ],
)
def test_a_mistake_is_one_sentence(capsys, words, why):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and why in printed.err
    assert printed.err.count("\n") == 1 and printed.out == ""


def test_help_on_all_commands(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"\n    {command}\s", printed) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_nothing_heavy(run_python, command):
    """It must not import the packages that take a second to load."""
    program = f"""
import sys
for name in ("jax", "numpy", "scipy", "nibabel", "h5py", "tqdm", "ml_collections"):
    sys.modules[name] = None  # importing it now raises ImportError
from mdvit_jax.cli.main import main
main(["{command}", "--help"])
"""
    assert f"usage: mdvit {command} " in run_python(program).stdout


def test_the_values_of_options_are_those_of_the_library():
    assert option_values.FORMATS == transforms.FORMATS
    assert option_values.INTERPOLATIONS == resampling.INTERPOLATIONS


def test_versions_come_at_once(run_python):
    """Nothing that takes time is imported for them."""
    program = """
import sys
for name in ("jax", "numpy", "scipy", "nibabel"):
    sys.modules[name] = None  # importing it now raises ImportError
from mdvit_jax.cli.main import main
main(["--version", "--json"])
"""
    content = json.loads(run_python(program).stdout)
    assert content["mdvit_jax"] == mdvit_jax.__version__
    assert content["libraries"]["jax"] == importlib.metadata.version("jax")
    assert content["python"] == platform.python_version()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["mdvit", "tem"], ["template"]),
        (["mdvit", "register", "--mov"], ["--moving", "--moving-mask"]),
        (["mdvit", "register", "--dof", "si"], ["similarity"]),
        (["mdvit", "convert", "--input", "mine."], ["mine.tfm"]),
    ],
)
def test_a_shell_completes(tmp_path, capsys, words, completed):
    assert main(["completion", "bash"]) == 0
    (tmp_path / "mdvit").write_text(capsys.readouterr().out)
    (tmp_path / "mine.tfm").touch()
    program = f"""
source ./mdvit
COMP_WORDS=({" ".join(words)}) COMP_CWORD={len(words) - 1}
_shtab_mdvit mdvit "${{COMP_WORDS[COMP_CWORD]}}"
echo "${{COMPREPLY[@]}}"
"""
    run = subprocess.run(
        ["bash", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == completed


@pytest.mark.parametrize(
    ("words", "translated"),
    [
        (
            "in out participant --participant_label 01 02 --jobs 4",
            "batch --to mni152 --jobs 4 --output out --bids in --qc "
            "--participant-label 01 02",
        ),
        (
            "in out group --session-label 1",
            "template --output out/template --bids in --qc --session 1",
        ),
    ],
)
def test_a_bids_app_is_these_commands(words, translated):
    parser = create_parser()
    options = parser.parse_args(["bids-app", *words.split()])
    assert bids_app.translate(options) == translated.split()
    assert parser.parse_args(translated.split()).bids == "in"


def test_the_dockerfile_names_what_is_there():
    root = Path(__file__).resolve().parents[1]
    text = (root / "Dockerfile").read_text()
    (copied, extras, entry) = (
        re.findall(pattern, text, re.M)
        for pattern in (r"^COPY (.*) \S+$", r"'\.\[(.*)\]'", r"^ENTRYPOINT (.*)$")
    )
    assert all((root / name).exists() for line in copied for name in line.split())
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert set(extras[0].split(",")) <= set(project["optional-dependencies"])
    program, *words = json.loads(entry[0])
    assert program in project["scripts"]
    create_parser().parse_args([*words, "in", "out", "participant"])


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii", "x.mgz", "x.mgh"])
def test_a_text_file_named_like_an_image(tmp_path, capsys, name):
    path = tmp_path / name
    path.write_text("patient,age\n1,70\n" * 100)
    words = ["--moving", str(path), "--output", str(tmp_path / "w.nii")]
    words += ["--reference", str(path), "--transform", "t.tfm"]
    assert main(["apply", *words]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {path} is ") and printed.count("\n") == 1
