"""`mdvit ablation`: train and evaluate the four networks of the paper's Table 2."""

import argparse
import shlex
from pathlib import Path


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "ablation",
        help="train and evaluate the four networks of the paper's Table 2",
        description="Train C2FViT with NCC, C2FViT with NTG and MDViT with NTG, "
        "fine-tune the last one, and evaluate all four (paper, Table 2) beside the "
        "classical methods. --config is that of fine-tuning and evaluation. "
        "Interrupted, it goes on where it was.",
    )
    parser.add_config()
    parser.add_argument(
        "--pretraining",
        metavar="FILE",
        required=True,
        help="the configuration of pre-training, such as configs/adni.py",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="for the runs and their evaluation; default: the folder of the "
        "configuration's workdir, and in it one for the task",
    )
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=int,
        default=1,
        help="runs of each network (default: 1)",
    )
    parser.set_defaults(run=run_ablation)


def run_ablation(options: argparse.Namespace) -> int:
    """Run the command with its options; return its exit code."""
    from mdvit_jax.config import load_config

    settings = load_config(options.config, options.overrides)
    pretraining = load_config(options.pretraining)
    from mdvit_jax.cli import startup
    from mdvit_jax.studies import table2_training

    startup.start()
    output = options.output or Path(settings.workdir).parent / settings.data.task
    command = shlex.join(options.command_line)
    return table2_training.train_and_evaluate(
        settings, pretraining, output, seeds=options.seeds, command=command
    )
