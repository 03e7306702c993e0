"""Evaluate networks, and repeat the paper's experiments.

    python eval.py --config configs/quickstart.py --checkpoint runs/quickstart
    python eval.py --config configs/oasis.py --study all --checkpoint runs/a runs/b

Without --study: Initial, Initial (CoM) and the networks, as in Table 1 of the paper.
Each study writes NAME.csv, NAME.md and pictures, and report.html holds all of a folder.
The same command continues an evaluation that was stopped. configs/default.py explains
every value of a configuration.

Exit codes:
    0    done
    1    a bug; its traceback is printed
    2    a mistake in the command, the configuration or the data; a sentence says which
    130  stopped by Ctrl-C
"""

import argparse
import shlex
import sys
from pathlib import Path

from mdvit_jax import errors
from mdvit_jax.cli import parser
from mdvit_jax.studies import STUDIES

_STUDIES = {**STUDIES, "all": "all of these"}


@errors.handle_user_errors
def main() -> int:
    """Load the networks, run the studies, print their tables."""
    options = _create_parser().parse_args()
    # Imported here: --help and a mistake need not wait for JAX.
    from mdvit_jax.config import load_config

    settings = load_config(options.config, options.overrides)
    from mdvit_jax.cli import cluster, startup
    from mdvit_jax.studies import runner

    cluster.require_one_process("eval.py")
    startup.start()
    tables = runner.run_studies(
        settings,
        checkpoints=options.checkpoint,
        studies=options.study or (),
        classical=options.methods,
        output=options.output,
        command=shlex.join(["python", *sys.argv]),
    )
    print(tables)
    return 0


def _create_parser() -> parser.Parser:
    studies = "\n".join(f"  {name:16}{what}" for name, what in _STUDIES.items())
    result = parser.Parser(
        description=__doc__,
        epilog=f"studies:\n{studies}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_config()
    result.add_argument(
        "--checkpoint",
        metavar="RUN",
        nargs="+",
        default=[],
        type=Path,
        help="folders that train.py wrote (workdir); the best checkpoint by "
        "validation DSC is taken; pretrained or pretrained-keymorph, the networks of "
        "this package; or files of PyTorch weights (.npz, .pt, .pth) of the authors' "
        "programs, whose network --config describes",
    )
    result.add_argument(
        "--study",
        nargs="+",
        choices=_STUDIES,
        metavar="NAME",
        help="names from the list below; the classical methods are evaluated too",
    )
    result.add_argument(
        "--methods",
        nargs="*",
        metavar="NAME",
        help="the classical methods, of register, ants, elastix, simpleitk; by default "
        "register, ants and elastix, and register alone for contrast, rotation, "
        "similarity and known_affine",
    )
    result.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="default: the evaluation folder of the first run",
    )
    return result


if __name__ == "__main__":
    sys.exit(main())
