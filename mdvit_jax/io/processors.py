"""How many processors this process may use."""

import os


def count() -> int:
    """Those it is bound to, as by a cluster's scheduler; else all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
