"""Worker processes that do not outlive the process they work for."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, even if that was killed."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
