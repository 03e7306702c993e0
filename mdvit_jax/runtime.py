"""What a command sets up before it computes: log lines and the compilation cache."""

import logging
import os
import warnings
from pathlib import Path

import jax


def start() -> None:
    """Log to stderr, and keep compiled programs so that the next run starts at once.

    The cache lies in `$XDG_CACHE_HOME/mdvit_jax` (by default ~/.cache/mdvit_jax) and
    is the user's own; JAX_COMPILATION_CACHE_DIR names another folder. Where it cannot
    be written, commands work as well and compile each time.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("mdvit_jax").setLevel(logging.INFO)
    for library in ("absl", "orbax", "jax"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="orbax")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "mdvit_jax"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
