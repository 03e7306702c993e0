"""The stream of training batches: pairs of scans loaded ahead by Grain's workers.

Every batch is a function of its global step alone (`loading`). Resuming is starting
at another step, and neither the number of workers nor that of processes changes what
a step sees; no iterator state needs to be saved.
"""

import atexit
import gc
import logging
import os
import shutil
import signal
import sys
import weakref
from collections.abc import Generator, Sequence
from multiprocessing import resource_tracker

import grain
import numpy as np
from absl import flags

from mdvit_jax.data import child_process, conform, loading
from mdvit_jax.data.scan import LoadingError

# Batches in each of the two queues between a worker and the caller. The shortest is
# enough to keep the device fed, and a batch at 128³ is 17 MB a pair.
_AHEAD = 1
# Batches of one worker that may be in shared memory: what it is at, those in the
# queues, and one on its way from the first to the second.
_HELD = 2 + 2 * _AHEAD
_SMALL = 4096  # bytes; smaller arrays travel faster with the message itself
_SHARED_MEMORY = "/dev/shm"  # where Linux keeps it; other systems have no such limit


def batches(
    scans: loading.Scans,
    template: conform.Conformed | None,
    *,
    persons: Sequence[str],
    seed: int,
    task: str,
    first_step: int,
    steps: int,
    batch: int,
    process_index: int = 0,
    process_count: int = 1,
    workers: int,
    skip_unreadable: bool = False,
) -> Generator[loading.Batch, None, None]:
    """Yield the batches of the steps first_step … steps - 1, in order.

    The workers start with the first batch and end when the stream is exhausted,
    closed (`close()`, or `contextlib.closing` around it) or has raised.

    Args:
        scans: for `task` "reference" of two people at least (`pairs.check`).
        template: the fixed scan of the task "template"; else None.
        persons: the person that each of the scans shows (`pairs.draw`).
        seed, task: as in `pairs.draw`.
        first_step: global step of the first batch; when resuming, the number of
            steps already done.
        steps: number of steps of the whole run.
        batch: pairs in one step over all processes, a multiple of `process_count`.
        process_index: which process this is; it gets the rows
            index · batch/count … (index + 1) · batch/count - 1.
        process_count: how many processes share the global batch.
        workers: number of worker processes that load ahead; 0 loads in this one.
        skip_unreadable: draw a pair anew (`pairs.draw_again`) while reading raises a
            UserError for one of its scans. The batch names these scans.

    Raises:
        LoadingError: while iterating, the scans raised a UserError for a scan,
            whichever process it was read in. With `skip_unreadable`: too many cannot
            be read.
    """
    rows = batch // process_count
    load = loading.Load(
        scans=scans,
        template=None if template is None else template.image,
        persons=tuple(persons),
        seed=seed,
        task=task,
        batch=batch,
        rows=slice(process_index * rows, (process_index + 1) * rows),
        skip_unreadable=skip_unreadable,
        shared=False,
    )
    stream = _stream(load, range(first_step, steps), workers)
    # A stream that nobody closed must end its workers while Python is still whole.
    atexit.register(_close, weakref.ref(stream))
    return stream


def _stream(
    load: loading.Load, steps: range, workers: int
) -> Generator[loading.Batch, None, None]:
    if workers and steps:
        workers = min(_workers_with_room(load, steps.start, workers), len(steps))
        _start_tracker()
        if not flags.FLAGS.is_parsed():  # in a notebook or a test; Grain insists
            flags.FLAGS.mark_as_parsed()
    dataset = (
        grain.MapDataset.range(steps.start, steps.stop)
        .map(load._replace(shared=workers > 0))
        # No threads within a process: Grain's default would hold 500 batches.
        .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    )
    dataset = grain.experimental.WithOptionsIterDataset(
        dataset, grain.experimental.DatasetOptions(min_shm_size=_SMALL)
    ).mp_prefetch(
        grain.MultiprocessingOptions(
            num_workers=workers, per_worker_buffer_size=_AHEAD
        ),
        worker_init_fn=_start_worker,
    )
    iterator = iter(dataset)
    refusal = None
    try:
        # `map` and not a loop's body: between batches no name holds shared memory.
        yield from map(_own, iterator) if workers else iterator
    except LoadingError as error:
        refusal = str(error)
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):  # Grain's word for a lost one
            raise
        refusal = (
            "A process that loads scans was killed from outside, most likely as the "
            "machine ran out of memory; fewer data.workers need less."
        )
    finally:
        iterator.close()
        # Grain's objects refer to each other, and to the last batch of each worker:
        # collected late, its shared memory is called leaked when the program ends.
        del iterator, dataset
        gc.collect()
    if refusal is not None:
        # Raised anew: the old one's traceback is a wall of Grain's frames, and they
        # keep batches in shared memory.
        raise LoadingError(refusal)


def _close(stream: weakref.ref[Generator]) -> None:
    alive = stream()
    if alive is not None:
        alive.close()


def _own(batch: loading.Batch) -> loading.Batch:
    """Copy the volumes out of shared memory, which is freed at once.

    A batch that outlived the workers, say in a traceback or a device buffer that
    borrows it, would leave its segment behind when the program ends.
    """
    fixed, moving = np.array(batch["fixed"]), np.array(batch["moving"])
    return {**batch, "fixed": fixed, "moving": moving}


def _start_tracker() -> None:
    """Start Python's tracker of shared memory so that a closed terminal cannot end it.

    It would leave memory behind, and the run could fail while it frees its own.
    """
    if hasattr(signal, "SIGHUP"):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        resource_tracker.ensure_running()  # it inherits what is blocked
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(worker: int, count: int) -> None:
    """Runs first in each worker process; leaves ending it to the parent.

    Ctrl-C and a batch system's SIGTERM reach the workers too, while the parent may
    still want batches until it has saved; and a parent that was killed ends nobody.
    """
    del worker, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):  # a closed terminal's
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    child_process.end_with_parent()
    # Grain itself imports JAX. That starts no backend, and never shall: an accelerator
    # belongs to the parent.
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")


def _workers_with_room(load: loading.Load, first: int, workers: int) -> int:
    """How many workers the shared memory has room for; says so when it is fewer.

    Containers often have 64 MB of it, and a worker that finds it full dies of a bus
    error that explains nothing.
    """
    if not os.path.isdir(_SHARED_MEMORY):
        return workers
    one = load._replace(rows=slice(0, 1))(first)
    pair = one["fixed"].nbytes + one["moving"].nbytes
    rows = load.rows.stop - load.rows.start
    # Two more may be with the caller.
    room = shutil.disk_usage(_SHARED_MEMORY).free // (rows * pair) - 2
    fitting = max(0, min(workers, room // _HELD))
    if fitting < workers:
        logging.getLogger(__name__).warning(
            "%s has room for the batches of %d of the %d workers of data.workers; give "
            "the container more shared memory (docker run --shm-size=2g).",
            _SHARED_MEMORY,
            fitting,
            workers,
        )
    return fitting
