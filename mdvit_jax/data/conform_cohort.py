"""Conform a whole cohort once, into the cache that training reads.

Entries that are up to date stay, so that a run that was interrupted at any moment is
resumed by running it again. One run at a time may write into a cache.
"""

import logging
import multiprocessing
import signal
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from logging import handlers
from pathlib import Path
from typing import NamedTuple

import ml_collections
import tqdm

from mdvit_jax import errors
from mdvit_jax.data import cache, child_process, cohort, dataset
from mdvit_jax.data.scan import Scan
from mdvit_jax.io import processors

_log = logging.getLogger(__name__)


class _Outcome(NamedTuple):
    """The outcome of one scan, from a worker process."""

    bad: str | None  # why it cannot be used
    warnings: list[str]


def conform_cohort(config: ml_collections.ConfigDict) -> int:
    """Fill the cache `config.data.cache`, and return how many scans are bad.

    All scans of the cohort are conformed, whatever part they belong to, by one process
    for each processor. A scan that cannot be read is named in the log, skipped, listed
    in the cache's bad.json, and tried again by the next run.

    Raises:
        UserError: the cohort is missing or wrong, or the cache cannot be written.
    """
    if not config.data.cache:
        raise errors.UserError(
            "data.cache is empty; name the folder that the conformed scans go to."
        )
    scans = cohort.read(config)
    cohort.split(scans, config)  # a mistake there is reported before the work
    folder = Path(config.data.cache).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        cache.remove_unfinished(config)
        bad = _conform_all([s for s in scans if not _is_there(s, config)], config)
    except OSError as error:
        raise errors.UserError(
            f"The cache {folder} cannot be written ({error.strerror}); free or choose "
            "another place, and run this again to go on."
        ) from error
    except BrokenProcessPool as error:
        raise errors.UserError(
            "A process that conforms scans was killed from outside, most likely as the "
            "machine ran out of memory; run this again to go on."
        ) from error
    if bad:
        _log.warning(
            "%d of %d scans are bad and were skipped; %s lists them.",
            bad,
            len(scans),
            folder / "bad.json",
        )
    return bad


def _conform_all(scans: list[Scan], config: ml_collections.ConfigDict) -> int:
    """Conform scans in worker processes; how many of them were bad."""
    bad: dict = {}
    cache.write_bad(bad, config)
    if not scans:
        return 0
    workers = min(len(scans), processors.count())
    with futures.ProcessPoolExecutor(
        workers,
        # A fork would take over whatever threads and locks the caller has.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    ) as pool:
        running = {pool.submit(_conform_one, scan, config): scan for scan in scans}
        finished = futures.as_completed(running)
        try:
            for future in tqdm.tqdm(
                finished, "conforming", len(scans), unit="scan", dynamic_ncols=True
            ):
                scan, outcome = running[future], future.result()
                messages = outcome.warnings
                if outcome.bad is not None:
                    messages = [*messages, f"Skipped {scan.subject}: {outcome.bad}"]
                for message in messages:
                    with tqdm.tqdm.external_write_mode():
                        _log.warning("%s", message)
                if outcome.bad is not None:
                    tried = cache.recipe(scan, config)
                    bad[scan.subject] = {"why": outcome.bad, "recipe": tried}
                    cache.write_bad(bad, config)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # those under way are finished
            raise
    return len(bad)


def _conform_one(scan: Scan, config: ml_collections.ConfigDict) -> _Outcome:
    """Runs in a worker process; its log is handed to the parent, which has the bar."""
    log = logging.getLogger("mdvit_jax")
    collected = handlers.BufferingHandler(1 << 30)
    log.addHandler(collected)
    log.propagate = False
    bad = None
    try:
        conformed = dataset.conform_scan(scan, config)
    except errors.UserError as error:
        bad = str(error)
    except Exception as error:  # one odd file must not end a cohort
        bad = f"{scan.image} cannot be used ({type(error).__name__}: {error})."
    else:
        cache.write(scan, conformed, config)
    finally:
        log.removeHandler(collected)
    return _Outcome(bad, [record.getMessage() for record in collected.buffer])


def _is_there(scan: Scan, config: ml_collections.ConfigDict) -> bool:
    if cache.stale_reason(scan, config) is not None:
        return False
    try:
        cache.read(scan, config)
    except errors.UserError:
        return False
    return True


def _start_worker() -> None:
    """Runs first in a worker; ending it is left to the parent, also to a killed one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child_process.end_with_parent()
