"""Where pairs are registered: in this process, in several, or on a Dask cluster.

Every way runs `pair_task.register_pair` and yields the outcomes as they come. Dask's
`distributed` hands out the pairs, restarts processes that died and tries their pairs
again; Slurm, PBS, SGE, Kubernetes and clouds are behind its schedulers. One process
needs no scheduler, so that `mdvit batch` works where `distributed` is not installed.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import sys
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING

import mdvit_jax
from mdvit_jax import errors
from mdvit_jax.cli.batch import pair_task, results_csv
from mdvit_jax.cli.batch.pair_task import Outcome, PairTask

if TYPE_CHECKING:  # an extra, and slow to import
    import distributed

RETRIES = 2  # of a pair whose process died
_SECONDS = 30  # for a scheduler to answer


def register_all(
    tasks: Iterable[PairTask], *, jobs: int = 1, scheduler: str | None = None
) -> Generator[tuple[PairTask, Outcome], None, None]:
    """Register pairs and yield each with its outcome, in any order.

    Args:
        tasks: taken one by one, as processes become free.
        jobs: processes on this machine, of which each gets its share of the cores.
        scheduler: address of a Dask scheduler, or its JSON file, instead of them.

    Raises:
        UserError: `distributed` is not installed, or the scheduler cannot be reached,
            is lost, or has workers with another version of this package.
    """
    if jobs == 1 and scheduler is None:
        for task in tasks:
            yield task, pair_task.register_pair(task)
        return
    connect = _connect(scheduler) if scheduler else _start_processes(jobs)
    with connect as client:
        yield from _register_on(client, tasks)


def _register_on(
    client: distributed.Client, tasks: Iterable[PairTask]
) -> Generator[tuple[PairTask, Outcome], None, None]:
    """Keep a pair for each thread of the workers in flight, whatever their number.

    More would wait on a worker behind another pair, and be blamed with it if it dies.
    """
    from distributed import as_completed

    waiting = iter(tasks)
    running: dict[str, tuple[PairTask, distributed.Future, float]] = {}
    completed = as_completed()
    batch = uuid.uuid4().hex  # schedulers know results by their names
    numbers = itertools.count()
    try:
        while True:
            free = max(sum(client.nthreads().values()), 1) - len(running)
            for task in itertools.islice(waiting, max(free, 0)):
                key = f"register_pair-{batch}-{next(numbers)}"
                running[key] = task, _submit(client, task, key), time.monotonic()
                completed.add(running[key][1])
            if not running:
                return
            yield _await_outcome(completed, running)
    finally:  # also when it was interrupted; OSError is a scheduler that is gone
        with contextlib.suppress(OSError):
            client.cancel([future for _, future, _ in running.values()], force=True)


def _submit(client: distributed.Client, task: PairTask, key: str):
    return client.submit(_register_in_worker, task, key=key, pure=False)


def _await_outcome(completed, running) -> tuple[PairTask, Outcome]:
    """The next pair that is done, and what became of it.

    No future of it may stay in a variable: its result would stay with the worker, and
    be computed again where that dies.
    """
    future = next(completed)
    task, _, begin = running.pop(future.key)
    return task, _outcome(task, future, time.monotonic() - begin)


def _outcome(task: PairTask, future: distributed.Future, seconds: float) -> Outcome:
    from distributed import KilledWorker

    if future.status == "finished":
        return future.result()
    if future.status != "error":
        raise errors.UserError(
            "the scheduler was lost; start it, and run the same command again to go on."
        )
    error = future.exception()
    if isinstance(error, KilledWorker):
        sentence = (
            f"each of the {error.allowed_failures + 1} processes that registered it "
            "died, for want of memory perhaps; --retry-errors tries it again."
        )
    else:
        words = " ".join(str(error).split())
        sentence = f"the worker could not run it: {type(error).__name__}: {words}"
    pair_task.remove_outputs(task.outputs)
    inputs = results_csv.fingerprint(task.row, task.options._asdict())
    return Outcome(results_csv.describe_error(task.row, sentence, inputs, seconds))


def _register_in_worker(task: PairTask) -> Outcome:
    _start_once()
    return pair_task.register_pair(task)


@functools.cache
def _start_once() -> None:
    from mdvit_jax.cli import startup

    startup.start()


@contextlib.contextmanager
def _start_processes(jobs: int) -> Iterator[distributed.Client]:
    """Processes of this machine, which end with the block."""
    _import_distributed()
    import dask
    from distributed import Client, LocalCluster

    threads = max(dask.system.CPU_COUNT // jobs, 1)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": RETRIES}),
        LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            # The threads of XLA's pool; OpenMP and BLAS have one in Dask's workers.
            env={"NPROC": str(threads)},
            # A terminal sends Ctrl-C to all processes, and this one ends the others.
            preload="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
        ) as cluster,
        Client(cluster) as client,
    ):
        _print_dashboard(client)
        yield client


@contextlib.contextmanager
def _connect(scheduler: str) -> Iterator[distributed.Client]:
    """A cluster that somebody started, which goes on after the block."""
    _import_distributed()
    from distributed import Client

    is_file = os.path.isfile(scheduler)
    where = {"scheduler_file": scheduler} if is_file else {"address": scheduler}
    try:
        client = Client(**where, timeout=_SECONDS)
    except (OSError, ValueError) as error:
        words = " ".join(str(error).split())
        raise errors.UserError(
            f"the scheduler {scheduler} cannot be reached ({words}); give its address, "
            "such as tcp://login1:8786, or the JSON file that it wrote."
        ) from error
    with client:
        _print_dashboard(client)
        client.wait_for_workers(1)
        _check_workers(client, scheduler)
        yield client


def _check_workers(client: distributed.Client, scheduler: str) -> None:
    """Raise a UserError if a worker could not run the tasks of this program."""
    try:
        versions = client.run(_worker_version)
    except Exception as error:  # that of the worker
        raise errors.UserError(
            f"the workers of {scheduler} cannot import mdvit_jax ({error}); install "
            f"mdvit_jax {mdvit_jax.__version__} for them."
        ) from error
    for worker, version in versions.items():
        if version != mdvit_jax.__version__:
            raise errors.UserError(
                f"the worker {worker} has mdvit_jax {version}, and this is "
                f"{mdvit_jax.__version__}; install the same for all."
            )


def _worker_version() -> str:
    return mdvit_jax.__version__


def _print_dashboard(client: distributed.Client) -> None:
    if client.dashboard_link:
        print(f"Dashboard: {client.dashboard_link}", file=sys.stderr)


def _import_distributed() -> None:
    """Import it, whose log would say of each process what it begins and ends."""
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise errors.UserError(
            "--jobs and --scheduler need the package distributed; install it with "
            "pip install 'mdvit-jax[cluster]'."
        ) from error
    logging.getLogger("distributed").setLevel(logging.WARNING)
