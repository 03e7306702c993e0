"""Which process of a run this is, by the environment that launchers set."""

import os
import re
from collections.abc import Mapping
from typing import Any

from mdvit_jax import errors

_ADDRESS, _COUNT, _INDEX = NAMES = (
    "JAX_COORDINATOR_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
)


def find_place(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of `jax.distributed.initialize`; None for the only process.

    In this order: the three variables of `NAMES`, a step of several tasks that Slurm's
    srun started, a Cloud TPU machine, GKE's too. JAX finds out the rest.

    Raises:
        UserError: variables that are missing, or contradict one another.
    """
    # In a batch script, before srun, Slurm counts tasks that it has not started.
    in_step = "SLURM_STEP_NODELIST" in environ and "SLURM_PROCID" in environ
    tasks = _number(environ, "SLURM_NTASKS") if in_step else 1
    if any(environ.get(name) for name in NAMES):
        return _find_named_place(environ, tasks)
    if tasks > 1:
        index = _number(environ, "SLURM_PROCID")
        return _place("slurm", num_processes=tasks, process_id=index)
    # JAX, imported, sets the first where there are TPUs, and the last where there are
    # none; so does somebody who wants one machine of many by itself.
    workers = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
    if "TPU_ML_PLATFORM" in environ and (
        any(environ.get(name) for name in workers)
        or "TPU_SKIP_MDS_QUERY" not in environ
    ):
        return _place(None)
    return None


def _place(method: str | None, **known: Any) -> dict[str, Any]:
    return {"cluster_detection_method": method, **known}


def _find_named_place(environ: Mapping[str, str], tasks: int) -> dict[str, Any] | None:
    if missing := [name for name in NAMES if not environ.get(name)]:
        present = [name for name in NAMES if name not in missing]
        raise errors.UserError(
            f"The environment has {' and '.join(present)} but not "
            f"{' and '.join(missing)}; set all three, or none for one process."
        )
    address, count = environ[_ADDRESS], _number(environ, _COUNT)
    index = _number(environ, _INDEX)
    for wrong, sentence in (
        (
            index >= count,
            f"{_INDEX} is {index} and {_COUNT} is {count}; processes are numbered from "
            f"0 to {_COUNT} - 1.",
        ),
        (
            tasks not in (1, count),
            f"{_COUNT} is {count}, but srun started {tasks} tasks; set it to {tasks}, "
            f"or unset {', '.join(NAMES)}, as Slurm says it all.",
        ),
        (
            not re.fullmatch(r".+:\d+", address),
            f"{_ADDRESS} is {address!r}; it is HOST:PORT of process 0.",
        ),
    ):
        if wrong:
            raise errors.UserError(sentence)
    if count == 1:
        return None
    return _place(
        "deactivate",
        coordinator_address=address,
        num_processes=count,
        process_id=index,
    )


def _number(environ: Mapping[str, str], name: str) -> Any:
    text = environ.get(name, "")
    if not text.isdecimal():
        raise errors.UserError(f"{name} is {text!r}; it is a whole number.")
    return int(text)


def require_one_process(program: str) -> None:
    """Raise a UserError if this process is one of several."""
    place = find_place(os.environ)
    if place is not None and "num_processes" in place:
        raise errors.UserError(
            f"{program} computes in one process, but {place['num_processes']} were "
            "started; start one (with Slurm: srun --ntasks=1)."
        )
