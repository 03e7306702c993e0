"""The paper's experiments on a few synthetic people."""

import csv
import json

import numpy as np
import pytest

from mdvit_jax import geometry
from mdvit_jax.data import conform, dataset, synthetic_cohort, template
from mdvit_jax.evaluation.methods import Method, centres_of_mass
from mdvit_jax.studies import (
    ablation,
    cases,
    changes,
    contrast,
    regions,
    results,
    rotation,
    run,
    similarity,
    table1,
    tables,
    timing,
)  # fmt: skip
from mdvit_jax.studies.case import Case
from oracle import people

SMALL = {"data__size": "32", "evaluation__pictures": "1"}


def config(**changed):
    return people.config(**SMALL | changed)


class Counting:
    """A method that counts how often it is asked."""

    def __init__(self, name="Counting", identity="1", align=None):
        self.calls = 0
        self.align = align or centres_of_mass().align
        self.method = Method(name, self, identity)

    def __call__(self, fixed, moving):
        self.calls += 1
        return self.align(fixed, moving)


def truth(settings) -> Method:
    """Knows how the synthetic people were made from the template."""
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


def setting(folder, *, networks=(), classical=(), **changed) -> cases.Setting:
    own = config(**changed)
    scans, fixed = dataset.open_part(own, "test"), template.load(own.data)[0]
    return cases.Setting(own, scans, fixed, networks, classical, folder, {"a": "b"})


def brain(shape=(9, 9, 9)) -> conform.Conformed:
    """A scan with nothing symmetric about it."""
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    labels = (image * 9).astype(np.int32)
    return conform.Conformed(image, np.ones(shape, np.uint8), labels, np.eye(4))


@pytest.mark.parametrize("axis", "xyz")
def test_a_quarter_turn_is_that_of_the_right_hand(axis):
    plane = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    scan = brain()
    turned = changes.rotation(axis, 90).turned(scan)
    np.testing.assert_allclose(turned.image, np.rot90(scan.image, 1, plane), atol=1e-5)
    np.testing.assert_array_equal(turned.labels, np.rot90(scan.labels, 1, plane))
    back = changes.rotation(axis, 270).turned(turned)
    np.testing.assert_allclose(back.image, scan.image, atol=1e-5)
    assert changes.rotation(axis, 360) is changes.NONE


def test_gamma_is_a_power():
    scan = brain()
    changed = changes.gamma(2.0)
    np.testing.assert_allclose(changed.brightness(scan).image, scan.image**2)
    assert changed.name == "gamma 2" and changes.gamma(1.0) is changes.NONE


def test_a_stopped_study_goes_on_where_it_was(tmp_path):
    counting = Counting()
    first = cases.run(setting(tmp_path), [counting.method])
    assert counting.calls == 3 + 1  # the first one compiles
    again = cases.run(setting(tmp_path), [counting.method])
    assert counting.calls == 4 and again == first
    # Another method's identity, or another way to evaluate, is another result.
    other = Counting(identity="2")
    cases.run(setting(tmp_path), [other.method])
    cases.run(setting(tmp_path, evaluation__mask_threshold="0.0"), [counting.method])
    assert other.calls == counting.calls - 4 == 4
    # Of a line that was cut short, the case alone is computed again.
    kept = tmp_path / "results.jsonl"
    text = kept.read_text()
    kept.write_text(text[:-20])
    cases.run(setting(tmp_path, evaluation__mask_threshold="0.0"), [counting.method])
    assert counting.calls == 8 + 2
    keys = [sorted(r[:45] for r in t.splitlines()) for t in (kept.read_text(), text)]
    assert keys[0] == keys[1]
    kept.write_text("nothing\n" + text)
    with pytest.raises(cases.errors.UserError, match="line 1 is no result"):
        results.Results(kept)


def test_results_are_known_by_content_not_by_name():
    scan, method, settings = brain(), Counting().method, config()
    assert results.digest(scan) == results.digest(brain())
    other = scan._replace(labels=scan.labels + 1)
    assert results.digest(scan) != results.digest(other)
    one = results.key("a", "b", method, settings)
    assert one == results.key("a", "b", method._replace(name="Other"), settings)
    assert one != results.key("b", "a", method, settings)


def test_where_a_method_fails_the_others_go_on(tmp_path, caplog):
    def broken(fixed, moving):
        raise RuntimeError("no\nway")

    failing = Method("Broken", broken, "1")
    section, found = table1.run(setting(tmp_path, classical=[failing]))
    assert [c.error for c in found if c.method == "Broken"] == [
        "RuntimeError: no way"
    ] * 3
    text = section.tables[0].markdown()
    assert "| Broken | – | – | – | – | – |" in text
    assert "Broken failed in 3 of 3 cases" in text and "0.8" in text
    assert "no way" in caplog.text
    assert "Broken" not in (tmp_path / "results.jsonl").read_text()


def test_the_known_affine_beats_the_centres_of_mass(tmp_path):
    knows = truth(config(data__size="48"))
    settings = setting(tmp_path, networks=[knows], data__size="48")
    section, found = table1.run(settings)
    best = [c.dsc for c in found if c.method == "truth"]
    start = [c.dsc for c in found if c.method == "Initial (CoM)"]
    assert min(best) > 0.97 and max(start) < min(best)
    assert all(c.seconds > 0 and 0 <= c.ntg <= 1 and c.ncc >= 0 for c in found)
    rows = dict(zip(("Initial", "CoM", "truth"), section.tables[0].rows, strict=True))
    assert rows["truth"][1].startswith("**") and rows["CoM"][1].startswith("_")
    assert (
        rows["truth"][1].replace("*", "") == f"{np.mean(best):.3f} ± {np.std(best):.3f}"
    )
    assert [row[0] for row in section.tables[1].rows][-1] == "mean of the regions"
    assert list(section.figures) == ["table1_worst_1"]


def test_the_contrast_study_compares_a_pair_with_itself(tmp_path):
    section, found = contrast.run(setting(tmp_path, networks=[centres_of_mass()]))
    assert len(found) == 3 * len(contrast.GAMMAS)
    values = contrast.of_gammas(found, "dsc")
    apart = np.abs(np.delete(values - values[:, [3]], 3, axis=1)).mean(axis=1)
    error = apart.std(ddof=1) / np.sqrt(3)
    row = section.tables[0].rows[0]
    assert row[-1] == f"{apart.mean():.4f} ± {error:.4f}" and apart.mean() > 0
    assert row[4] == f"{values[:, 3].mean():.3f} ± {values[:, 3].std():.3f}"
    counting = Counting("Initial (CoM)", centres_of_mass().identity)
    section, _ = similarity.run(setting(tmp_path, networks=[counting.method]))
    assert counting.calls == 0  # the cases are the same
    assert [row[4] for row in section.tables[0].rows] == ["+0.0 ± 0.0"] * 2
    assert section.tables[0].rows[0][0] == "NTG, Initial (CoM)"
    assert list(section.figures) == ["similarity_ntg", "similarity_ncc"]
    ntg = contrast.of_gammas(found, "ntg")
    change = 100 * (ntg[:, 0] / ntg[:, 3] - 1)
    assert section.tables[0].rows[0][1].startswith(f"{change.mean():+.1f}")


def test_the_rotation_study_turns_about_each_axis(tmp_path, monkeypatch):
    monkeypatch.setattr(rotation, "DEGREES", (0, 180, 360))
    section, found = rotation.run(setting(tmp_path, networks=[centres_of_mass()]))
    assert [c.change for c in found[:4]] == ["", "x 180°", "y 180°", "z 180°"]
    rows = section.tables[0].rows
    assert [row[0][-1] for row in rows] == ["x", "y", "z"]
    assert all(row[1] == row[3] for row in rows)
    upside_down = [c.dsc for c in found if c.change == "x 180°"]
    assert rows[0][2] == f"{np.mean(upside_down):.3f}" < rows[0][1]


def test_what_undoes_a_turn_loses_nothing(tmp_path, monkeypatch):
    """The truth of a turned scan is as good as that of the scan as it was."""
    monkeypatch.setattr(rotation, "DEGREES", (0, 40))
    knows = truth(config())
    turned = {
        name: changes.rotation(name[0], 40) for name in ("x 40°", "y 40°", "z 40°")
    }

    def align(fixed, moving):
        for person in everybody:
            for turn in (changes.NONE, *turned.values()):
                if np.array_equal(turn.turned(person).image, moving.image):
                    found = knows.align(fixed, person)
                    return (
                        found if turn.back is None else np.linalg.inv(turn.back) @ found
                    )
        raise AssertionError

    everybody = [synthetic_cohort.generate(config().data, i, 0).scan for i in range(7)]
    method = Method("truth", align, "knows turns")
    section, _ = rotation.run(setting(tmp_path, networks=[method]))
    assert all(row[1] == row[2] > "0.9" for row in section.tables[0].rows)


def test_regions_that_a_scheme_lacks_are_named(tmp_path):
    section, _ = regions.run(setting(tmp_path))
    assert [row[0] for row in section.tables[0].rows][:1] == ["cerebrospinal fluid"]
    with pytest.raises(cases.Lacking, match="no regions to compare"):
        regions.run(setting(tmp_path, data__label_scheme="freesurfer"))
    case = Case("A", "f", "m", "", 1.0, 1.0, 1.0, regions={"brain stem": 0.5})
    table = tables.regions([case], ["brain stem"], ["amygdala"])
    assert ("amygdala", "lacking") in table.rows


def test_the_ablation_names_its_settings(tmp_path):
    with pytest.raises(cases.Lacking, match=r"C2FViT \(NCC\) is not among"):
        ablation.run(setting(tmp_path))
    networks = [Counting(name, name).method for name in ablation.SETTINGS]
    section, _ = ablation.run(setting(tmp_path, networks=networks))
    heads = [row[0] for row in section.tables[0].rows]
    assert heads == ["Initial (CoM)", "C2FViT", "+NTG", "+MSDA", "+fine-tuning"]


def test_training_steps_are_timed_with_both_losses(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "_ROUNDS", 1)
    monkeypatch.setattr(timing, "_STEPS", 1)
    small = {"embedding": "8", "depth": "1", "dilations": "(1,)"}
    changed = {f"model__{name}": value for name, value in small.items()}
    changed |= {"loss__levels": "1", "loss__windows": "(7,)"}
    section, found = timing.run(setting(tmp_path, **changed))
    assert found == [] and [row[0] for row in section.tables[0].rows] == ["NTG", "NCC"]
    assert all(float(row[2]) > 0 for row in section.tables[0].rows)


def test_what_a_study_leaves(tmp_path):
    text = run.run("table1", setting(tmp_path), command="python eval.py")
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
