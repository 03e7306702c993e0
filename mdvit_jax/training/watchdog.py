"""Says what a run waits for when it makes no progress: its input, a device, a save.

A stalled file system or a process that is gone from a collective otherwise shows as
silence. Nothing is ended: what is slow may still come.
"""

import logging
import socket
import threading
import time

import jax

_logger = logging.getLogger(__name__)


class Watchdog:
    """Warns once for each wait longer than `patience`; use it in a `with` block.

    The words of the warning name the host and the process, so that of many the one
    whose input stalls can be told from those that wait for it in a collective.
    """

    def __init__(self, patience: float):
        """Nothing is waited for yet.

        Args:
            patience: seconds.
        """
        self._patience = patience
        self._wait: tuple[float, str] | None = None  # since when, for what
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._where = (
            f"{socket.gethostname()}, process {jax.process_index()} of "
            f"{jax.process_count()}"
        )

    def __enter__(self) -> "Watchdog":
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        """End the watch."""
        self._ended.set()
        self._thread.join()

    def waits_for(self, what: str) -> None:
        """Say what comes next, such as "the scans of step 12"; what came is over."""
        self._wait = time.monotonic(), what

    def _watch(self) -> None:
        told = None
        while not self._ended.wait(min(self._patience / 4, 5.0)):
            wait = self._wait
            if wait is None or wait == told:
                continue
            since, what = wait
            if time.monotonic() - since > self._patience:
                _logger.error(
                    "%s has waited for %s for %.0f s; it goes on waiting.",
                    self._where,
                    what,
                    time.monotonic() - since,
                )
                told = wait
