"""A run's checkpoints, `WORKDIR/checkpoints/STEP`, on a disk or in a bucket (gs://…).

Orbax writes them in the background. On a disk each has SHA256SUMS once it is complete
(`sha256sum -c SHA256SUMS` is the same check as `damage`); the objects of a bucket are
written whole, and their checksums are the service's. Beside them there may be

- STEP.orbax-checkpoint-tmp, a save that was killed: removed when the run goes on; in a
  bucket, which cannot rename, a folder STEP without commit_success.txt;
- STEP.damaged, which could not be used and was set aside. Nothing reads it.
"""

import concurrent.futures
import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint.experimental.v1 as ocp
from etils import epath

from mdvit_jax import errors
from mdvit_jax.io import atomic
from mdvit_jax.training import distributed, metrics_log
from mdvit_jax.training.step import TrainState

SUMS = "SHA256SUMS"
_COMMITTED = "commit_success.txt"  # Orbax's last object of a checkpoint in a bucket
_UNFINISHED = ".orbax-checkpoint-tmp"  # Orbax's ending of a folder until it is complete

_logger = logging.getLogger(__name__)


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of one run; its `with` block ends when the last is written."""

    def __init__(self, workdir: epath.PathLike, *, keep: int | None):
        """Open those of the run in `workdir`.

        Args:
            workdir: the run's folder.
            keep: how many of the newest are kept, besides the one with the best
                validation DSC; what a killed save left behind is removed. None is for
                reading only: nothing is removed or renamed.

        Raises:
            OSError: the folder cannot be made.
        """
        self._workdir = epath.Path(workdir)
        self._in_bucket = atomic.in_bucket(workdir)
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
        """Wait for the save in progress; its errors are raised here at the latest.

        With another process gone it would wait in vain, and the run is over.
        """
        if distributed.lost(error):
            return
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def steps(self) -> list[int]:
        """The steps that were saved completely, in rising order."""
        if not self.root.exists():
            return []
        names = [path.name for path in self.root.iterdir()]
        # Not 0013, which is no name that was written here.
        steps = [int(n) for n in names if n.isdecimal() and n == str(int(n))]
        return sorted(step for step in steps if self._committed(self._folder(step)))

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
            UserError: this save or the one before cannot be written.
        """
        self.wait()
        state = jax.tree.map(jnp.copy, state)
        with self._explain_failed_save(step):
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

        Those that cannot be used are set aside, each with a warning.

        Args:
            like: the state is placed on devices as this one is.

        Raises:
            UserError: there are checkpoints, but none that can be used.
        """
        form = {"params": like.params, "progress": (like.step, like.optimizer)}
        damaged: dict[int, str] = {}
        result = None
        while (step := self._broadcast_newest(damaged)) >= 0:
            try:
                loaded = ocp.load_checkpointables(self._folder(step), form)
                count, optimizer = loaded["progress"]
                state = TrainState(count, loaded["params"], optimizer)
                result, reason = (state, step), None
            except Exception as error:
                result, reason = None, _reason(error)
            if distributed.all_agree(reason is None):
                break
            damaged[step] = reason or "another process cannot read it"
        if step < 0 and distributed.broadcast(len(damaged)):
            reasons = "; ".join(f"{step}: {why}" for step, why in damaged.items())
            raise errors.UserError(
                f"None of the checkpoints in {self.root} can be used "
                f"({reasons or 'process 0 says why'}); bring one of them back from a "
                "copy, or train anew in another folder with --config.workdir."
            )
        if jax.process_index() == 0:
            for step, why in damaged.items():
                self._set_aside(step, why)
        distributed.wait_for_all("damaged checkpoints are set aside")
        return result

    def load_params(self, step: int, like) -> Any:
        """The parameters saved at `step`, placed on devices as `like` is.

        Args:
            step: one of the saved steps.
            like: tree of arrays, or of their shapes with sharding.

        Raises:
            UserError: what was saved is of another form, or damaged.
        """
        folder, cause = self._folder(step), None
        reason = self._damage(step)
        if reason is None:
            try:
                return ocp.load_checkpointables(folder, {"params": like})["params"]
            except Exception as error:
                reason, cause = _reason(error), error
        raise errors.UserError(
            f"The checkpoint {folder} cannot be used ({reason}); it is damaged or of "
            "another model. Remove its folder to use the one before."
        ) from cause

    def _folder(self, step: int) -> epath.Path:
        return self.root / str(step)

    def _committed(self, folder: epath.Path) -> bool:
        return not self._in_bucket or (folder / _COMMITTED).exists()

    def _damage(self, step: int) -> str | None:
        return None if self._in_bucket else damage(Path(self._folder(step)))

    def _broadcast_newest(self, damaged: dict[int, str]) -> int:
        """The newest step whose files are as they were written; -1 if there is none.

        Process 0 looks at the files for all, and adds those that are not to `damaged`.
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
        with self._explain_failed_save(step):
            saving.result()
            if jax.process_index() != 0:
                return
            if not self._in_bucket:
                write_sums(Path(self._folder(step)))
            if self._keep is not None:
                best = self.best
                for old in self.steps()[: -self._keep]:
                    if old != best:
                        self._folder(old).rmtree()

    def _remove_unfinished_saves(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.root.iterdir()):
            uncommitted = path.name.isdecimal() and not self._committed(path)
            if uncommitted or path.name.endswith(_UNFINISHED):
                _logger.warning("%s: removed the unfinished save.", path)
                path.rmtree()

    def _set_aside(self, step: int, reason: str) -> None:
        aside = self.root / f"{step}.damaged"
        _logger.warning(
            "The checkpoint %s is damaged (%s); it is set aside as %s.",
            *(self._folder(step), reason, aside.name),
        )
        if aside.exists():  # of an earlier time
            aside.rmtree() if aside.is_dir() else aside.unlink()
        self._folder(step).rename(aside)

    @contextlib.contextmanager
    def _explain_failed_save(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if distributed.lost(error) and _system_error(error) is None:
                raise
            kept = [f"step {n}" for n in self.steps()[-1:]] or ["none so far"]
            raise errors.UserError(
                f"Step {step} cannot be saved in {self.root} ({_reason(error)}); the "
                f"newest checkpoint ({kept[0]}) is intact. Free space or see to the "
                "permissions; the same command goes on from there."
            ) from error


def write_sums(folder: Path) -> None:
    """Write the SHA256SUMS of all files in a folder and below."""
    atomic.write_text(folder / SUMS, "".join(f"{line}\n" for line in _sums(folder)))


def damage(folder: Path) -> str | None:
    """What does not agree with a folder's SHA256SUMS, in words; None if all does.

    A folder without sums passes: the run may have been killed before it wrote them.
    """
    try:
        written = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        different = set(written) ^ set(_sums(folder))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return f"it cannot be read: {error}"
    names = sorted(line.partition("  ")[2] for line in different)
    return f"{names[-1] or SUMS} is not what was written" if names else None


def _sums(folder: Path) -> list[str]:
    """`sha256sum` of all files; hidden ones are the system's or unfinished."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        f"{_sha256(path)}  {path.relative_to(folder).as_posix()}"
        for path in files
        if path.name != SUMS and not path.name.startswith(".")
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _system_error(error: Exception) -> int | None:
    """The operating system's number; TensorStore writes it into its message."""
    match = re.search(r"os_error_code='(\d+)'", str(error))
    return int(match[1]) if match else getattr(error, "errno", None)


def _reason(error: Exception) -> str:
    """What the operating system says, if it is at fault, or the error in one line."""
    if number := _system_error(error):
        return os.strerror(number)
    line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {line[:200]}"
