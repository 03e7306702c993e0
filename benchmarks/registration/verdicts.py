"""How good and bad registrations of real scans are judged: what the limits rest on.

    MDVIT_DATA=… python -m benchmarks.registration.verdicts

Good pairs are people of two cohorts on each other and on MNI152, with the contrast of
the moving one unchanged, at gamma 0.5 and 2 and inverted; bad ones are made on purpose.
A line for each with what `registration.quality` looks at, then how many have which
verdict.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.registration import contrasts, scans
from mdvit_jax import errors, register
from mdvit_jax.data import template
from mdvit_jax.io.image import Image

_CONTRASTS = (*contrasts.GAMMAS, "inverted")
_PEOPLE = (2, 9, 17, 25, 33, 38)


def good() -> Iterator[tuple[str, Image, Image, dict[str, Any]]]:
    """Name, fixed, moving and options of pairs that can be aligned."""
    mni, _, _ = template.mni152()
    mni_image = scans.image(mni.data, mni.affine)
    pairs = scans.oasis_pairs()
    for number, (one, other) in enumerate(pairs[:: len(pairs) // 12]):
        contrast = _CONTRASTS[number % 4]
        moving = _changed(scans.oasis(other), contrast)
        yield f"{other} to {one}, {contrast}", scans.oasis(one).image, moving, {}
    for number, person in enumerate(_PEOPLE):
        scan, contrast = scans.person(person), _CONTRASTS[number % 4]
        moving = _changed(scan, contrast)
        yield f"sub-{person:02} to MNI152, {contrast}", mni_image, moving, {}
        oasis = scans.oasis(scans.OASIS[number]).image
        yield f"sub-{person:02} to {scans.OASIS[number]}", oasis, scan.image, {}


def bad() -> Iterator[tuple[str, Image, Image, dict[str, Any]]]:
    """Name, fixed, moving and options of pairs that cannot come right."""
    for number in range(3):
        fixed = scans.oasis(scans.OASIS[number]).image
        scan = scans.oasis(scans.OASIS[number + 5])
        moving, name = scan.image, f"{scans.OASIS[number + 5]} to {scans.OASIS[number]}"
        for axis, side in ((0, 1), (1, 1), (2, 1), (2, -1)):
            cropped = _half(moving, axis, side)
            yield f"{name}, half cut off along {axis} {side:+}", fixed, cropped, {}
        labels = scans.oasis_labels(scans.OASIS[number + 5])
        as_image = labels._replace(data=labels.data.astype(np.float32))
        yield f"{name}, label map", fixed, as_image, {"force": True}
        upside_down = np.diag([1.0, -1, -1, 1]) @ moving.affine
        turned = moving._replace(grid=moving.grid._replace(affine=upside_down))
        start = np.eye(4)
        start[:3, 3] = _centre(turned) - _centre(fixed)
        yield f"{name}, upside down, no search", fixed, turned, {"start": start}
        yield f"{name}, other structure", fixed, _noise(moving, number), {}


def _changed(scan: scans.Scan, contrast: str) -> Image:
    data = contrasts.change(scan.image.data, scan.mask, contrast)
    return scan.image._replace(data=data)


def _half(image: Image, axis: int, side: int) -> Image:
    """The image with one half of the brain's extent set to 0."""
    inside = np.flatnonzero((image.data > 0).any(tuple({0, 1, 2} - {axis})))
    middle = (inside[0] + inside[-1]) // 2
    data = np.moveaxis(image.data.copy(), axis, 0)
    data[middle:] *= side < 0
    data[:middle] *= side > 0
    return image._replace(data=np.moveaxis(data, 0, axis))


def _noise(image: Image, seed: int) -> Image:
    """Another organ: the outline of this one, roughly, with another inside."""
    random = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(random.standard_normal(image.data.shape), 4)
    outline = ndimage.gaussian_filter((image.data > 0).astype(np.float32), 6) > 0.5
    texture = 0.5 + 0.15 * texture / texture.std()
    data = (np.clip(texture, 0.01, 1) * outline).astype(np.float32)
    return image._replace(data=data)


def _centre(image: Image) -> np.ndarray:
    inside = np.argwhere(image.data > 0).mean(0)
    return image.affine[:3, :3] @ inside + image.affine[:3, 3]


@errors.handle_user_errors
def main() -> int:
    """Print a line for each pair and the counts."""
    for kind, pairs in (("good", good()), ("bad", bad())):
        words: Counter[str] = Counter()
        for name, fixed, moving, options in pairs:
            result = register(fixed, moving, **options)
            words[result.quality.status] += 1
            sizes = np.linalg.svd(result.matrix[:3, :3], compute_uv=False)
            seen, after = result.alignment, result.after
            assert seen  # it was refined
            rival = seen.runner_up_score
            second = "–" if rival is None else f"{rival:.2f}"
            print(
                f"{kind} {result.quality.status:7}"
                f" score {seen.score:5.2f} runner-up {second:>5}"
                f" agree {seen.restart_agreement:.2f}"
                f" correlation {after.correlation:.2f} overlap {after.overlap:.2f}"
                f" scales {sizes.min():.2f}-{sizes.max():.2f}  {name}",
                flush=True,
            )
        print(kind, dict(words))
    return 0


if __name__ == "__main__":
    sys.exit(main())
