"""Checkpoints of a run, in `WORKDIR/checkpoints/STEP`, written in the background.

The newest `checkpoint.keep` ones are kept, and the one with the best validation DSC.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint.experimental.v1 as ocp

from mdvit_jax import errors
from mdvit_jax.training.step import TrainState

_POLICIES = ocp.training.preservation_policies
_BY = "dsc"  # the validation metric that says which checkpoint is the best


class Checkpoints:
    """The checkpoints of one run; its `with` block ends when the last is written."""

    def __init__(self, workdir: str | Path, *, keep: int | None):
        """Open those of the run in `workdir`.

        Args:
            workdir: the run's folder.
            keep: how many of the newest are kept, besides the best; what a killed save
                left behind is removed. None is for reading only: nothing is removed,
                as another process may be saving there.
        """
        self._checkpointer = ocp.training.Checkpointer(
            Path(workdir).resolve() / "checkpoints",
            preservation_policy=_POLICIES.AnyPreservationPolicy(
                [
                    _POLICIES.LatestN(keep),
                    _POLICIES.BestN(
                        get_metric_fn=lambda metrics: metrics[_BY],
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            cleanup_tmp_directories=keep is not None,
        )

    def __enter__(self) -> "Checkpoints":
        """Return itself."""
        return self

    def __exit__(self, *exception) -> None:
        """Wait for the save in progress; its errors are raised here at the latest."""
        self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """The newest step that was saved completely."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    @property
    def best(self) -> int | None:
        """The step with the highest validation DSC; the newest one if none has any."""
        scored = [c for c in self._checkpointer.checkpoints if c.metrics]
        if not scored:
            return self.latest
        return max(scored, key=lambda c: (c.metrics[_BY], c.step)).step

    def save(
        self, step: int, state: TrainState, *, metrics: Mapping[str, float] | None
    ) -> None:
        """Begin to save in the background, once the save before has ended.

        Args:
            step: number of updates that were made.
            state: it is copied first, so that the next step may have its buffers.
            metrics: of the validation at this step, or None.
        """
        scored = metrics is not None and math.isfinite(metrics[_BY])
        state = jax.tree.map(lambda array: array.copy(), state)
        self._checkpointer.save_checkpointables_async(
            step,
            {"params": state.params, "progress": (state.step, state.optimizer)},
            force=True,
            overwrite=True,
            metrics=dict(metrics) if metrics is not None and scored else None,
        )

    def load(self, step: int, like: TrainState) -> TrainState:
        """The state saved at `step`, placed on devices as `like` is.

        Raises:
            UserError: what was saved is of another form, or cannot be read.
        """
        form = {"params": like.params, "progress": (like.step, like.optimizer)}
        found = self._load(step, form)
        count, optimizer = found["progress"]
        return like._replace(step=count, params=found["params"], optimizer=optimizer)

    def load_params(self, step: int, like) -> Any:
        """The parameters saved at `step`, placed on devices as `like` is.

        Args:
            step: one of the saved steps.
            like: tree of arrays, or of their shapes with sharding.

        Raises:
            UserError: what was saved is of another form, or cannot be read.
        """
        return self._load(step, {"params": like})["params"]

    def _load(self, step: int, form: dict) -> dict:
        try:
            return self._checkpointer.load_checkpointables(step, form)
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "")[:200]
            raise errors.UserError(
                f"The checkpoint {self._checkpointer.directory / str(step)} cannot be "
                f"used ({type(error).__name__}: {reason}); it is damaged or of another "
                "model. Remove its folder to use the one before."
            ) from error
