"""One batch: the pairs of one step, read.

A batch is a function of its global step alone (`pairs.draw`). That holds where scans
that cannot be read are left out, too: a pair with such a scan is drawn anew within its
row of the step, so that a batch depends on what can be read now, and on no step before.
"""

import time
from typing import NamedTuple, Protocol, TypedDict

import grain
import numpy as np

from mdvit_jax import errors
from mdvit_jax.data import conform, pairs
from mdvit_jax.data.scan import LoadingError

# Pairs that a row may try. Where nine of ten pairs cannot be read, all of them fail for
# one row of 40,000.
_ATTEMPTS = 100
_ADVICE = (
    "Bring the scan back; or --config.data.skip_unreadable=True goes on without it, "
    "with other pairs."
)


class Scans(Protocol):
    """What batches are made from: conformed scans by index; it can be pickled."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> conform.Conformed: ...


class Batch(TypedDict):
    """This process's rows of one global batch; volumes are [0, 1], RAS+, conformed."""

    step: int
    fixed: np.ndarray  # float32 [rows, n, n, n]
    moving: np.ndarray  # float32 [rows, n, n, n]
    fixed_index: np.ndarray  # int32 [rows], `pairs.TEMPLATE` for the template
    moving_index: np.ndarray  # int32 [rows]
    unreadable: dict[int, str]  # the scans that were left out of its rows, and why
    loaded: float  # when it was ready, by the clock of `time.monotonic`


class Load(NamedTuple):
    """Loads the batch of a step; pickled into the workers.

    The attributes are arguments of `pipeline.batches`, but for two of them.

    Attributes:
        rows: those of the batch of all processes that are loaded here.
        shared: whether the volumes are to be laid in shared memory, in a worker.
    """

    scans: Scans
    template: np.ndarray | None
    persons: tuple[str, ...]
    seed: int
    task: str
    batch: int
    rows: slice
    skip_unreadable: bool
    shared: bool

    def __call__(self, step: int) -> Batch:
        """The batch of a global step.

        Raises:
            LoadingError: the scans raised a UserError for a scan; or, where such scans
                are left out, too many cannot be read.
        """
        drawn = pairs.draw(self.seed, step, self.batch, self.persons, self.task)
        unreadable: dict[int, str] = {}
        # All scans are opened before any shared memory is taken: what a failing one
        # left behind, nobody would free.
        read = [
            self._read(step, row, drawn[row], unreadable)
            for row in range(self.batch)[self.rows]
        ]
        used = np.array([pair for pair, _ in read], np.int32)
        return Batch(
            step=int(step),
            fixed=self._stack([fixed for _, (fixed, _) in read]),
            moving=self._stack([moving for _, (_, moving) in read]),
            fixed_index=used[:, 0].copy(),
            moving_index=used[:, 1].copy(),
            unreadable=unreadable,
            loaded=time.monotonic(),
        )

    def _read(
        self, step: int, row: int, pair: np.ndarray, unreadable: dict[int, str]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """The pair that a row gets, and its two images.

        Args:
            step, row: where it stands, in the batch of all processes.
            pair: what was drawn; another one takes its place if it cannot be read.
            unreadable: scans that could not be read in this step; more are added.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            images = self._images(pair.tolist(), unreadable)
            if images is not None:
                return pair, images
            pair = pairs.draw_again(
                self.seed, step, row, attempt, self.persons, self.task
            )
        raise LoadingError(
            f"Too many scans cannot be read to go on without them, {len(unreadable)} "
            f"of {len(self.persons)} at step {step + 1}, such as this one: "
            f"{next(iter(unreadable.values()))}"
        )

    def _images(
        self, pair: list[int], unreadable: dict[int, str]
    ) -> list[np.ndarray] | None:
        """The images of a pair; None if one cannot be read and may be left out."""
        images = []
        for index in pair:
            if index in unreadable:
                return None
            try:
                images.append(self._image(index))
            except errors.UserError as error:
                if not self.skip_unreadable:
                    raise LoadingError(f"{error} {_ADVICE}") from error
                unreadable[index] = str(error)
                return None
        return images

    def _stack(self, images: list[np.ndarray]) -> np.ndarray:
        # Straight into the memory that the parent reads: a worker copies a
        # memory-mapped scan once.
        new = grain.multiprocessing.SharedMemoryArray if self.shared else np.empty
        stacked = new((len(images), *images[0].shape), np.float32)
        return np.stack(images, out=stacked)

    def _image(self, index: int) -> np.ndarray:
        if index != pairs.TEMPLATE:
            return self.scans[index].image
        assert self.template is not None  # the task is "template"
        return self.template
