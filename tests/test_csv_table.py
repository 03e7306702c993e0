"""Tables as spreadsheets write them."""

import pytest

from mdvit_jax import errors
from mdvit_jax.io import csv_table

COLUMNS = ("fixed", "moving", "name")


def read(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    return list(csv_table.rows(path, COLUMNS, needed=("fixed", "moving")))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("comma", [",", ";", "\t"])
@pytest.mark.parametrize("excel", [False, True])
def test_separators_between_cells(tmp_path, comma, excel, end, encoding):
    lines = ["fixed,moving,name", "a.nii,b.nii,one", "", "c.nii,d.nii,"]
    lines = [line.replace(",", comma) for line in lines]
    if excel:
        lines.insert(0, f"sep={comma}")
    rows = read(tmp_path / "pairs.csv", end.join(lines) + end, encoding)
    first = {"fixed": "a.nii", "moving": "b.nii", "name": "one"}
    second = {"fixed": "c.nii", "moving": "d.nii", "name": ""}
    assert rows == [(2 + excel, first), (4 + excel, second)]


def test_a_comma_within_quotes_and_in_other_tables(tmp_path):
    text = 'sep=;\nfixed;moving\n"a;1.nii";b,2.nii\n'
    ((number, row),) = read(tmp_path / "a.csv", text)
    assert (number, row["fixed"], row["moving"]) == (3, "a;1.nii", "b,2.nii")
    text = "fixed\tmoving\na b.nii\tc,d;e.nii\n"
    ((number, row),) = read(tmp_path / "b.tsv", text)
    assert (number, row["fixed"], row["moving"]) == (2, "a b.nii", "c,d;e.nii")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sep=,\n", "is empty"),
        ("sep=;\nfixed,moving\n", "no column fixed"),
        ("sep=,\nfixed,moving\na,b,c\n", "3 values in row 3"),
        ("", "is empty"),
    ],
)
def test_mistakes(tmp_path, text, why):
    with pytest.raises(errors.UserError, match=why):
        read(tmp_path / "pairs.csv", text)
