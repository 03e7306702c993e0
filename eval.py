"""Evaluate networks, and repeat the paper's experiments.

    python eval.py --config configs/quickstart.py --checkpoint runs/quickstart
    python eval.py --config configs/oasis.py --study all --checkpoint runs/a runs/b

Without --study: Initial, Initial (CoM) and the networks, as in Table 1 of the paper.
Each study writes NAME.csv, NAME.md and pictures, and report.html holds all of a folder.
Stopped, the same command goes on where it was.
"""

import argparse
import shlex
import sys
from pathlib import Path

from mdvit_jax import config as configuration
from mdvit_jax import errors
from mdvit_jax.cli import startup
from mdvit_jax.studies import STUDIES
from mdvit_jax.training import distributed

_STUDIES = {**STUDIES, "all": "all of these"}


@errors.told_in_a_sentence
def main() -> int:
    """Load the networks, run the studies, print their tables."""
    options, config = configuration.parse(_parser())
    distributed.alone("eval.py")
    startup.start()
    from mdvit_jax.studies import runner

    tables = runner.run_studies(
        config,
        checkpoints=options.checkpoint,
        studies=options.study or (),
        classical=options.methods,
        output=options.output,
        command=shlex.join(["python", *sys.argv]),
    )
    print(tables)
    return 0


def _parser() -> argparse.ArgumentParser:
    studies = "\n".join(f"  {name:16}{what}" for name, what in _STUDIES.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"studies:\n{studies}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint",
        metavar="RUN",
        nargs="+",
        default=[],
        type=Path,
        help="folders that train.py wrote (workdir), of which the best checkpoint by "
        "validation DSC is taken; or files of PyTorch weights (.npz, .pt, .pth) of the "
        "authors' programs, whose network --config describes",
    )
    parser.add_argument(
        "--study",
        nargs="+",
        choices=_STUDIES,
        metavar="NAME",
        help="of those below; with them come the classical methods",
    )
    parser.add_argument(
        "--methods",
        nargs="*",
        metavar="NAME",
        help="the classical methods, of register, ants, elastix, simpleitk; by default "
        "register, ants and elastix, and register alone for contrast, rotation, "
        "similarity and known_affine",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="default: the evaluation folder of the first run",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
