"""How well a trained network aligns people it did not learn from, without `register`.

    python -m benchmarks.network --weights FILE.safetensors --data ../shared/data
    python -m benchmarks.network --weights FILE.safetensors --data ... --final

Prints a table of mean errors in mm over the brain, and Dice, beside those of the
centres of mass: one pass, two passes, and any orientation, which is what `--start
network` does. `--data` holds ds002748/, oasis1_malf/, synthseg_labels/ and lhdata/. The
people are those on which recipes are chosen; with `--final` the ones held out to the
end. The truth between two people is what `register` says at 2 mm, kept in --answers.

same20    one person, an affine of ±20° about each axis, ±15 %, shear 0.1, 15 mm
inter20   the same between two people; inter0: two people, not moved
inter90   the same, but 20° to 90° about any axis; turned: 90° to 180°
synthetic two scans of one person; a whole head to the brain of another scan
lhdata    real whole heads, T1 and T2, to MNI152, held against `register`: what `--start
          com` and `--start network` say (with the weights that `register` asks)
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from nibabel.affines import apply_affine

from mdvit_jax import geometry, register
from mdvit_jax.cli import startup
from mdvit_jax.data import conform, label_maps, scan_settings, synthesis
from mdvit_jax.evaluation import metrics, regions
from mdvit_jax.evaluation.methods import ours
from mdvit_jax.evaluation.methods.method import align_conformed
from mdvit_jax.io import image as images
from mdvit_jax.io import named_templates
from mdvit_jax.models import any_orientation, weights_file
from mdvit_jax.registration import network_start
from mdvit_jax.training import known_affines, random_affine

FINE = 128  # voxels of the grid on which people are compared
CHOOSE = {
    "ds002748": [f"sub-{i}" for i in range(31, 37)],
    "oasis1_malf": ["1000", "1001", "1002", "1004", "1005", "1006"],
    "synthseg_labels": [f"training_seg_{i}" for i in range(17, 21)],
    "lhdata": [f"sub-{i:02}" for i in range(1, 5)],
}
FINAL = {
    "ds002748": [f"sub-{i}" for i in range(37, 41)],
    "oasis1_malf": ["1101", "1107", "1113", "1119", "1125"],
    "synthseg_labels": [],
    "lhdata": ["sub-05", "sub-06"],
}
AFFINES = 4  # of each person or pair
# Of a T1 image: white matter dark, grey matter bright, fluid brightest.
T2_LIKE = ((0.0, 0.12, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0),
           (0.0, 1.0, 0.95, 0.75, 0.6, 0.45, 0.35, 0.3))  # fmt: skip
CONTRASTS: dict[str, Callable[[Array], Array]] = {
    "γ 0.5": lambda v: v**0.5,
    "γ 2": lambda v: v**2,
    "inverted": lambda v: jnp.where(v > 0.02, 1 - v, 0),
    "T2-like": lambda v: jnp.interp(v, *map(jnp.array, T2_LIKE)),
}


class Case(NamedTuple):
    """A pair on the network's grid, and its truth."""

    fixed: Array
    moving: Array
    truth: Array
    mask: Array


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--final", action="store_true")
    parser.add_argument("--answers", type=Path, default=Path("cache/answers.json"))
    parser.add_argument("--output", type=Path, help="the rows as JSON")
    options = parser.parse_args()
    startup.start()
    weights = weights_file.load(options.weights)
    estimate = estimator(weights)
    rows = measure(weights, estimate, options)
    print(f"{options.weights}: {weights.about}")
    print(" " * 24, "centres, one pass, two passes, any orientation")
    for name, values in rows.items():
        print(f"{name:24}", *(f"{value:8.3f}" for value in values))
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1, ensure_ascii=False))


def estimator(weights: weights_file.Weights) -> Callable[..., list[Array]]:
    """(fixed, moving) → matrices [batch, 4, 4] of the four columns."""

    @jax.jit
    def estimate(fixed: Array, moving: Array) -> list[Array]:
        start = geometry.centre_shift(fixed, moving)
        once, twice = (
            weights.network.apply(
                weights.params, fixed, moving, initial=start, passes=passes
            )
            for passes in (1, 2)
        )
        any_turn = any_orientation.estimate(
            weights.network, weights.params, fixed, moving
        )
        return [start, once.matrix, twice.matrix, any_turn]

    return estimate


def measure(weights, estimate, options) -> dict[str, list[float]]:
    """Rows: errors in mm or Dice of the four columns."""
    people = FINAL if options.final else CHOOSE
    names = people["oasis1_malf"]
    labelled = read_labelled(options.data / "oasis1_malf", names)
    answers = Answers(options.answers)
    field = weights.field_of_view
    cases = people_cases(
        options.data / "ds002748", people["ds002748"], weights, answers
    )
    rows = {name: landmark_errors(estimate, c, field) for name, c in cases.items()}
    for name, change in CONTRASTS.items():
        changed = [
            case._replace(moving=change(case.moving)) for case in cases["same20"]
        ]
        rows[f"same20, {name}"] = landmark_errors(estimate, changed, field)
    synthetic = heads(options.data, people["synthseg_labels"], weights)
    rows |= {name: landmark_errors(estimate, c, field) for name, c in synthetic.items()}
    rows |= overlaps(estimate, names, labelled, weights, answers)
    if options.weights.samefile(weights_file.pretrained_file(network_start.NETWORK)):
        rows |= real_heads(options.data / "lhdata", people["lhdata"])
    return rows


def people_cases(
    folder: Path, names: Sequence[str], weights, answers: "Answers"
) -> dict[str, list[Case]]:
    """Pairs of one person and of two, moved or not."""
    scans = [read(folder / f"{name}_T1w.nii.gz") for name in names]
    cases: dict[str, list[Case]] = {
        name: [] for name in ("same20", "inter20", "inter0", "inter90", "turned")
    }
    field = weights.field_of_view
    for i, scan in enumerate(scans):
        image, mask = small(scan, weights.size)
        j = (i + 1) % len(scans)
        other, _ = small(scans[j], weights.size)
        to_other = answers(names[i], names[j], scan, scans[j])
        cases["inter0"].append(Case(image, other, to_other, mask))
        for k in range(AFFINES):
            move = known((), 100 * i + k, image, field)
            moved = geometry.warp_affine(image, move)
            cases["same20"].append(Case(image, moved, geometry.invert(move), mask))
            for name, degrees in (
                ("inter20", ()),
                ("inter90", (20.0, 90.0)),
                ("turned", (90.0, 180.0)),
            ):
                move = known(degrees, 5000 + 100 * i + k, other, field)
                moved = geometry.warp_affine(other, move)
                truth = geometry.compose(geometry.invert(move), to_other)
                cases[name].append(Case(image, moved, truth, mask))
    return cases


def read(image: Path, labels: Path | None = None) -> conform.Conformed:
    """A scan on the fine grid."""
    return conform.conform(
        images.load(image),
        None if labels is None else images.load_labels(labels),
        None,
        size=FINE,
        field_of_view=256.0,
        name=str(image),
    )


def read_labelled(folder: Path, names: Sequence[str]) -> list[conform.Conformed]:
    """Scans of oasis1_malf with their regions."""
    return [
        read(folder / f"{name}_SS.nii.gz", folder / f"{name}_glm.nii.gz")
        for name in names
    ]


def small(scan: conform.Conformed, size: int) -> tuple[Array, Array]:
    """Image and mask on the network's grid, by averaging."""
    image, mask = jnp.asarray(scan.image), jnp.asarray(scan.mask, jnp.float32)
    while len(image) > size:
        image, mask = geometry.halve(image), geometry.halve(mask)
    return image, mask >= 0.5


def known(degrees: tuple[float, ...], seed: int, image: Array, field: float) -> Array:
    """A known affine; with degrees, its rotation is by an angle between two.

    Without, it is ±20° about each axis (`known_affines`).
    """
    turn_key, key = jax.random.split(jax.random.key(seed))
    centre = geometry.centre_of_mass(image)
    if not degrees:
        return known_affines.draw(key, centre, field)
    rest = known_affines.draw(key, jnp.zeros(3), field, degrees=0.0)
    axis_key, angle_key = jax.random.split(turn_key)
    axis = jax.random.normal(axis_key, (3,))
    low, high = degrees
    angle = jax.random.uniform(angle_key, (), minval=low, maxval=high)
    turn = random_affine.rotation(axis / jnp.linalg.norm(axis), jnp.deg2rad(angle))
    about = geometry.translation_matrix(centre)
    turned = geometry.homogeneous(turn, jnp.zeros(3))
    return geometry.compose(about, turned, rest, geometry.invert(about))


class Answers:
    """The results of `register` on pairs of people, kept in a file."""

    def __init__(self, path: Path):
        """Read the results that the file holds, if there is one."""
        self._path = path
        self._known = json.loads(path.read_text()) if path.exists() else {}
        self._align = align_conformed(ours.align_images)

    def __call__(self, one: str, other: str, fixed, moving) -> Array:
        """4×4 normalised `fixed_to_moving`."""
        name = f"{one} {other}"
        if name not in self._known:
            self._known[name] = self._align(fixed, moving).tolist()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._known))
        return jnp.asarray(self._known[name], jnp.float32)


def landmark_errors(estimate, cases: Sequence[Case], field: float) -> list[float]:
    """Mean error in mm of each column."""
    batch = Case(*map(jnp.stack, zip(*cases, strict=True)))
    over = jax.vmap(known_affines.distance_over)
    return [
        float(over(batch.mask, matrix, batch.truth).mean() * field / 2)
        for matrix in estimate(batch.fixed, batch.moving)
    ]


def heads(data: Path, names: Sequence[str], weights) -> dict[str, list[Case]]:
    """Synthetic pairs of label maps: any two scans, and a whole head to a brain."""
    if not names:
        return {}
    paths = [data / "synthseg_labels" / f"{name}.nii.gz" for name in names]
    batch = label_maps.read_heads(paths, voxel=3.0)
    size = weights.size
    anything = scan_settings.Settings(
        shape=(size,) * 3,
        voxel=(weights.field_of_view / size,) * 3,
        oversample=(2, 2, 2),
        rotation=12.0,
        deformation=0.0,
        mirror=0.0,
    )
    kinds = {
        "synthetic, any two": (anything, anything),
        "synthetic, head to brain": (
            anything._replace(stripped=1.0, holes=0.0, cut_top=0.0, slab=0.0),
            anything._replace(stripped=0.0, cut_top=0.0, slab=0.0),
        ),
    }
    result: dict[str, list[Case]] = {}
    for name, settings in kinds.items():
        makes = [
            jax.jit(lambda key, head, s=s: synthesis.synthesise(key, head, s))
            for s in settings
        ]
        cases = result[name] = []
        for number in range(6 * len(names)):
            head = label_maps.Head(*(field[number % len(names)] for field in batch))
            keys = jax.random.split(jax.random.key(number))
            fixed, moving = (
                make(key, head) for make, key in zip(makes, keys, strict=True)
            )
            truth = synthesis.known_affine(fixed, moving)
            cases.append(Case(fixed.image, moving.image, truth, fixed.brain > 0.05))
    return result


def real_heads(folder: Path, names: Sequence[str]) -> dict[str, list[float]]:
    """Mean and worst error in mm over MNI152's brain, in the first and last column."""
    mni152 = named_templates.load("mni152-2mm")
    brain = np.argwhere(np.asarray(mni152.data) > 0)[::50]
    points = apply_affine(mni152.affine, brain)
    rows = []
    for name in names:
        for kind in ("T1w", "inplaneT2"):
            head = images.load(folder / f"{name}_{kind}.nii.gz")
            truth = apply_affine(register(mni152, head).matrix, points)
            starts = (
                register(mni152, head, start=start, refine=False).matrix
                for start in ("com", "network")
            )
            apart = [apply_affine(start, points) - truth for start in starts]
            rows.append(np.linalg.norm(apart, axis=-1).mean(axis=-1))
    return {
        f"lhdata to MNI152, {name}": [centres, np.nan, np.nan, network]
        for name, (centres, network) in (
            ("mean", np.mean(rows, axis=0)),
            ("worst", np.max(rows, axis=0)),
        )
    }


def overlaps(estimate, names, scans, weights, answers) -> dict[str, list[float]]:
    """Dice of masks and regions, each person to the next, and that of `register`."""
    table: Any = regions.label_values("neuromorphometrics")
    rows: list[list[tuple[float, float]]] = []
    for i, fixed in enumerate(scans):
        j = (i + 1) % len(scans)
        moving = scans[j]
        pair = [small(scan, weights.size)[0][None] for scan in (fixed, moving)]
        matrices = [m[0] for m in estimate(*pair)]
        matrices.append(answers(names[i], names[j], fixed, moving))
        rows.append([dice(fixed, moving, matrix, table) for matrix in matrices])
    means = np.mean(rows, axis=0)  # [matrices, 2]
    return {
        "Dice, and register's": means[:, 0].tolist(),
        "regions, and register's": means[:, 1].tolist(),
    }


def dice(fixed, moving, matrix: Array, table) -> tuple[float, float]:
    """Of the masks, and the mean over regions."""
    mask = jnp.asarray(moving.mask, jnp.float32)
    warped = np.asarray(geometry.warp_affine(mask, matrix)) >= 0.5
    labels = jnp.asarray(moving.labels)
    warped_labels = np.asarray(geometry.warp_affine(labels, matrix, order=0))
    region_scores = metrics.region_dice(fixed.labels, warped_labels, table)
    return (
        metrics.dice(fixed.mask, warped.astype(np.uint8)),
        float(np.nanmean(list(region_scores.values()))),
    )


if __name__ == "__main__":
    main()
