"""A registration that reads and checks its images but aligns nothing, for batches."""

import os
import signal

import distributed
import numpy as np

from mdvit_jax import transforms
from mdvit_jax.cli.review import thumbnail
from mdvit_jax.io import coerce
from mdvit_jax.registration import (
    quality,
    register,
    registration_result,
    similarity_metrics,
)

MATRIX = np.eye(4)
MATRIX[:3, :3] = [[0.98, -0.2, 0], [0.2, 0.98, 0], [0, 0, 1]]
MATRIX[:3, 3] = 3, -2, 4


def check_only(fixed, moving, *, dof, fixed_mask=None, moving_mask=None):
    """In place of `register.register`: "failed" for bert, "ok" for others.

    A moving image called dies.nii ends the process, and one called dies_once.nii where
    it is the first time.
    """
    _die(moving)
    one, other = (coerce.to_image(image, "it") for image in (fixed, moving))
    if fixed_mask:
        coerce.to_mask(fixed_mask, one, "it")
    measured = similarity_metrics.Measures(0.5, 0.25, 0.9)
    word = "failed" if moving.name == "bert.nii.gz" else "ok"
    return registration_result.Registration(
        MATRIX,
        quality.Quality(word, ("not alike",) * (word == "failed")),
        measured,
        measured,
        transforms.decompose(MATRIX, np.zeros(3)),
        None,
        one,
        other,
        None,
    )


def _die(moving):
    first = moving.with_suffix(".died")
    if not moving.exists():
        return
    if moving.name == "dies.nii" or (
        moving.name == "dies_once.nii" and not first.exists()
    ):
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class Unaligned(distributed.WorkerPlugin):
    """Lets a worker of Dask align nothing, also one in place of a dead one."""

    def setup(self, worker):
        register.register = check_only
        thumbnail.encode = lambda result: b"a picture"
