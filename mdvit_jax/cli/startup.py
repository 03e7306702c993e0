"""The start of a command: log lines, and the folder of compiled programs."""

import atexit
import contextlib
import logging
import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import jax

from mdvit_jax.io import processors

_log = logging.getLogger(__name__)


def start() -> None:
    """Log to stderr, and keep compiled programs for the next run.

    The cache lies in `$XDG_CACHE_HOME/mdvit_jax` (by default ~/.cache/mdvit_jax) and
    is the user's own; JAX_COMPILATION_CACHE_DIR names another folder. In it each number
    of threads has a folder. Where it cannot be written, commands work as well and
    compile each time. To be called before JAX computes anything.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("mdvit_jax").setLevel(logging.INFO)
    for library in ("absl", "orbax", "jax"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="orbax")
    home = _find_home()
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        cache = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
        folder = str(Path(cache) / "mdvit_jax")
        try:
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            _log.warning("%s", _not_kept(folder, error.strerror))
            return
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    folder = folder_of_programs(folder)
    jax.config.update("jax_compilation_cache_dir", folder)
    _replace_damaged_programs(Path(folder))


def folder_of_programs(cache: str) -> str:
    """The folder of a cache, or the address of a bucket, for as many threads as now.

    A program that XLA compiled for one thread, as in one of several processes of a
    batch, uses no more of them wherever it is loaded, and JAX does not tell them apart.

    Args:
        cache: "" where no programs are kept.
    """
    threads = os.environ.get("NPROC", "").strip()  # which XLA reads before it counts
    if not threads.isdecimal():
        threads = str(processors.count())
    return cache and f"{cache}/{threads}_threads"


def _find_home() -> Path:
    """The user's home; a temporary one if the user id has none.

    Matplotlib cannot be imported without a home.
    """
    try:
        return Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.mkdtemp(prefix="mdvit_home_")
        atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)
        return Path.home()


def _replace_damaged_programs(folder: Path) -> None:
    """Remove unreadable programs from JAX's cache, and warn once instead of each time.

    JAX warns of each, compiles it, and would keep the damaged file (after a crash it
    may be empty).
    """
    show = warnings.showwarning
    reported = set()

    def show_warning(message, category, *where, **stream):
        match = re.match(
            r"Error (reading|writing) persistent .* entry for '(.+?)': (.*)",
            str(message),
            re.DOTALL,
        )
        if match is None:
            show(message, category, *where, **stream)
            return
        action, program, reason = match.groups()
        if action == "reading" and os.path.isdir(folder):
            sentence = f"A damaged program in {folder} is compiled again."
            for entry in folder.glob(f"{program}-*"):
                with contextlib.suppress(OSError):  # gone already, or not ours
                    entry.unlink()
        else:
            sentence = _not_kept(folder, reason.partition(": '")[0])
        if sentence not in reported:
            reported.add(sentence)
            _log.warning("%s", sentence)

    warnings.showwarning = show_warning


def _not_kept(folder: str | Path, reason: str | None) -> str:
    return (
        f"Compiled programs cannot be kept in {folder} ({reason}); each run compiles."
    )
