"""A training run from its configuration: where it starts, its steps, what it leaves.

The run's folder (`config.workdir`) holds config.json, scans.json, metrics.jsonl,
curves.png, validation/ with a picture for each validation, and checkpoints/. Started
again with the same configuration, a run goes on after its newest checkpoint, on
whatever devices.

Of several processes each trains on its own pairs; all validate, and the first one
writes all but its share of the checkpoints.
"""

import contextlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import ml_collections
import numpy as np
import tqdm

from mdvit_jax import configuration, errors, models
from mdvit_jax.data import loading, pairs, pipeline, store, template
from mdvit_jax.evaluation import curves, evaluate, figures
from mdvit_jax.training import (
    checkpoint,
    input_wait,
    interrupt,
    left_out,
    log,
    optimizer,
    scans,
    sharding,
    start,
    step,
    validation,
    watchdog,
)

_SILENT = 100  # steps in a row without any gradient after which a network is given up


def train(config: ml_collections.ConfigDict) -> int:
    """Train as configured; return 0, or 130 / 143 when a signal ended the run early.

    Raises:
        UserError: a configuration or data that cannot be used, a loss that is no longer
            finite, a network that no longer learns, or a folder that cannot be written
            to; what was saved before stays. Before a scan that cannot be read ends the
            run, its state is saved.
    """
    workdir, leads = Path(config.workdir), jax.process_index() == 0
    start.check_same_run(config, workdir)

    # Data: the scans of both parts, and the fixed list of validation pairs.
    training, held_out = scans.open_parts(config, workdir)
    fixed_template = None
    if config.data.task == "template":
        fixed_template, _ = template.load(config.data)
    cases = pairs.cases(held_out.persons, config.data.task, config.seed)
    cases = cases[: config.validation.cases or None].tolist()
    pairs.check(training.persons, config.data.task)

    # Model, optimiser, and the step, compiled once.
    mesh = sharding.create_mesh(
        config.optim.batch,
        model=config.mesh.model,
        accumulate=config.optim.accumulate,
    )
    part, parts = sharding.rows_of_process(mesh)
    left_out.check(config, parts)
    network = models.create(config)
    shapes = start.parameter_shapes(config, network)
    descent, schedule = optimizer.create(config.optim, shapes)
    train_step = step.create_step(config, network, descent, mesh)
    validate = validation.create(config, network)

    with errors.unwritable_told(workdir), contextlib.ExitStack() as stack:
        saved = stack.enter_context(
            checkpoint.Checkpoints(workdir, keep=config.checkpoint.keep)
        )
        state, first = start.first_state(config, network, descent, mesh, saved)

        def due(done: int) -> bool:
            last = done == config.optim.steps
            return last or done % config.validation.every == 0

        # A signal may have ended the run between a step and its validation.
        behind = first > 0 and due(first) and not log.validated(workdir, first)
        if first >= config.optim.steps and not behind:
            if leads:
                print(
                    f"{workdir} has all its {config.optim.steps} steps; nothing to "
                    "train."
                )
            return 0
        if leads:
            configuration.save(config, workdir)
            scans.save(workdir, training, held_out)
        start.check_one_folder(workdir, first)
        record = None
        if leads:
            record = stack.enter_context(log.MetricsLog(workdir, from_step=first))
        batches = stack.enter_context(
            contextlib.closing(
                pipeline.batches(
                    training,
                    fixed_template,
                    persons=training.persons,
                    seed=config.seed,
                    task=config.data.task,
                    first_step=first,
                    steps=config.optim.steps,
                    batch=config.optim.batch,
                    process_index=part,
                    process_count=parts,
                    workers=config.data.workers,
                    skip_unreadable=config.data.skip_unreadable,
                )
            )
        )
        bar = stack.enter_context(_progress_bar(first, config.optim))
        stop = stack.enter_context(interrupt.Interrupt())
        watch = stack.enter_context(watchdog.Watchdog(config.stall_after))

        # The newest step whose loss was not yet read, which waits for the device, and
        # this process's pairs in it.
        pending: list[tuple[int, step.Measurements, np.ndarray]] = []
        wait, silent = input_wait.InputWait(), 0

        def settle() -> None:
            nonlocal silent
            while pending:
                done, measured, used = pending.pop()
                watch.waits_for(f"the devices at step {done}")
                _check_finite(done, measured, used, mesh, training, saved)
                silent = 0 if float(measured.gradient_norm) else silent + 1
                _check_learning(done, silent, saved)
                if record is not None:
                    _record(done, measured, record, schedule, bar)

        @contextlib.contextmanager
        def saving_first(advice: str = "") -> Iterator[None]:
            """Save the state before a scan that cannot be read ends the run."""
            try:
                yield
            except errors.UserError as error:
                told = f"{error}{advice}"
                # Of several processes the others do not come to this save.
                if done > 0 and jax.process_count() == 1:
                    settle()
                    if done != saved.latest:
                        saved.save(done, state, metrics=None)
                    told += f" Step {done} is saved; the same command goes on from it."
                raise errors.UserError(told) from error

        def training_batches() -> Iterator[loading.Batch]:
            skip = (
                " Bring the scan back; or --config.data.skip_unreadable=True goes on "
                "without it, with other pairs."
            )
            with saving_first("" if config.data.skip_unreadable else skip):
                yield from left_out.told(batches, training.subjects)

        def validate_and_save(done: int) -> bool:
            """Validate if it is due, and save; False: a signal came before that."""
            scores: dict[str, float] | None = None
            going_on = stop.received is None
            if going_on and due(done):
                watch.waits_for(f"the validation after step {done}")
                named = evaluate.pairs_of(cases, held_out, fixed_template)
                params = sharding.on_one_device(mesh, state.params)
                with saving_first():
                    found = validate(params, named, lambda: stop.received is not None)
                going_on = found is not None
                if found is not None:
                    scores, picture = found
                    if record is not None:
                        record.write(done, scores)
                        bar.set_postfix_str(f"DSC {scores['dsc']:.3f}", refresh=False)
                        name = f"{done:07d}.png"
                        figures.save(picture, workdir / "validation" / name)
                        drawn = curves.training_curves(record.path)
                        figures.save(drawn, workdir / "curves.png")
            watch.waits_for(f"the save of step {done}")
            saved.save(done, state, metrics=scores)
            watch.waits_for(f"the scans of step {done + 1}")
            return going_on

        done = first
        going_on = not behind or validate_and_save(first)
        for batch in training_batches() if going_on else ():
            wait.scans_came(pending[0][1].loss if pending else None)
            fixed, moving = (
                sharding.to_devices(mesh, batch[name]) for name in ("fixed", "moving")
            )
            state, measured = train_step(state, fixed, moving)
            settle()  # the step before, while the device is at this one
            done = batch["step"] + 1
            used = np.stack([batch["fixed_index"], batch["moving_index"]], axis=1)
            pending.append((done, measured, used))
            watch.waits_for(f"the scans of step {done + 1}")
            ends = stop.ends_at(done)
            if ends or due(done) or done % config.checkpoint.every == 0:
                settle()
                going_on = validate_and_save(done)
            if not going_on:  # not `stop.received`: that may be newer than the save
                break
    if leads and wait.steps:
        print(wait.summary(config.data.workers), file=sys.stderr)
    if going_on:
        return 0
    if leads:
        print(
            f"Saved step {done} in {workdir}; the same command goes on from there.",
            file=sys.stderr,
        )
    return stop.exit_code


def _progress_bar(first: int, optim: ml_collections.ConfigDict) -> tqdm.tqdm:
    """Pairs seen, pairs/s and time left; in a log file a line now and then."""
    terminal = sys.stderr.isatty()
    return tqdm.tqdm(
        initial=first * optim.batch,
        total=optim.steps * optim.batch,
        unit="pair",
        dynamic_ncols=True,
        mininterval=0.5 if terminal else 30,
        disable=jax.process_index() != 0,
    )


def _check_finite(done, measured, used, mesh, training, saved) -> None:
    """A loss that is not finite ends the run, in all processes alike."""
    bad, norm = ~np.isfinite(np.asarray(measured.loss)), float(measured.gradient_norm)
    if bad.any() or not math.isfinite(norm):
        used = sharding.on_one_device(mesh, sharding.to_devices(mesh, used))
        # A gradient that alone is not finite may come from any of the pairs.
        rows = np.asarray(used)[bad if bad.any() else slice(None)]
        names = [_pair_name(f, m, training) for f, m in rows[:3].tolist()]
        kept = f"step {saved.latest}" if saved.latest is not None else "none yet"
        raise errors.UserError(
            f"The loss or its gradient is not finite at step {done}, pair "
            f"{' and '.join(names)}; the newest checkpoint ({kept}) is intact. Look at "
            "these scans, or lower optim.lr."
        )


def _check_learning(done: int, silent: int, saved: checkpoint.Checkpoints) -> None:
    """Heads whose ReLU units are off for every pair have no gradient ever again."""
    if silent >= _SILENT:
        best = "" if saved.best is None else f" (the best so far is step {saved.best})"
        raise errors.UserError(
            f"The gradient was zero in all of the {silent} steps up to step {done}: "
            "the network's heads have fallen silent, and it will not learn any more"
            f"{best}. Train anew, in another workdir, with a lower optim.lr, another "
            "seed or less augmentation."
        )


def _record(done, measured, record, schedule, bar) -> None:
    """Write a step's row, and show it."""
    loss = np.asarray(measured.loss)
    record.write(
        done,
        {
            "loss": float(loss.mean()),
            "gradient_norm": float(measured.gradient_norm),
            "lr": float(schedule(done - 1)),
        },
    )
    bar.set_description(f"loss {loss.mean():.4f}", refresh=False)
    bar.update(len(loss))


def _pair_name(fixed: int, moving: int, training: store.Store) -> str:
    of_fixed = "the template" if fixed == pairs.TEMPLATE else training.subjects[fixed]
    return f"{training.subjects[moving]} to {of_fixed}"
