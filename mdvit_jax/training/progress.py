"""The progress of a run: pairs/s, time left, loss, DSC, and scans that came late.

If a run stalls, it writes where every thread stands.
"""

import collections
import contextlib
import faulthandler
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import tqdm
from etils import epath
from jax.experimental import multihost_utils

from mdvit_jax.io import bucket

_MUCH = 0.1  # share of late steps from which the run gives advice
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
        self._late = _Counts()  # only steps before which the devices were at work
        self._queue = _Counts()
        # When the last batches were taken: more than workers can be ahead of a step.
        self._taken: collections.deque[float] = collections.deque(maxlen=256)

    def close(self) -> None:
        """End the bar; it stays on the screen."""
        self._bar.close()

    def batch_arrived(self, loaded: float, before: Any | None) -> None:
        """A batch was taken for the next step.

        Args:
            loaded: when it was ready, by the clock of `time.monotonic`.
            before: an array that the step before gives: if it is ready, this batch is
                late. None: the devices were at rest, after a validation or a save,
                and the batch is not counted.
        """
        # It lay ready, and is one of the queue, as each of these was taken.
        self._queue.add(sum(taken >= loaded for taken in self._taken))
        self._taken.append(time.monotonic())
        if before is not None:
            self._late.add(before.is_ready())

    def show_step(self, loss: np.ndarray) -> None:
        """A step is over, with these losses [pairs]."""
        self._bar.set_description(f"loss {loss.mean():.4f}", refresh=False)
        self._annotate()
        self._bar.update(len(loss))

    def show_validation(self, dsc: float) -> None:
        """A validation is over, with this mean DSC."""
        self._dsc = f"DSC {dsc:.3f}"
        self._annotate()

    def summarise_loading(self) -> str:
        """A sentence for the end of a run, with advice where loading was too slow.

        All processes must call it together; it is about the one that waited most, as
        the others then wait for it.
        """
        counts = np.array([self._late.sum, self._late.count, self._queue.mean])
        if jax.process_count() > 1:
            all_counts = multihost_utils.process_allgather(counts)
            counts = all_counts[all_counts[:, 0].argmax()]
        late, steps, ready = counts.tolist()
        if not steps:
            return ""
        text = f"The devices waited for scans before {late:.0f} of {steps:.0f} steps"
        if self._workers:
            text += f", with {ready:.1f} batches ready on average"
        if late <= _MUCH * steps:
            return text + "."
        if self._workers and ready >= 1:
            return (
                f"{text}: it is handing them over that took longer than a step, which "
                "data.workers=0 does without."
            )
        text += "; a prepared data.cache makes loading faster, and "
        if self._workers:
            return (
                f"{text}another number than {self._workers} of data.workers may (0 if "
                "reading takes milliseconds)."
            )
        return f"{text}data.workers may, if reading takes longer than milliseconds."

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


@contextlib.contextmanager
def dump_when_stalled(
    workdir: epath.Path, seconds: float
) -> Iterator[Callable[[], None]]:
    """Write where every thread stands, each time that there is no progress for long.

    It goes into `WORKDIR/stalled-HOST-PROCESS.txt`, or to stderr where that is a
    bucket. Nothing is ended: what is slow may still come.

    Args:
        workdir: the run's folder.
        seconds: how long.

    Yields:
        A function to call whenever there is progress.
    """
    progressed, ended = threading.Event(), threading.Event()
    name = f"stalled-{socket.gethostname()}-{jax.process_index()}.txt"
    if bucket.in_bucket(workdir):
        opened: Any = contextlib.nullcontext(sys.__stderr__)
    else:
        opened = (Path(workdir) / name).open("a", encoding="utf-8")
    with opened as file:

        def watch() -> None:
            while not ended.is_set():
                if not progressed.wait(seconds):
                    # Not `dump_traceback_later`: it does not hold the interpreter's
                    # lock, and ends a program whose other threads go on by SIGSEGV.
                    faulthandler.dump_traceback(file, all_threads=True)
                progressed.clear()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield progressed.set
        finally:
            ended.set()
            progressed.set()
            thread.join()
    path = Path(workdir) / name
    if path.exists() and not path.stat().st_size:
        path.unlink()
