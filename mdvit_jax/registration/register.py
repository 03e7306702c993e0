"""`mdvit_jax.register`: two images in, the transform between them out."""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mdvit_jax import errors, transforms
from mdvit_jax.io import coerce, labels
from mdvit_jax.io.image import Image
from mdvit_jax.registration import (
    CONTRASTS,
    DOF,
    brain_alignment,
    brain_extraction,
    levels,
    network_start,
    ntg_refinement,
    quality,
    refinement,
    similarity_metrics,
)
from mdvit_jax.registration.foreground import Foreground, segment_foreground
from mdvit_jax.registration.registration_result import Registration

_log = logging.getLogger(__name__)


def register(
    fixed: Any,
    moving: Any,
    *,
    dof: str = "affine",
    contrast: str = "auto",
    start: str | Path | np.ndarray = "com",
    fixed_mask: Any = None,
    moving_mask: Any = None,
    refine: bool = True,
    seed: int = 0,
    force: bool = False,
) -> Registration:
    """Find the affine transform between two images of heads or brains.

    The images may have any contrast, orientation, voxel size and dtype. Of a whole head
    the brain is found by a network and aligned, like one stripped of its skull. Their
    headers or `start` come first; where they do not fit, all orientations are searched.
    Equal inputs give equal bits on the same machine.

    Args:
        fixed: the image that stays: a path, "mni152" or "mni152-2mm" (the brain that
            nilearn ships, in voxels of 1 or 2 mm), a nibabel image, or a pair of an
            array [x, y, z] and its 4×4 affine (voxel indices → world RAS+ mm). Of two
            arrays without affines, voxel indices are taken as millimetres.
        moving: the image that is aligned to it, likewise.
        dof: "rigid", "similarity" (rigid and one scale) or "affine".
        contrast: "same" minimises NTG in the end, for images of like contrast; "any"
            keeps to the local correlation, for any contrasts. "auto" is "any".
        start: "com" aligns the centres of the foregrounds, in the orientation of the
            headers; "network" starts from what the trained network of this package
            says, too; "identity" starts from the headers alone; or a 4×4 matrix fixed →
            moving (world RAS+ mm), or the path of a transform file. Only "com" and
            "network" let other orientations be searched.
        fixed_mask, moving_mask: images on the grid of the fixed and the moving one,
            above 0 where it counts for the alignment (a mask that leaves a lesion out,
            say); the result is not masked.
        refine: False returns the start, of "network" what the network says.
        seed: seed of the starts that are drawn around the first one.
        force: accept label maps as images.

    Returns:
        The matrix with its verdict and measures; it resamples and writes files.

    Raises:
        UserError: an input or an option that cannot be used.
    """
    if dof not in DOF:
        raise errors.UserError(f"dof is {dof!r}; choose one of {', '.join(DOF)}.")
    if contrast not in CONTRASTS:
        raise errors.UserError(
            f"contrast is {contrast!r}; choose one of {', '.join(CONTRASTS)}."
        )
    arrays = [isinstance(image, np.ndarray) for image in (fixed, moving)]
    if arrays[0] != arrays[1]:
        name = "fixed" if arrays[0] else "moving"
        raise errors.UserError(
            f"the {name} image is an array alone and the other one is not, so that its "
            "orientation is not known; give (array, affine)."
        )
    with ThreadPoolExecutor() as threads:  # decompression releases Python's lock
        names = "the fixed image", "the moving image"
        both = list(threads.map(coerce.to_image, (fixed, moving), names))
        if refine:
            _prepare_programs(dof)
        segment = functools.partial(_segment, force=force, thin_out=not refine)
        one, other = threads.map(segment, both, (fixed_mask, moving_mask), names)
    levels.check_sizes(one, other)
    begin = _choose_start(start, both)
    if not refine:
        one, other = brain_extraction.replace_heads(one, other)
        pair, alignment = levels.build_pair(one, other), None
        *_, matrix = begin(one, other)
        after = similarity_metrics.measure(pair, matrix)
    else:
        orientations = isinstance(start, str) and start in ("com", "network")
        pair, alignment, after = brain_alignment.align(
            one, other, begin, dof=dof, search=orientations, seed=seed
        )
        matrix = alignment.matrix
        _log.debug(
            "Aligned: %.0f %% of the starts agree, %s, score %.2f.",
            100 * alignment.restart_agreement,
            "all orientations searched" if alignment.searched else "no search needed",
            alignment.score,
        )
        if contrast == "same":
            matrix = ntg_refinement.refine(pair, matrix, dof=dof)
            after = similarity_metrics.measure(pair, matrix)
    return Registration(
        matrix,
        quality.assess(matrix, after, alignment, dof=dof, estimated=pair.estimated),
        similarity_metrics.measure(pair, np.eye(4)),
        after,
        transforms.decompose(matrix, pair.fixed.centre),
        alignment,
        both[0],
        both[1],
        pair,
    )


@functools.cache  # once in a process
def _prepare_programs(dof: str) -> list[threading.Thread]:
    """Load or compile what every alignment needs, while images are segmented.

    In two threads, as to compile one program keeps one processor busy. What fails there
    fails again where it is needed, and is reported then.
    """
    coarse = [functools.partial(refinement.prepare, size, dof=dof) for size in (24, 48)]
    finest = functools.partial(refinement.prepare, 96, dof=dof)

    def prepare_each(*programs: Callable[[], None]) -> None:
        with contextlib.suppress(Exception):
            for prepare in programs:
                if threading.main_thread().is_alive():  # or a mistake ended the command
                    prepare()

    threads = [
        threading.Thread(target=prepare_each, args=programs)
        for programs in (coarse, (finest, similarity_metrics.prepare))
    ]
    for thread in threads:
        thread.start()
    return threads


def _segment(
    image: Image, mask, name: str, *, force: bool, thin_out: bool
) -> Foreground:
    name = image.path or name
    if not force:
        _refuse_labels(image, name)
    weight = None
    if mask is not None:
        weight = coerce.to_mask(mask, image, name)
    foreground = segment_foreground(
        image.data, image.affine, mask=weight, name=name, thin_out=thin_out
    )
    _log.debug(
        "%s: %s voxels of %s mm, %s; its foreground reaches %.0f mm from its centre.",
        name,
        "×".join(map(str, image.grid.shape)),
        "×".join(f"{size:.3g}" for size in image.grid.voxel_sizes),
        image.dtype,
        foreground.radius,
    )
    return foreground


def _refuse_labels(image: Image, name: str) -> None:
    count = labels.count_labels(image.data)
    if count:
        raise errors.UserError(
            f"{name} looks like a label map or a mask ({count} whole numbers in "
            "patches), whose values are names and not brightness; register the image "
            "that it was drawn on and carry it along (--also-labels), or take it as it "
            "is (--force; force=True)."
        )


def _choose_start(start, both) -> brain_alignment.Start:
    """How two foregrounds are laid on each other at first."""
    if str(start) == "com":
        return lambda *pair: levels.centres_together(*pair)[None]
    if str(start) == "network":
        return _centres_and_network
    matrix = _read_start(start, both)
    return lambda *pair: matrix[None]


def _centres_and_network(fixed: Foreground, moving: Foreground) -> np.ndarray:
    """A network may be far off, so the centres are a place to start from, too."""
    places = levels.centres_together, network_start.estimate
    return np.stack([place(fixed, moving) for place in places])


def _read_start(start, both) -> np.ndarray:
    """4×4 fixed → moving, world RAS+ mm, that does not depend on the foregrounds."""
    if isinstance(start, np.ndarray):
        return _sound(np.asarray(start, np.float64), "the matrix given as start")
    if str(start) == "identity":
        return np.eye(4)
    if not Path(start).is_file():
        raise errors.UserError(
            f"start is {start}, which is not a file; give com, identity, network or a "
            "transform file."
        )
    fixed, moving = (image.grid for image in both)
    return _sound(transforms.read(start, fixed=fixed, moving=moving), str(start))


def _sound(matrix: np.ndarray, name: str) -> np.ndarray:
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise errors.UserError(f"{name} is not a 4x4 matrix of numbers; give another.")
    if not np.linalg.det(matrix[:3, :3]) > 1e-6:
        raise errors.UserError(
            f"{name} mirrors, or maps space to a plane, and no head is a mirror image "
            "of another; give another start."
        )
    return matrix
