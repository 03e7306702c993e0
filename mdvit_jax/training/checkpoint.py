"""Checkpoints of a run, saved in the background, and restored on whatever devices.

The newest `checkpoint.keep` ones are kept, and the one with the best validation DSC.
"""

import concurrent.futures
import contextlib
import functools
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint.experimental.v1 as ocp
from jax.experimental import multihost_utils

from mdvit_jax import errors
from mdvit_jax.training import distributed, folders, lean_orbax, one_folder, save_errors
from mdvit_jax.training.step import TrainState

_POLICIES = ocp.training.preservation_policies

_logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run; its `with` block ends when the last is written."""

    def __init__(self, workdir: str | Path, *, keep: int | None):
        """Open those of the run in `workdir`.

        Args:
            workdir: the run's folder.
            keep: how many of the newest are kept, besides the best; what a killed save
                left behind is removed. None is for reading only: nothing is removed or
                renamed, as another process may be saving there.

        Raises:
            OSError: the folder cannot be made.
        """
        self._folders = folders.Folders(workdir)
        self._keep = keep
        self._threads = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._sealing: concurrent.futures.Future[None] | None = None
        self._last: int | None = None  # the step that is being saved, or was last
        self._ending = contextlib.ExitStack()
        self._ending.callback(self._threads.shutdown)
        if keep is not None:
            if _is_first_process():
                self._folders.tidy()
            _wait_for_all_processes()

    def __enter__(self) -> "Checkpoints":
        """Return itself."""
        return self

    def __exit__(self, kind, error, traceback) -> None:
        """Wait for the save in progress; its errors are raised here at the latest.

        With another process gone it would wait in vain, and the run is over.
        """
        if distributed.lost(error):
            return
        with self._ending:
            self._settle()

    @property
    def latest(self) -> int | None:
        """The newest step that was saved, or is being saved."""
        last = [] if self._last is None else [self._last]
        return max(self._folders.steps() + last, default=None)

    @property
    def best(self) -> int | None:
        """The step with the highest validation DSC; the newest one if none has any.

        Raises:
            UserError: what a checkpoint says about its DSC is damaged.
        """
        with self._refused_in_a_sentence():
            scores = {step: self._folders.score(step) for step in self._folders.steps()}
        scored = [(score, step) for step, score in scores.items() if score is not None]
        return max(scored)[1] if scored else self.latest

    def scored(self, step: int) -> bool:
        """Whether a saved step has its validation DSC."""
        return self._folders.score(step) is not None

    def save(
        self, step: int, state: TrainState, *, metrics: Mapping[str, float] | None
    ) -> None:
        """Begin to save in the background, once the save before has ended.

        Args:
            step: number of updates that were made.
            state: it is copied first, so that the next step may have its buffers.
            metrics: of the validation at this step, or None.

        Raises:
            UserError: this save or the one before cannot be written.
        """
        self._settle()
        scored = metrics is not None and math.isfinite(metrics[folders.BY])
        state = jax.tree.map(lambda array: array.copy(), state)
        with self._unwritable_told(step):
            if step in (saved.step for saved in self._checkpointer.checkpoints):
                if _is_first_process():
                    self._folders.replace(step)
                _wait_for_all_processes()
                self._checkpointer.reload()
            saving = self._checkpointer.save_checkpointables_async(
                step,
                {"params": state.params, "progress": (state.step, state.optimizer)},
                force=True,
                metrics=dict(metrics) if metrics is not None and scored else None,
            )
        assert saving is not None  # it is forced
        self._last = step
        self._sealing = self._threads.submit(self._seal, step, saving)

    def resume(self, like: TrainState) -> tuple[TrainState, int] | None:
        """The newest state that can be used, and its step; None if none was saved.

        Those that cannot be used are set aside, each with a warning.

        Args:
            like: it is placed on devices as this one is.

        Raises:
            UserError: there are checkpoints, but none that can be used, or not all
                processes see them.
        """
        found, unusable = None, {}
        for step in reversed(one_folder.agreed_steps(self._folders)):
            try:
                self._folders.score(step)  # Orbax reads those of all when it is opened
                if found is None:
                    found = self._state(step, like), step
            except folders.Unusable as error:
                unusable[step] = error.why
        # None can be loaded while another process is gone, which is told here.
        _wait_for_all_processes()
        if found is None and unusable:
            reasons = "; ".join(f"{step}: {why}" for step, why in unusable.items())
            raise errors.UserError(
                f"None of the checkpoints in {self._folders.root} can be used "
                f"({reasons}); bring one of them back from a copy, or train anew in "
                "another folder with --config.workdir."
            )
        for step, why in unusable.items():
            _logger.warning(
                "The checkpoint %s is damaged (%s); it is set aside as %s.",
                self._folders.of(step),
                why,
                self._folders.of(step, ".damaged").name,
            )
            if _is_first_process():
                self._folders.set_aside(step)
        _wait_for_all_processes()
        return found

    def load(self, step: int, like: TrainState) -> TrainState:
        """The state saved at `step`, placed on devices as `like` is.

        Raises:
            UserError: what was saved is of another form, or damaged.
        """
        with self._refused_in_a_sentence():
            return self._state(step, like)

    def load_params(self, step: int, like) -> Any:
        """The parameters saved at `step`, placed on devices as `like` is.

        Args:
            step: one of the saved steps.
            like: tree of arrays, or of their shapes with sharding.

        Raises:
            UserError: what was saved is of another form, or damaged.
        """
        with self._refused_in_a_sentence():
            return self._load(step, {"params": like})["params"]

    @functools.cached_property
    def _checkpointer(self) -> ocp.training.Checkpointer:
        """Orbax's, which writes and chooses what is kept; reading needs none."""
        save_errors.tell_once()
        lean_orbax.use()
        checkpointer = ocp.training.Checkpointer(
            self._folders.root,
            preservation_policy=_POLICIES.AnyPreservationPolicy(
                [
                    _POLICIES.LatestN(self._keep),
                    _POLICIES.BestN(
                        get_metric_fn=lambda metrics: metrics[folders.BY],
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
        )
        # Orbax, too, would ask JAX for a notice of preemption, by the step it saves.
        # JAX goes by the newest number it was asked by: a notice that came then would
        # be for a question that `Interrupt.ends` never asks.
        checkpointer._manager.reached_preemption = lambda step: False
        self._ending.callback(_close, checkpointer)
        return checkpointer

    def _seal(self, step: int, saving: ocp.AsyncResponse) -> None:
        """Wait for a save and write its sums; in a thread, while training goes on."""
        with self._unwritable_told(step):
            saving.result()
            if _is_first_process():
                self._folders.seal(step)

    def _settle(self) -> None:
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.result()

    def _state(self, step: int, like: TrainState) -> TrainState:
        form = {"params": like.params, "progress": (like.step, like.optimizer)}
        found = self._load(step, form)
        count, optimizer = found["progress"]
        return like._replace(step=count, params=found["params"], optimizer=optimizer)

    def _load(self, step: int, form: dict) -> dict:
        self._folders.check(step)
        path = self._folders.of(step)
        try:
            return ocp.load_checkpointables(path, form)
        except Exception as error:
            raise folders.Unusable(path, save_errors.reason(error)) from error

    @contextlib.contextmanager
    def _refused_in_a_sentence(self) -> Iterator[None]:
        try:
            yield
        except folders.Unusable as error:
            raise errors.UserError(
                f"The checkpoint {error.folder} cannot be used ({error.why}); it is "
                "damaged or of another model. Remove its folder to use the one before."
            ) from error

    @contextlib.contextmanager
    def _unwritable_told(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # TensorStore has its own for a full disk
            if distributed.lost(error) and save_errors.number(error) is None:
                raise
            kept = [f"step {n}" for n in self._folders.steps()[-1:]] or ["none so far"]
            raise errors.UserError(
                f"Step {step} cannot be saved in {self._folders.root} "
                f"({save_errors.reason(error)}); the newest checkpoint ({kept[0]}) is "
                "intact. Free space or see to the permissions; the same command goes "
                "on from there."
            ) from error


def _close(checkpointer: ocp.training.Checkpointer) -> None:
    """Close it; what a save has raised was raised before, and here once more."""
    with contextlib.suppress(Exception):
        checkpointer.close()


def _wait_for_all_processes() -> None:
    multihost_utils.sync_global_devices("mdvit_jax checkpoints")


def _is_first_process() -> bool:
    """Whether this is the process that renames and removes for all."""
    return jax.process_index() == 0
