"""A training run from its configuration: where it starts, its steps, what it leaves.

The run's folder (`config.workdir`) holds config.json, scans.json, metrics.jsonl,
curves.png, validation/ with a picture for each validation, checkpoints/, and .lock,
which keeps a second run out. Started again with the same configuration, a run goes on
after its newest checkpoint, on whatever devices.

Of several processes each trains on its own pairs; all validate, and the first one
writes all but its share of the checkpoints.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from mdvit_jax import configuration, errors, models
from mdvit_jax.data import loading, pairs, pipeline, store, template
from mdvit_jax.evaluation import curves, evaluate, figures
from mdvit_jax.training import (
    checkpoint,
    interrupt,
    left_out,
    log,
    one_folder,
    optimizer,
    progress,
    readings,
    scans,
    sharding,
    start,
    step,
    validation,
    watchdog,
)


def train(config: ml_collections.ConfigDict) -> int:
    """Train as configured; return 0, or 129 / 130 / 143 if a signal ended it early.

    Raises:
        UserError: a configuration or data that cannot be used, a loss that is no longer
            finite, a network that no longer learns, or a folder that cannot be written
            to; what was saved before stays. Before a scan that cannot be read ends the
            run, its state is saved.
    """
    workdir, leads = Path(config.workdir), jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        # Left last: a save is watched, and no second signal cuts it short.
        stop = stack.enter_context(interrupt.Interrupt())
        watch = stack.enter_context(watchdog.Watchdog(config.stall_after))
        watch.waits_for("the list of scans")
        start.check_same_run(config, workdir)

        # Data: the scans of both parts, and the fixed list of validation pairs.
        training, held_out = scans.open_parts(config, workdir)
        fixed_template = None
        if config.data.task == "template":
            fixed_template, _ = template.load(config.data)
        cases = pairs.cases(held_out.persons, config.data.task, config.seed)
        cases = cases[: config.validation.cases or None].tolist()
        pairs.check(training.persons, config.data.task)
        watch.waits_for("the other processes")
        start.check_processes_agree(config, (training, held_out))

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
        descent = optimizer.create(config.optim, shapes)
        train_step = step.create_step(config, network, descent, mesh)
        validate = validation.create(config, network)

        stack.enter_context(errors.unwritable_told(workdir))
        stack.enter_context(one_folder.only_run_in(workdir))
        start.check_same_run(config, workdir)  # another one may have begun and ended
        watch.waits_for("the newest checkpoint")
        saved = stack.enter_context(
            checkpoint.Checkpoints(workdir, keep=config.checkpoint.keep)
        )
        state, first = start.first_state(config, network, descent, mesh, saved)

        def due(done: int) -> bool:
            last = done == config.optim.steps
            return last or done % config.validation.every == 0

        # A signal may have ended the run between a step and its validation, or a kill
        # between the row of the validation and the save of its score.
        noted = log.validated(workdir, first)
        behind = first > 0 and due(first) and not (noted and saved.scored(first))
        behind = bool(multihost_utils.broadcast_one_to_all(np.array(behind)))
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
        one_folder.check_one_folder(workdir, first)
        record = None
        if leads:
            record = stack.enter_context(log.MetricsLog(workdir, from_step=first))
        batches = stack.enter_context(
            contextlib.closing(
                pipeline.batches(
                    store.InMemory(training) if config.data.in_memory else training,
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
        bar = stack.enter_context(contextlib.closing(progress.Progress(first, config)))
        read = readings.Readings(mesh, training.subjects, saved, record, bar)

        def save(done: int, scores: dict[str, float] | None) -> None:
            """Save the state, of a step whose rows are on the disk then."""
            if record is not None:
                record.sync()
            saved.save(done, state, metrics=scores)

        @contextlib.contextmanager
        def saving_first() -> Iterator[None]:
            """Save the state before a scan that cannot be read ends the run."""
            try:
                yield
            except errors.UserError as error:
                told = str(error)
                # Of several processes the others do not come to this save.
                if done > 0 and jax.process_count() == 1:
                    read.settle()
                    if done != saved.latest:
                        save(done, None)
                    told += f" Step {done} is saved; the same command goes on from it."
                raise errors.UserError(told) from error

        def training_batches() -> Iterator[loading.Batch]:
            with saving_first():
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
                    found = validate(params, named, stop.ends)
                going_on = found is not None
                if found is not None:
                    scores, picture = found
                    bar.validated(scores["dsc"])
                    if record is not None:
                        if done > first or not noted:
                            record.write(done, scores)
                        name = f"{done:07d}.png"
                        figures.save(picture, workdir / "validation" / name)
                        drawn = curves.training_curves(record.path)
                        figures.save(drawn, workdir / "curves.png")
                        # Figures refer to themselves, tens of MB each; among the many
                        # objects of JAX Python by itself looks for them too rarely.
                        gc.collect()
            watch.waits_for(f"the save of step {done}")
            save(done, scores)
            watch.waits_for(f"the scans of step {done + 1}")
            return going_on

        done = first
        going_on = stop.received is None
        if going_on and behind:
            going_on = validate_and_save(first)
        watch.waits_for(f"the scans of step {first + 1}")
        for batch in training_batches() if going_on else ():
            bar.scans_came(batch["loaded"], read.newest)
            fixed, moving = (
                sharding.to_devices(mesh, batch[name]) for name in ("fixed", "moving")
            )
            watch.waits_for(f"the start of step {done + 1}")
            state, measured = train_step(state, fixed, moving)
            watch.waits_for(f"the devices at step {done}")
            done = batch["step"] + 1
            used = np.stack([batch["fixed_index"], batch["moving_index"]], axis=1)
            read.take(done, measured, used)
            watch.waits_for(f"the scans of step {done + 1}")
            ends = stop.ends()
            if ends or due(done) or done % config.checkpoint.every == 0:
                watch.waits_for(f"the devices at step {done}")
                read.settle()
                going_on = validate_and_save(done)
            if not going_on:  # not `stop.received`: that may be newer than the save
                break
        late_scans = bar.late_scans()
        watch.waits_for(f"the save of step {done}")
    if leads and late_scans:
        print(late_scans, file=sys.stderr)
    if going_on:
        return 0
    if leads:
        behind_it = f"Saved step {done}" if done else "No step was made yet"
        print(
            f"{behind_it} in {workdir}; the same command goes on from there.",
            file=sys.stderr,
        )
    return stop.exit_code
