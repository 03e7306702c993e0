"""What is mistyped on a command line is told in one sentence."""

import pytest

from mdvit_jax import __main__


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["register", "--fixd", "a", "--moving", "b"], "did you mean --fixed?"),
        (["register", "--fixed", "a", "--transfrom=t.tfm"], "mean --transform?"),
        (["apply", "--label", "--refrence", "a"], "did you mean --reference?"),
        (["convert", "--form", "fsl"], "did you mean --from?"),
        (["batch", "--pears", "a.csv"], "did you mean --pairs?"),
        (["batch", "--everything"], "no option --everything; see --help."),
    ],
)
def test_a_mistyped_option_is_told(capsys, words, why):
    assert __main__.main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: there is no option") and why in told
    assert told.count("\n") == 1


def test_what_argparse_understands_stays(capsys):
    with pytest.raises(SystemExit) as ended:  # an abbreviation; the other is missing
        __main__.main(["convert", "--inp", "--output=x"])
    assert ended.value.code == 2 and "expected one argument" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii", "x.mgz", "x.mgh"])
def test_text_that_is_called_an_image(tmp_path, capsys, name):
    path = tmp_path / name
    path.write_text("patient,age\n1,70\n" * 100)
    words = ["--moving", str(path), "--output", str(tmp_path / "w.nii")]
    words += ["--reference", str(path), "--transform", "t.tfm"]
    assert __main__.main(["apply", *words]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {path} is ") and told.count("\n") == 1
