"""Ctrl-C, SIGTERM, a terminal that is closed: finish the step, save, then leave."""

import contextlib
import os
import signal
import sys

import jax
from jax.experimental import multihost_utils

_HANGUP = int(getattr(signal, "SIGHUP", 0))  # 0: Windows has none


class Preemption(contextlib.AbstractContextManager):
    """Remembers the first signal; a second Ctrl-C ends the program at once.

    Of several processes a signal to any one is a signal to all: JAX, which takes
    SIGTERM then, lets them agree on when to stop. A SIGHUP that is ignored, as under
    nohup, stays ignored.
    """

    def __init__(self):
        self._received: int | None = None
        self._several = jax.process_count() > 1
        self._interrupted = False
        self._asked = 0
        self._replaced: dict = {}  # signal → the handler that it had

    def __enter__(self) -> "Preemption":
        numbers: list[int] = [signal.SIGINT]
        if not self._several:
            numbers.append(signal.SIGTERM)
        if _HANGUP and signal.getsignal(_HANGUP) != signal.SIG_IGN:
            numbers.append(_HANGUP)
        for number in numbers:
            self._replaced[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)

    def should_stop(self) -> bool:
        """Whether the run should stop now.

        All processes must call it equally often, as they agree on a number of calls.
        """
        self._asked += 1
        if self._several and multihost_utils.reached_preemption_sync_point(self._asked):
            self._received = signal.SIGTERM
        return self._received is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it: 129, 130 and 143."""
        return 128 + self._received if self._received is not None else 0

    def _receive(self, number: int, frame) -> None:
        del frame
        if self._interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._interrupted = True
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._received is None:
            self._received = number
        print(
            f"\n{signal.Signals(number).name}: saving after this step "
            "(Ctrl-C leaves at once).",
            file=sys.stderr,
        )
