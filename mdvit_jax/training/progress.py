"""What a run shows as it goes: pairs/s, time left, loss, DSC, and late scans."""

import sys
from typing import Any

import jax
import ml_collections
import numpy as np
import tqdm
from jax.experimental import multihost_utils

_MUCH = 0.1  # share of steps that began late from which the run says what helps


class Progress:
    """The bar of a run, which also counts the steps that began late.

    The devices work on a step while the scans of the next are awaited. If they are
    done before these come, they have to wait, however many batches workers are ahead.
    Close it, or use `contextlib.closing`.
    """

    def __init__(self, first: int, optim: ml_collections.ConfigDict):
        """Show that `first` steps are done; in a log file a line now and then."""
        self._bar = tqdm.tqdm(
            initial=first * optim.batch,
            total=optim.steps * optim.batch,
            unit="pair",
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30,
            disable=jax.process_index() != 0,
        )
        self._dsc = ""
        self.steps = self.late = 0  # of those that say something about their scans

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def scans_came(self, before: Any | None) -> None:
        """Count a step, by an array that the step before gives; None: there is none.

        Validation and saves end with the devices at rest: the step after says nothing.
        """
        if before is not None:
            self.steps += 1
            self.late += before.is_ready()

    def stepped(self, loss: np.ndarray) -> None:
        """A step is over, with these losses, one a pair."""
        self._bar.set_description(f"loss {loss.mean():.4f}", refresh=False)
        self._annotate()
        self._bar.update(len(loss))

    def validated(self, dsc: float) -> None:
        """A validation is over, with this mean DSC."""
        self._dsc = f"DSC {dsc:.3f}"
        self._annotate()

    def late_scans(self, workers: int) -> str:
        """A sentence for the end of a run, with advice where loading was too slow.

        All processes must ask together; it is of the one that waited most, as the
        others then wait for it.
        """
        steps, late = self.steps, self.late
        if jax.process_count() > 1:
            counts = multihost_utils.process_allgather(np.array([steps, late]))
            steps, late = counts[counts[:, 1].argmax()].tolist()
        if not steps:
            return ""
        told = f"The devices waited for scans before {late} of {steps} steps"
        if late <= _MUCH * steps:
            return told + "."
        return (
            f"{told}; a prepared data.cache makes loading faster, and another number "
            f"than {workers} of data.workers may (0 if reading takes milliseconds)."
        )

    def _annotate(self) -> None:
        late = f"late scans {self.late / self.steps:.0%}" if self.steps else ""
        words = ", ".join(filter(None, (self._dsc, late)))
        self._bar.set_postfix_str(words, refresh=False)
