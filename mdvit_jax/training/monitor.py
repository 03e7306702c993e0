"""What the steps of a run measured: read one step late, checked, recorded and shown.

Reading a loss waits for the devices, so it is read while they are at the next step.
"""

import math

import jax
import numpy as np
from jax.sharding import Mesh

from mdvit_jax import errors
from mdvit_jax.data import pairs
from mdvit_jax.training import checkpoint, metrics_log, progress, sharding, step

_SILENT = 100  # steps in a row without any gradient after which a network is given up


class MetricsMonitor:
    """Keeps what each step measured while the next one runs, and then reads it."""

    def __init__(
        self,
        mesh: Mesh,
        subjects: tuple[str, ...],
        saved: checkpoint.Checkpoints,
        record: metrics_log.MetricsLog | None,
        bar: progress.Progress,
    ):
        """No step yet.

        Args:
            mesh: on which the steps are computed.
            subjects: names of the scans, for messages.
            saved: the run's checkpoints, for messages.
            record: where the rows go; None in all processes but the first.
            bar: where they show.
        """
        self._mesh = mesh
        self._subjects = subjects
        self._saved = saved
        self._record = record
        self._bar = bar
        self._pending: tuple[int, step.Measurements, np.ndarray] | None = None
        self._silent = 0

    @property
    def pending_loss(self) -> jax.Array | None:
        """The losses [pairs] of the step that is not read yet; None: all are."""
        return None if self._pending is None else self._pending[1].loss

    def push(self, done: int, measured: step.Measurements, used: np.ndarray) -> None:
        """Read the step before, and keep this one for later.

        Args:
            done: the number of steps that are done, with this one.
            measured: what it gives; the devices may still be at it.
            used: this process's pairs in it, [rows, 2] (fixed, moving).

        Raises:
            UserError: as `flush`, which raises it in all processes alike.
        """
        self.flush()
        self._pending = done, measured, used

    def flush(self) -> None:
        """Read the step that is not read yet, if there is one.

        Raises:
            UserError: its loss is not finite, or the network no longer learns.
        """
        if self._pending is None:
            return
        (done, measured, used), self._pending = self._pending, None
        loss, norm = np.asarray(measured.loss), float(measured.gradient_norm)
        self._check_finite(done, loss, norm, used)
        self._check_learning(done, norm)
        if self._record is not None:
            lr = float(measured.learning_rate)
            row = {"loss": float(loss.mean()), "gradient_norm": norm, "lr": lr}
            self._record.write(done, row)
        self._bar.show_step(loss)

    def _check_finite(self, done: int, loss, norm: float, used: np.ndarray) -> None:
        bad = ~np.isfinite(loss)
        if not bad.any() and math.isfinite(norm):
            return
        used = sharding.on_one_device(self._mesh, sharding.to_devices(self._mesh, used))
        # A gradient that alone is not finite may come from any of the pairs.
        rows = np.asarray(used)[bad if bad.any() else slice(None)]
        names = [self._pair_name(f, m) for f, m in rows[:3].tolist()]
        latest = self._saved.latest
        kept = f"step {latest}" if latest is not None else "none yet"
        raise errors.UserError(
            f"The loss or its gradient is not finite at step {done}, pair "
            f"{' and '.join(names)}; the newest checkpoint ({kept}) is intact. Look at "
            "these scans, or lower optim.lr."
        )

    def _check_learning(self, done: int, norm: float) -> None:
        """Heads whose ReLU units are off for every pair have no gradient ever again."""
        self._silent = 0 if norm else self._silent + 1
        if self._silent >= _SILENT:
            best = self._saved.best
            so_far = "" if best is None else f" (the best so far is step {best})"
            raise errors.UserError(
                f"The gradient was zero in all of the {self._silent} steps up to step "
                f"{done}: the network's heads have fallen silent, and it will not "
                f"learn any more{so_far}. Train anew, in another workdir, with a lower "
                "optim.lr, another seed or less augmentation."
            )

    def _pair_name(self, fixed: int, moving: int) -> str:
        template = fixed == pairs.TEMPLATE
        fixed_name = "the template" if template else self._subjects[fixed]
        return f"{self._subjects[moving]} to {fixed_name}"
