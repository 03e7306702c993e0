"""Train the four networks of Table 2 one after the other, then evaluate them.

A run that is complete is not trained again, and one that was stopped goes on, so that
the same command brings the whole to its end.
"""

import argparse
from pathlib import Path

import ml_collections

from mdvit_jax.studies import evaluation
from mdvit_jax.training import loop, step


def run(
    config: ml_collections.ConfigDict,
    pretraining: ml_collections.ConfigDict,
    output: Path,
    *,
    command: str,
) -> int:
    """Train and evaluate; return 0, or the code of a training that a signal ended.

    Args:
        config: of fine-tuning and of evaluation; `optim.start_from` and `workdir` are
            set here.
        pretraining: of the other three networks; the task is that of `config`.
        output: for the runs c2fvit, ntg, msda and fine_tuning and for `evaluation`.
        command: what it was started with, for the report.

    Raises:
        UserError: configurations or data that cannot be used.
    """
    runs = {}
    for name, changed in networks(config, pretraining, output).items():
        print(f"{name}: {changed.workdir}", flush=True)
        code = loop.train(changed)
        if code:
            return code
        runs[name] = Path(changed.workdir)
    options = argparse.Namespace(
        checkpoint=list(runs.values()),
        study=["all"],
        methods=None,
        output=output / "evaluation",
    )
    print(evaluation.run(config, options, command=command))
    return 0


def networks(
    config: ml_collections.ConfigDict,
    pretraining: ml_collections.ConfigDict,
    output: Path,
) -> dict[str, ml_collections.ConfigDict]:
    """Setting of Table 2 → the configuration of its training."""

    def of(base: ml_collections.ConfigDict, folder: str) -> ml_collections.ConfigDict:
        changed = ml_collections.ConfigDict(base.to_dict())
        changed.workdir = str(output / folder)
        changed.data.task = config.data.task
        return changed

    c2fvit, ntg, msda = (of(pretraining, name) for name in ("c2fvit", "ntg", "msda"))
    c2fvit.model.dilated_form = ntg.model.dilated_form = "none"
    c2fvit = step.with_loss(c2fvit, "ncc")
    tuned = of(config, "fine_tuning")
    tuned.optim.start_from = msda.workdir
    return {"C2FViT": c2fvit, "+NTG": ntg, "+MSDA": msda, "+fine-tuning": tuned}
