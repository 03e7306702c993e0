"""A training run from its configuration, in the order in which it happens.

The run's folder (`config.workdir`, on a disk or in a bucket) holds config.json,
scans.json, metrics.jsonl, curves.png, validation/ with a picture for each validation,
checkpoints/, and .lock, which keeps a second run out. Started again with the same
configuration, a run goes on after its newest checkpoint, on whatever devices, and ends
with the same bits: a step's pairs and its random numbers depend on the step alone.

With several processes, each trains on its own pairs and saves its share of the
checkpoints; all validate; the first one writes everything else.
"""

import contextlib
import functools
import gc
import sys
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np
from etils import epath

from mdvit_jax import errors
from mdvit_jax.config import save_config
from mdvit_jax.data import dataset, pipeline, skipped_scans
from mdvit_jax.data.scan import LoadingError
from mdvit_jax.evaluation import scoring
from mdvit_jax.io import bucket
from mdvit_jax.plots import curves, panels
from mdvit_jax.training import (
    checkpoint,
    distributed,
    metrics_log,
    monitor,
    preemption,
    progress,
    resume,
    scans,
    setup,
    sharding,
    step,
    validation,
)


def train(config: ml_collections.ConfigDict) -> int:
    """Train as configured; return 0, or 129 / 130 / 143 if a signal ended it early.

    Raises:
        UserError: a configuration or data that cannot be used, a loss that is no longer
            finite, a network that no longer learns, or a folder that cannot be written
            to; what was saved before stays. Before a scan that cannot be read ends the
            run, its state is saved.
    """
    workdir = bucket.open_folder(config.workdir)
    writes = jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        # Entered first and left last, so that no signal cuts the last save short.
        signals = stack.enter_context(preemption.Preemption())

        # Refuse what cannot be trained before anything is written.
        resume.check_same_run(config, workdir)
        run = setup.create(config, workdir)
        train_step = step.create_step(config, run.network, run.optimizer, run.mesh)

        # Restore: the newest checkpoint, another run's parameters, or the seed's.
        stack.enter_context(errors.explain_write_errors(workdir))
        stack.enter_context(resume.hold_folder(workdir))
        progressed = stack.enter_context(
            progress.dump_when_stalled(workdir, config.stall_after)
        )
        resume.check_same_run(config, workdir)  # another one may have begun and ended
        saved = stack.enter_context(
            checkpoint.Checkpoints(workdir, keep=config.checkpoint.keep)
        )
        state, done = resume.restore_or_create(config, run, saved)
        # A signal may have ended the run between a step and its validation.
        validated = distributed.broadcast(metrics_log.is_validated(workdir, done))
        unvalidated = done > 0 and validation_is_due(config, done) and not validated
        if done >= config.optim.steps and not unvalidated:
            if writes:
                print(f"{workdir} has all its {done} steps; nothing to train.")
            return 0
        record = None
        if writes:
            save_config(config, workdir)
            scans.save(workdir, run.training, run.held_out)
            record = stack.enter_context(
                metrics_log.MetricsLog(workdir, from_step=done)
            )

        # Batches: a function of the step alone, loaded ahead.
        batches = stack.enter_context(
            contextlib.closing(
                pipeline.batches(
                    dataset.InMemory(run.training)
                    if config.data.in_memory
                    else run.training,
                    run.template,
                    persons=run.training.persons,
                    seed=config.seed,
                    task=config.data.task,
                    first_step=done,
                    steps=config.optim.steps,
                    batch=config.optim.batch,
                    process_index=run.part,
                    process_count=run.parts,
                    workers=config.data.workers,
                    skip_unreadable=config.data.skip_unreadable,
                )
            )
        )
        bar = stack.enter_context(contextlib.closing(progress.Progress(done, config)))
        metrics = monitor.MetricsMonitor(
            run.mesh, run.training.subjects, saved, record, bar
        )
        validate = functools.partial(
            _validate, workdir, run, validation.create(config, run.network)
        )

        stopping = signals.should_stop()
        try:
            if unvalidated and not stopping:
                stopping = not validate(state.params, done, signals, bar, record)
            steps = skipped_scans.warn(batches, run.training.subjects)
            for batch in steps if not stopping else ():
                # Step: begins here, and runs while the next lines do.
                bar.batch_arrived(batch["loaded"], metrics.pending_loss)
                fixed = sharding.to_devices(run.mesh, batch["fixed"])
                moving = sharding.to_devices(run.mesh, batch["moving"])
                used = np.stack([batch["fixed_index"], batch["moving_index"]], axis=1)
                pair = [fixed, moving]
                if run.to_template is not None:
                    pair.append(sharding.to_devices(run.mesh, run.to_template[used]))
                state, measured = train_step(state, *pair)
                done = batch["step"] + 1
                progressed()

                # Log: what the step before measured.
                metrics.push(done, measured, used)

                # Stop? Only this answer counts until the next step, in all processes.
                stopping = signals.should_stop()
                validates = validation_is_due(config, done)
                if not (stopping or validates or done % config.checkpoint.every == 0):
                    continue
                metrics.flush()

                # Validate.
                if validates and not stopping:
                    stopping = not validate(state.params, done, signals, bar, record)

                # Save: in the background, once the rows so far are on the disk.
                _save(saved, record, done, state)
                progressed()
                if stopping:
                    break
        except LoadingError as error:
            # With several processes, the others do not reach this save.
            if not done or jax.process_count() > 1:
                raise
            metrics.flush()
            if done != saved.latest:
                _save(saved, record, done, state)
            raise errors.UserError(
                f"{error} Step {done} is saved; the same command goes on from it."
            ) from error
        loading = bar.summarise_loading()
    # Stop: all is saved here.
    if writes and loading:
        print(loading, file=sys.stderr)
    if not stopping:
        return 0
    if writes:
        saved_steps = f"Saved step {done}" if done else "No step was made yet"
        print(
            f"{saved_steps} in {workdir}; the same command goes on from there.",
            file=sys.stderr,
        )
    return signals.exit_code


def validation_is_due(config: ml_collections.ConfigDict, done: int) -> bool:
    """Whether a run validates after `done` steps."""
    return done == config.optim.steps or done % config.validation.every == 0


def _validate(
    workdir: epath.Path,
    run: setup.Setup,
    validate: Callable,
    params: Any,
    done: int,
    signals: preemption.Preemption,
    bar: progress.Progress,
    record: metrics_log.MetricsLog | None,
) -> bool:
    """Validate, record and draw; False if a signal came before the end."""
    pairs = scoring.load_pairs(run.cases, run.held_out, run.template)
    params = sharding.on_one_device(run.mesh, params)
    result = validate(params, pairs, signals.should_stop)
    if result is None:
        return False
    scores, picture = result
    bar.show_validation(scores["dsc"])
    if record is not None:
        record.write(done, scores)
        panels.save_figure(picture, workdir / "validation" / f"{done:07d}.png")
        panels.save_figure(curves.training_curves(record.path), workdir / "curves.png")
        # Figures are reference cycles of tens of MB, which Python by itself collects
        # too rarely among the many objects of JAX.
        del result, picture
        gc.collect()
    return True


def _save(
    saved: checkpoint.Checkpoints,
    record: metrics_log.MetricsLog | None,
    done: int,
    state: step.TrainState,
) -> None:
    """Save the state of a step, once the rows so far are on the disk."""
    if record is not None:
        record.sync()
    saved.save(done, state)
