"""A run's checkpoints, `WORKDIR/checkpoints/STEP`, on a disk or in a bucket (gs://…).

Orbax writes them in the background. On a disk each has SHA256SUMS once it is complete
(`io.sums`); the objects of a bucket are written whole, and their checksums are the
service's. Beside them there may be

- STEP.orbax-checkpoint-tmp, a save that was killed: removed when the run goes on; in a
  bucket, which cannot rename, a folder STEP without commit_success.txt;
- STEP.damaged, which could not be used and was set aside. Nothing reads it.
"""

import concurrent.futures
import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint.experimental.v1 as ocp
from etils import epath

from mdvit_jax import errors
from mdvit_jax.io import bucket, sums
from mdvit_jax.training import distributed, metrics_log
from mdvit_jax.training.step import TrainState

_COMMITTED = "commit_success.txt"  # Orbax's last object of a checkpoint in a bucket
_UNFINISHED = ".orbax-checkpoint-tmp"  # Orbax's ending of a folder until it is complete

_logger = logging.getLogger(__name__)


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of one run; its `with` block ends when the last is written."""

    def __init__(self, workdir: epath.PathLike, *, keep: int | None):
        """Open the checkpoints of the run in `workdir`.

        Args:
            workdir: the run's folder.
            keep: how many of the newest are kept, beside the one with the best
                validation DSC; what a killed save left behind is removed. None is for
                reading only: nothing is removed or renamed.
        """
        self._workdir = epath.Path(workdir)
        self._in_bucket = bucket.in_bucket(workdir)
        absolute = self._workdir if self._in_bucket else self._workdir.resolve()
        self.root = absolute / "checkpoints"
        self._keep = keep
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._saving: concurrent.futures.Future[None] | None = None
        self._last: int | None = None  # the step that is being saved, or was last
        if keep is not None:
            if jax.process_index() == 0:
                self._remove_unfinished_saves()
            distributed.wait_for_all("the folder of checkpoints is tidy")

    def __exit__(self, kind, error, traceback) -> None:
        """Wait for the save in progress, unless another process is gone."""
        if not distributed.lost(error):
            with self._thread:
                self.wait()

    def steps(self) -> list[int]:
        """The steps that were saved completely, in rising order."""
        folders = [f for f in self._entries() if _is_step(f.name)]
        return sorted(int(f.name) for f in folders if self._is_complete(f))

    @property
    def latest(self) -> int | None:
        """The newest step that was saved, or is being saved."""
        last = [] if self._last is None else [self._last]
        return max(self.steps() + last, default=None)

    @property
    def best(self) -> int | None:
        """The saved step with the highest validation DSC; without any, the newest."""
        scores = metrics_log.scores(self._workdir)
        scored = [(scores[step], step) for step in self.steps() if step in scores]
        return max(scored)[1] if scored else self.latest

    def save(self, step: int, state: TrainState) -> None:
        """Begin to save in the background, once the save before has ended.

        Args:
            step: number of updates that were made.
            state: it is copied first, so that the next step may have its buffers.

        Raises:
            OSError: this save or the one before cannot be written.
        """
        self.wait()
        state = jax.tree.map(lambda array: array.copy(), state)
        with _raise_system_errors():
            saving = ocp.save_checkpointables_async(
                self._folder(step),
                {"params": state.params, "progress": (state.step, state.optimizer)},
            )
        self._last = step
        self._saving = self._thread.submit(self._finish, step, saving)

    def wait(self) -> None:
        """Wait for the save in progress; its errors are raised here."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def restore(self, like: TrainState) -> tuple[TrainState, int] | None:
        """The newest state that can be used, and its step; None if none was saved.

        Checkpoints that cannot be used are set aside, each with a warning.

        Args:
            like: the state is placed on devices as this one is.

        Raises:
            UserError: there are checkpoints, but none that can be used.
        """
        form = {"params": like.params, "progress": (like.step, like.optimizer)}
        damaged: dict[int, str] = {}
        while (step := self._broadcast_newest(damaged)) >= 0:
            try:
                loaded = ocp.load_checkpointables(self._folder(step), form)
            except Exception as error:
                damaged[step] = distributed.first_line(error)
            if distributed.all_agree(step not in damaged):
                break
            damaged.setdefault(step, "another process cannot read it")
        if step < 0 and distributed.broadcast(len(damaged)):
            reasons = "; ".join(f"{step}: {why}" for step, why in damaged.items())
            raise errors.UserError(
                f"None of the checkpoints in {self.root} can be used "
                f"({reasons or 'process 0 says why'}); bring one of them back from a "
                "copy, or train anew in another folder with --config.workdir."
            )
        if jax.process_index() == 0:
            for number, why in damaged.items():
                self._set_aside(number, why)
        distributed.wait_for_all("damaged checkpoints are set aside")
        if step < 0:
            return None
        count, optimizer = loaded["progress"]
        return TrainState(count, loaded["params"], optimizer), step

    def load_params(self, step: int, like: Any) -> Any:
        """The parameters saved at `step`, placed on devices as `like` is.

        Args:
            step: one of the saved steps.
            like: tree of arrays, or of their shapes with sharding.

        Raises:
            UserError: what was saved is of another network, or damaged.
        """
        folder, reason = self._folder(step), self._damage(step)
        if reason is None:
            try:
                return ocp.load_checkpointables(folder, {"params": like})["params"]
            except Exception as error:
                reason = distributed.first_line(error)
        raise errors.UserError(
            f"The checkpoint {folder} cannot be used ({reason}); it is damaged or of "
            "another model. Remove its folder to use the one before."
        )

    def _folder(self, step: int) -> epath.Path:
        return self.root / str(step)

    def _entries(self) -> list[epath.Path]:
        return sorted(self.root.iterdir()) if self.root.exists() else []

    def _is_complete(self, folder: epath.Path) -> bool:
        return not self._in_bucket or (folder / _COMMITTED).exists()

    def _damage(self, step: int) -> str | None:
        return None if self._in_bucket else sums.damage(Path(self._folder(step)))

    def _broadcast_newest(self, damaged: dict[int, str]) -> int:
        """The newest step whose files are undamaged; -1 if there is none.

        Process 0 checks the files for all, and adds damaged steps to `damaged`.
        """
        newest = -1
        if jax.process_index() == 0:
            for step in reversed(self.steps()):
                if step not in damaged:
                    if (reason := self._damage(step)) is None:
                        newest = step
                        break
                    damaged[step] = reason
        return distributed.broadcast(newest)

    def _finish(self, step: int, saving: ocp.AsyncResponse) -> None:
        """Wait for a save, write its sums, remove old ones; while training goes on."""
        with _raise_system_errors():
            saving.result()
            if jax.process_index() != 0:
                return
            if not self._in_bucket:
                sums.write(Path(self._folder(step)))
            if self._keep is not None:
                best = self.best
                for old in self.steps()[: -self._keep]:
                    if old != best:
                        self._folder(old).rmtree()

    def _remove_unfinished_saves(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        for path in self._entries():
            uncommitted = _is_step(path.name) and not self._is_complete(path)
            if uncommitted or path.name.endswith(_UNFINISHED):
                _logger.warning("%s: removed the unfinished save.", path)
                path.rmtree()

    def _set_aside(self, step: int, reason: str) -> None:
        aside = self.root / f"{step}.damaged"
        _logger.warning(
            "The checkpoint %s is damaged (%s); it is set aside as %s.",
            *(self._folder(step), reason, aside.name),
        )
        if aside.exists():  # from an earlier run
            aside.rmtree() if aside.is_dir() else aside.unlink()
        self._folder(step).rename(aside)


def _is_step(name: str) -> bool:
    return name.isdecimal() and name == str(int(name))  # and not 0013


@contextlib.contextmanager
def _raise_system_errors() -> Iterator[None]:
    """Raise as an OSError what TensorStore reports, of a full disk for example."""
    try:
        yield
    except Exception as error:
        if (match := re.search(r"os_error_code='(\d+)'", str(error))) is None:
            raise
        number = int(match[1])
        raise OSError(number, os.strerror(number)) from error
