"""What a run shows as it goes: pairs/s, time left, loss, DSC, and how scans keep up."""

import collections
import sys
import time
from typing import Any

import jax
import ml_collections
import numpy as np
import tqdm
from jax.experimental import multihost_utils

_MUCH = 0.1  # share of steps that began late from which the run says what helps
_SHOWN = 100  # steps, the newest, whose share the bar shows


class Progress:
    """The bar of a run, which also counts the steps that began late, and the queue.

    The devices work on a step while the scans of the next are awaited. If they are
    done before these come, they have to wait, however many batches workers are ahead.
    The queue is of the batches that lay ready behind the one that a step took.
    Close it, or use `contextlib.closing`.
    """

    def __init__(self, first: int, config: ml_collections.ConfigDict):
        """Show that `first` steps are done; in a log file a line now and then."""
        optim, self._workers = config.optim, config.data.workers
        self._bar = tqdm.tqdm(
            initial=first * optim.batch,
            total=optim.steps * optim.batch,
            unit="pair",
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30,
            disable=jax.process_index() != 0,
        )
        self._dsc = ""
        self._late = _Counts()  # of the steps that say something about their scans
        self._queue = _Counts()
        # When the last batches were taken: more than workers can be ahead of a step.
        self._taken: collections.deque[float] = collections.deque(maxlen=256)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def scans_came(self, loaded: float, before: Any | None) -> None:
        """A batch was taken for the next step.

        Args:
            loaded: when it was ready, by the clock of `time.monotonic`.
            before: an array that the step before gives, by which a late batch is told.
                None: there is none. Validation and saves end with the devices at rest:
                the step after says nothing.
        """
        # It lay ready, and is one of the queue, as each of these was taken.
        self._queue.add(sum(taken >= loaded for taken in self._taken))
        self._taken.append(time.monotonic())
        if before is not None:
            self._late.add(before.is_ready())

    def stepped(self, loss: np.ndarray) -> None:
        """A step is over, with these losses, one a pair."""
        self._bar.set_description(f"loss {loss.mean():.4f}", refresh=False)
        self._annotate()
        self._bar.update(len(loss))

    def validated(self, dsc: float) -> None:
        """A validation is over, with this mean DSC."""
        self._dsc = f"DSC {dsc:.3f}"
        self._annotate()

    def late_scans(self) -> str:
        """A sentence for the end of a run, with advice where loading was too slow.

        All processes must ask together; it is of the one that waited most, as the
        others then wait for it.
        """
        counts = np.array([self._late.sum, self._late.count, self._queue.mean])
        if jax.process_count() > 1:
            of_all = multihost_utils.process_allgather(counts)
            counts = of_all[of_all[:, 0].argmax()]
        late, steps, ready = counts.tolist()
        if not steps:
            return ""
        told = f"The devices waited for scans before {late:.0f} of {steps:.0f} steps"
        if self._workers:
            told += f", with {ready:.1f} batches ready on average"
        if late <= _MUCH * steps:
            return told + "."
        if self._workers and ready >= 1:
            return (
                f"{told}: it is handing them over that took longer than a step, which "
                "data.workers=0 does without."
            )
        told += "; a prepared data.cache makes loading faster, and "
        if self._workers:
            return (
                f"{told}another number than {self._workers} of data.workers may (0 if "
                "reading takes milliseconds)."
            )
        return f"{told}data.workers may, if reading takes longer than milliseconds."

    def _annotate(self) -> None:
        late = f"late scans {self._late.newest:.0%}" if self._late.count else ""
        ready = f"{self._queue.newest:.1f} batches ready" if self._workers else ""
        words = ", ".join(filter(None, (self._dsc, late, ready)))
        self._bar.set_postfix_str(words, refresh=False)


class _Counts:
    """A number for each step: those of all, and of the newest."""

    def __init__(self):
        self.sum = self.count = 0
        self._newest: collections.deque[int] = collections.deque(maxlen=_SHOWN)

    def add(self, number: int) -> None:
        self.sum += number
        self.count += 1
        self._newest.append(number)

    @property
    def mean(self) -> float:
        return self.sum / max(1, self.count)

    @property
    def newest(self) -> float:
        return sum(self._newest) / max(1, len(self._newest))
