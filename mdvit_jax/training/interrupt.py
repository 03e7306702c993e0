"""Ctrl-C and a batch system's SIGTERM: finish the step, save, then leave."""

import signal
import sys


class Interrupt:
    """Remembers the first signal; a second Ctrl-C ends the program at once.

    Use it in a `with` block around the training loop, and look at `received`
    between steps.
    """

    def __init__(self):
        """Nothing has been received yet."""
        self.received: signal.Signals | None = None
        self._before: dict = {}

    def __enter__(self) -> "Interrupt":
        """Take over SIGINT and SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it: 130 and 143."""
        return 128 + self.received if self.received is not None else 0

    def _receive(self, number: int, frame) -> None:
        del frame
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        print(
            f"\n{self.received.name}: saving after this step (Ctrl-C leaves at once).",
            file=sys.stderr,
        )
