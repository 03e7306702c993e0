"""What a command sets up before it computes: log lines, memory, compiled programs."""

import ctypes
import logging
import os
import platform
import warnings
from pathlib import Path

import jax

_M_ARENA_MAX = -8  # of the GNU C library's malloc.h


def start() -> None:
    """Log to stderr, and keep compiled programs so that the next run starts at once.

    The cache lies in `$XDG_CACHE_HOME/mdvit_jax` (by default ~/.cache/mdvit_jax) and
    is the user's own; JAX_COMPILATION_CACHE_DIR names another folder. Where it cannot
    be written, commands work as well and compile each time. To be called before JAX
    computes anything.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("mdvit_jax").setLevel(logging.INFO)
    for library in ("absl", "orbax", "jax"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="orbax")
    _share_freed_memory()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "mdvit_jax"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _share_freed_memory() -> None:
    """Let threads use what others have freed, as far as that does not slow them.

    By itself the GNU C library gives the threads of JAX and Orbax eight arenas a core,
    and each keeps the most that its threads ever freed: a run that saves often grows
    for hours. With one a core it hardly grows; with one in all a step on two cores took
    6 % longer (docs/performance.md). The user's MALLOC_ARENA_MAX goes before.
    """
    if platform.libc_ver()[0] == "glibc" and "MALLOC_ARENA_MAX" not in os.environ:
        cores = len(os.sched_getaffinity(0))
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, cores)
