"""The paper's experiments on a few synthetic people."""

import csv
import importlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import people
from mdvit_jax import errors, geometry
from mdvit_jax.data import conform, dataset, synthetic_cohort, template
from mdvit_jax.evaluation.methods import Method, centres_of_mass
from mdvit_jax.studies import (
    STUDIES,
    contrast,
    perturbations,
    region_overlap,
    results,
    rotation,
    runner,
    similarity,
    table1,
    table2,
    tables,
)
from mdvit_jax.studies.compute import NotApplicable, Setting, compute_records
from mdvit_jax.studies.record import Record, tabulate

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = {"data__size": "32", "evaluation__pictures": "1"}


def config(**changed):
    return people.config(**SMALL | changed)


class Counting:
    """A method that counts its calls."""

    def __init__(self, name="Counting", identity="1", align=None):
        self.calls = 0
        self.align = align or centres_of_mass().align
        self.method = Method(name, self, identity)

    def __call__(self, fixed, moving):
        self.calls += 1
        return self.align(fixed, moving)


def truth(settings) -> Method:
    """A method that returns the affines of the synthetic people."""
    everybody = [
        synthetic_cohort.generate(settings.data, i, settings.seed) for i in range(7)
    ]

    def align(fixed, moving):
        (world,) = (
            person.template_to_person
            for person in everybody
            if np.array_equal(person.scan.image, moving.image)
        )
        to_fixed, to_moving = (
            geometry.normalised_to_world(s.image.shape, s.to_world)
            for s in (fixed, moving)
        )
        return (np.linalg.inv(to_moving) @ world @ to_fixed).astype(np.float32)

    return Method("truth", align, "knows")


def setting(folder, *, networks=(), classical=(), **changed) -> Setting:
    own = config(**changed)
    scans, fixed = dataset.open_part(own, "test"), template.load(own.data)[0]
    return Setting(own, scans, fixed, networks, classical, folder, {"a": "b"})


def brain(shape=(9, 9, 9)) -> conform.Conformed:
    """A scan without any symmetry."""
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    labels = (image * 9).astype(np.int32)
    return conform.Conformed(image, np.ones(shape, np.uint8), labels, np.eye(4))


@pytest.mark.parametrize("axis", "xyz")
def test_a_quarter_turn_is_that_of_the_right_hand(axis):
    plane = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    scan = brain()
    turned = perturbations.rotation(axis, 90).move(scan)
    np.testing.assert_allclose(turned.image, np.rot90(scan.image, 1, plane), atol=1e-5)
    np.testing.assert_array_equal(turned.labels, np.rot90(scan.labels, 1, plane))
    back = perturbations.rotation(axis, 270).move(turned)
    np.testing.assert_allclose(back.image, scan.image, atol=1e-5)
    assert perturbations.rotation(axis, 360) is perturbations.UNPERTURBED


def test_gamma_is_a_power():
    scan = brain()
    darker = perturbations.contrast(2.0)
    np.testing.assert_allclose(darker.recolour(scan).image, scan.image**2)
    assert darker.name == "gamma 2"
    assert perturbations.contrast(1.0) is perturbations.UNPERTURBED


def test_a_stopped_study_goes_on_where_it_was(tmp_path):
    counting = Counting()
    first = compute_records(setting(tmp_path), [counting.method])
    assert counting.calls == 3 + 1  # the first one compiles
    again = compute_records(setting(tmp_path), [counting.method])
    assert counting.calls == 4
    pd.testing.assert_frame_equal(again, first)
    # Another method's identity, or another way to evaluate, is another result.
    other = Counting(identity="2")
    grown_masks = setting(tmp_path, evaluation__mask_threshold="0.0")
    compute_records(setting(tmp_path), [other.method])
    compute_records(grown_masks, [counting.method])
    assert other.calls == counting.calls - 4 == 4
    # Of a line that was cut short, the case alone is computed again.
    kept = tmp_path / "results.jsonl"
    text = kept.read_text()
    kept.write_text(text[:-20])
    compute_records(grown_masks, [counting.method])
    assert counting.calls == 8 + 2
    keys = [sorted(r[:45] for r in t.splitlines()) for t in (kept.read_text(), text)]
    assert keys[0] == keys[1]
    kept.write_text("nothing\n" + text)
    with pytest.raises(errors.UserError, match="line 1 is not a result"):
        results.ResultsFile(kept)


def test_results_are_kept_by_content_not_by_name():
    scan, method, settings = brain(), Counting().method, config()
    assert results.hash_scan(scan) == results.hash_scan(brain())
    other = scan._replace(labels=scan.labels + 1)
    assert results.hash_scan(scan) != results.hash_scan(other)
    one = results.hash_case("a", "b", method, settings)
    assert one == results.hash_case("a", "b", method._replace(name="Other"), settings)
    assert one != results.hash_case("b", "a", method, settings)


def conduct(study, setting: Setting):
    """The section and the records of a study."""
    records = study.compute(setting)
    return study.report(setting, records), records


def test_where_a_method_fails_the_others_go_on(tmp_path, caplog):
    def broken(fixed, moving):
        raise RuntimeError("no\nway")

    failing = Method("Broken", broken, "1")
    centres = centres_of_mass()
    twins = [centres._replace(name=f"Twin, {i}", family="Twin") for i in (0, 1)]
    settings = setting(tmp_path, classical=[failing], networks=twins)
    section, records = conduct(table1, settings)
    reported = records[records.method == "Broken"].error
    assert reported.tolist() == ["RuntimeError: no way"] * 3
    # Runs of one network with several seeds have a row in common, in the first table.
    rows = {row[0]: row[1:] for row in section.tables[0].rows}
    assert list(rows) == ["Initial", "Initial (CoM)", "Broken", "Twin"]
    assert rows["Broken"] == ("1", *["–"] * 5)
    assert rows["Twin"][:5] == ("2", *rows["Initial (CoM)"][1:4], "0.0000")
    text = section.tables[1].to_markdown()
    assert "| Broken | – | – | – | – | – |" in text
    assert "Broken failed in 3 of 3 cases" in text and "0.8" in text
    assert "no way" in caplog.text
    assert "Broken" not in (tmp_path / "results.jsonl").read_text()


def test_the_known_affine_beats_the_centres_of_mass(tmp_path):
    knows = truth(config(data__size="48"))
    settings = setting(tmp_path, networks=[knows], data__size="48")
    section, records = conduct(table1, settings)
    best = records[records.method == "truth"].dsc.to_numpy()
    start = records[records.method == "Initial (CoM)"].dsc.to_numpy()
    assert min(best) > 0.97 and max(start) < min(best)
    assert (records.seconds > 0).all() and (records.ncc >= 0).all()
    assert records.ntg.between(0, 1).all()
    rows = dict(zip(("Initial", "CoM", "truth"), section.tables[0].rows, strict=True))
    assert rows["truth"][1].startswith("**") and rows["CoM"][1].startswith("_")
    assert (
        rows["truth"][1].replace("*", "") == f"{np.mean(best):.3f} ± {np.std(best):.3f}"
    )
    assert [row[0] for row in section.tables[1].rows][-1] == "mean of the regions"
    (figure,) = section.figures.values()
    worst = records[records.method == "truth"].nsmallest(1, "dsc").iloc[0]
    assert figure.texts[0].get_text() == (
        f"{worst.moving} to {worst.fixed}, truth, DSC {min(best):.3f}"
    )


def test_the_contrast_study_compares_a_pair_with_itself(tmp_path):
    section, records = conduct(
        contrast, setting(tmp_path, networks=[centres_of_mass()])
    )
    assert len(records) == 3 * len(contrast.GAMMAS)
    values = contrast.by_gamma(records, "dsc")
    change = np.abs(np.delete(values - values[:, [3]], 3, axis=1)).mean(axis=1)
    error = change.std(ddof=1) / np.sqrt(3)
    row = section.tables[0].rows[0]
    assert row[-1] == f"{change.mean():.4f} ± {error:.4f}" and change.mean() > 0
    assert row[4] == f"{values[:, 3].mean():.3f} ± {values[:, 3].std():.3f}"
    darkest = records[records.perturbation == "gamma 2"].dsc
    assert row[7] == f"{darkest.mean():.3f} ± {darkest.std(ddof=0):.3f}"
    counting = Counting("Initial (CoM)", centres_of_mass().identity)
    section, _ = conduct(similarity, setting(tmp_path, networks=[counting.method]))
    assert counting.calls == 0  # the cases are the same
    assert [row[4] for row in section.tables[0].rows] == ["+0.0 ± 0.0"] * 2
    assert section.tables[0].rows[0][0] == "NTG, Initial (CoM)"
    assert list(section.figures) == ["similarity_ntg", "similarity_ncc"]
    ntg = contrast.by_gamma(records, "ntg")
    change = 100 * (ntg[:, 0] / ntg[:, 3] - 1)
    assert section.tables[0].rows[0][1].startswith(f"{change.mean():+.1f}")


def test_a_pair_with_a_failure_is_not_compared_over_gamma():
    names = [perturbations.contrast(gamma).name for gamma in contrast.GAMMAS]
    records = tabulate(
        [Record("A", "f", m, name, dsc=0.5) for m in "mn" for name in names]
    )
    records.loc[2, "dsc"] = np.nan
    assert contrast.by_gamma(records, "dsc").shape == (1, len(names))


def test_the_rotation_study_turns_about_each_axis(tmp_path, monkeypatch):
    monkeypatch.setattr(rotation, "DEGREES", (0, 180, 360))
    section, records = conduct(
        rotation, setting(tmp_path, networks=[centres_of_mass()])
    )
    assert records.perturbation[:4].tolist() == ["", "x 180°", "y 180°", "z 180°"]
    rows = section.tables[0].rows
    assert [row[0][-1] for row in rows] == ["x", "y", "z"]
    assert all(row[1] == row[3] for row in rows)
    upside_down = records[records.perturbation == "x 180°"].dsc
    assert rows[0][2] == f"{np.mean(upside_down):.3f}" < rows[0][1]


def test_undoing_a_turn_loses_nothing(tmp_path, monkeypatch):
    """The true matrix scores the same before and after a turn of the scan."""
    monkeypatch.setattr(rotation, "DEGREES", (0, 40))
    knows = truth(config())
    turns = [perturbations.rotation(axis, 40) for axis in "xyz"]

    def align(fixed, moving):
        for person in everybody:
            for turn in (perturbations.UNPERTURBED, *turns):
                if np.array_equal(turn.move(person).image, moving.image):
                    matrix = knows.align(fixed, person)
                    if turn.to_original is None:
                        return matrix
                    return np.linalg.inv(turn.to_original) @ matrix
        raise AssertionError

    everybody = [synthetic_cohort.generate(config().data, i, 0).scan for i in range(7)]
    method = Method("truth", align, "knows turns")
    section, _ = conduct(rotation, setting(tmp_path, networks=[method]))
    assert all(row[1] == row[2] > "0.9" for row in section.tables[0].rows)


def test_regions_that_a_scheme_does_not_draw_are_named(tmp_path):
    section, _ = conduct(region_overlap, setting(tmp_path))
    assert [row[0] for row in section.tables[0].rows][:1] == ["cerebrospinal fluid"]
    with pytest.raises(NotApplicable, match="no regions to compare"):
        region_overlap.compute(setting(tmp_path, data__label_scheme="freesurfer"))
    records = [
        Record("A", "f", "m", "", regions={"brain stem": 0.5, "caudate": 0.7}),
        Record("A", "f", "n", "", regions={"brain stem": 0.3, "caudate": np.nan}),
    ]
    table = tables.region_table(
        tabulate(records), ["brain stem", "caudate"], ["amygdala"]
    )
    assert table.rows == [
        ("brain stem", "0.400 ± 0.100"),
        ("caudate", "0.700 ± 0.000"),
        ("amygdala", "not drawn"),
        ("mean of the regions", "0.450 ± 0.150"),
    ]


def test_scans_without_labels_have_no_region_dice():
    records = tabulate([Record("A", "f", "m", "", dsc=0.5)])
    rows = tables.region_table(records, ["caudate"]).rows
    assert rows == [("caudate", "–"), ("mean of the regions", "–")]


def test_networks_of_one_name_are_distinguished():
    names, runs = ["A", "B", "A"], [Path("x/a"), Path("x/b"), Path("y/c")]
    assert runner.distinct_names(names, runs) == ["A, a", "B", "A, c"]
    runs[2] = Path("y/a")
    assert runner.distinct_names(names, runs) == ["A, x/a", "B", "A, y/a"]


def test_cases_left_out_of_a_mean_are_reported():
    records = tabulate(
        [
            Record("A", "f", "m", "", dsc=0.5, hd95=2.0, jaccard=0.3, seconds=1.0),
            Record("A", "f", "n", "", dsc=0.0, hd95=np.inf, jaccard=0.0, seconds=1.0),
        ]
    )
    table = tables.overlap_table(records, "mm")
    assert table.heads[3] == "HD95↓ (mm)"
    assert table.rows == [
        ("A", "0.250 ± 0.250", "0.000 ± 0.000", "2.00 ± 0.00", "0.150 ± 0.150", "1.00")
    ]
    assert table.note == (
        "A: HD95 is not a number in 1 of 2 cases, which are excluded from its mean "
        "(n to f)."
    )


def test_table_2_names_its_settings(tmp_path):
    with pytest.raises(NotApplicable, match=r"C2FViT \(NCC\) is not among"):
        table2.compute(setting(tmp_path))
    networks = [Counting(name, name).method for name in table2.SETTINGS]
    section, _ = conduct(table2, setting(tmp_path, networks=networks))
    heads = [row[0] for row in section.tables[0].rows]
    assert heads == ["Initial (CoM)", "C2FViT", "+NTG", "+MSDA", "+fine-tuning"]
    # With several seeds, too, and in that order.
    runs = [
        network._replace(name=f"{network.name}, {seed}", family=network.name)
        for seed in (0, 1)
        for network in reversed(networks)
    ]
    several, records = conduct(table2, setting(tmp_path, networks=runs))
    rows = several.tables[0].rows
    assert [row[:2] for row in rows] == [
        (heads[0], "1"),
        *((h, "2") for h in heads[1:]),
    ]
    assert len(records) == 3 * 9


def test_runs_that_differ_by_their_seed_are_one_curve(tmp_path):
    centres = centres_of_mass()
    twins = [centres._replace(name=f"Twin, {i}", family="Twin") for i in (0, 1)]
    alone, _ = conduct(contrast, setting(tmp_path, networks=[centres]))
    both, records = conduct(contrast, setting(tmp_path, networks=twins))
    assert [row[0] for row in both.tables[0].rows] == ["Twin"]
    assert both.tables[0].rows[0][1:] == alone.tables[0].rows[0][1:]
    # A pair that one seed failed at is in no mean.
    records.loc[0, ["dsc", "error"]] = np.nan, "no way"
    mean = tables.mean_over_seeds(records, {"Twin, 0": "Twin", "Twin, 1": "Twin"})
    assert len(mean) == len(records) / 2
    failed = mean[mean.error != ""]
    assert failed.dsc.isna().all() and list(failed.error) == ["no way"]
    assert mean.dsc.isna().sum() == 1
    # Methods stay in their order.
    other = records.assign(method="First")
    both = pd.concat([other, records.assign(method="Twin, 0")])
    named = tables.mean_over_seeds(both, {"Twin, 0": "Twin"})
    assert list(dict.fromkeys(named.method)) == ["First", "Twin"]


def test_the_files_of_a_study(tmp_path):
    text = runner.run_study("table1", setting(tmp_path), command="python eval.py")
    assert (tmp_path / "table1.md").read_text().count(text.split("\n")[0]) == 1
    rows = list(csv.DictReader((tmp_path / "table1.csv").open()))
    assert len(rows) == 2 * 3 and rows[0]["method"] == "Initial"
    assert np.array(rows[0]["matrix"].split(), float).reshape(4, 4).tolist() == (
        np.eye(4).tolist()
    )
    assert 0 < float(rows[0]["dice_grey_matter"]) < 1
    kept = (tmp_path / "results.jsonl").read_text().splitlines()
    assert float(rows[0]["dsc"]) == pytest.approx(json.loads(kept[0])["dsc"])
    assert "python eval.py" in (tmp_path / "report.html").read_text()


def test_every_study_has_a_file_with_its_two_functions():
    for name in STUDIES:
        study = importlib.import_module(f"mdvit_jax.studies.{name}")
        assert callable(study.compute) and callable(study.report)
