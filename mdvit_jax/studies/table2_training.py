"""Train the four networks of Table 2 one after the other, then evaluate them.

Each is trained once for each seed; the four of the first seed come before the next. A
run that is complete is not trained again, and one that was stopped goes on: the same
command, started again, completes the whole.
"""

from pathlib import Path

import ml_collections

from mdvit_jax.studies import held_out, runner
from mdvit_jax.training import loop, step


def train_and_evaluate(
    config: ml_collections.ConfigDict,
    pretraining: ml_collections.ConfigDict,
    output: Path,
    *,
    seeds: int = 1,
    command: str,
) -> int:
    """Train and evaluate; return 0, or the code of a training that a signal ended.

    Args:
        config: of fine-tuning and of evaluation; `optim.start_from`, `seed` and
            `workdir` are set here.
        pretraining: of the other three networks; the task is that of `config`.
        output: for the runs c2fvit, ntg, msda and fine_tuning, in each seed-N, and for
            `evaluation`.
        seeds: how many runs of each network.
        command: the command line, for the report.

    Raises:
        UserError: configurations or data that cannot be used.
    """
    held_out.check_seeds(config, seeds)
    runs = []
    for seed in range(seeds):
        configs = network_configs(config, pretraining, output, seed=seed)
        for name, own in configs.items():
            print(f"{name}: {own.workdir}", flush=True)
            code = loop.train(own)
            if code:
                return code
            runs.append(Path(own.workdir))
    print(
        runner.run_studies(
            config,
            checkpoints=runs,
            studies=["all"],
            output=output / "evaluation",
            command=command,
        )
    )
    return 0


def network_configs(
    config: ml_collections.ConfigDict,
    pretraining: ml_collections.ConfigDict,
    output: Path,
    *,
    seed: int,
) -> dict[str, ml_collections.ConfigDict]:
    """Setting of Table 2 → the configuration of its training with one seed.

    Args: as of `train_and_evaluate`.
    """

    def derive(base: ml_collections.ConfigDict, run: str) -> ml_collections.ConfigDict:
        own = ml_collections.ConfigDict(base.to_dict())
        own.seed = seed
        own.workdir = str(output / run / f"seed-{seed}")
        own.data.task = config.data.task
        return own

    c2fvit, ntg, msda = (derive(pretraining, run) for run in ("c2fvit", "ntg", "msda"))
    c2fvit.model.dilated_form = ntg.model.dilated_form = "none"
    c2fvit = step.with_loss(c2fvit, "ncc")
    tuned = derive(config, "fine_tuning")
    tuned.optim.start_from = msda.workdir
    return {"C2FViT": c2fvit, "+NTG": ntg, "+MSDA": msda, "+fine-tuning": tuned}
