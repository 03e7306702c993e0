"""Ctrl-C, SIGTERM, a terminal that is gone: finish the step, save, then leave."""

import os
import signal
import sys

import jax
from jax.experimental import multihost_utils

from mdvit_jax import streams

_HANGUP = int(getattr(signal, "SIGHUP", 0))  # 0: Windows has none


class Interrupt:
    """Remembers the first signal; a second Ctrl-C ends the program at once.

    Use it in a `with` block around the training loop and its saves, and ask `ends`
    between steps. Of several processes a signal to any one is a signal to all: JAX,
    which takes SIGTERM then, lets them agree on when to stop.

    SIGHUP comes when a terminal is closed, and where nobody reads what the run says any
    more that is taken for one. Where it is ignored, as under nohup, it stays so.
    """

    def __init__(self):
        """Nothing has been received yet."""
        self.received: signal.Signals | None = None
        self._shared = jax.process_count() > 1
        self._interrupted = False
        self._asked = 0
        self._before: dict = {}

    def __enter__(self) -> "Interrupt":
        """Take over SIGINT, SIGTERM and SIGHUP."""
        numbers: list[int] = [signal.SIGINT]
        if not self._shared:
            numbers.append(signal.SIGTERM)
        if _HANGUP and signal.getsignal(_HANGUP) != signal.SIG_IGN:
            numbers.append(_HANGUP)
        for number in numbers:
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ends(self) -> bool:
        """Whether the run is to be left now.

        To be asked after each step and between the pairs of a validation, and by all
        processes equally often: they agree on a number of questions.
        """
        self._asked += 1
        heeded = _HANGUP in self._before and not self._interrupted
        if heeded and streams.reader_gone():
            self._receive(_HANGUP, None)
        if self._shared and multihost_utils.reached_preemption_sync_point(self._asked):
            self.received = signal.SIGTERM
        return self.received is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it: 129, 130 and 143."""
        return 128 + self.received if self.received is not None else 0

    def _receive(self, number: int, frame) -> None:
        del frame
        if self._interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._interrupted = True
        if self._shared:
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.received is None:
            self.received = signal.Signals(number)
        print(
            f"\n{signal.Signals(number).name}: saving after this step "
            "(Ctrl-C leaves at once).",
            file=sys.stderr,
        )
