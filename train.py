"""Train a registration network.

    python train.py --config configs/quickstart.py
    python train.py --config configs/adni.py --config.optim.batch=8

The run's folder is `config.workdir`. The same command continues a run that was stopped,
from its newest undamaged checkpoint. On several machines, start the same command in
each of them: see launch/. configs/default.py explains every value of a configuration.

Exit codes:
    0    the run is complete
    1    a bug; its traceback is printed
    2    a mistake in the command, the configuration or the data; a sentence says which
    75   another run is training in this folder

The run was stopped and saved, and the same command continues it:
    129  its terminal was closed (SIGHUP); not under nohup
    130  Ctrl-C (SIGINT)
    134  another process of the run is gone or never came (SIGABRT)
    143  SIGTERM; with several processes also Ctrl-C or SIGHUP
"""

import argparse
import os
import sys

from mdvit_jax import errors
from mdvit_jax.cli import parser


@errors.handle_user_errors
def main() -> int:
    """Read the configuration and train."""
    command = parser.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_config()
    options = command.parse_args()
    # Imported here: --help and a mistake need not wait for JAX.
    from mdvit_jax.config import load_config

    settings = load_config(options.config, options.overrides)
    from mdvit_jax.cli import cluster, startup
    from mdvit_jax.training import distributed

    startup.start()
    distributed.join(cluster.find_place(os.environ))  # before anything computes
    from mdvit_jax.training import loop

    with distributed.handle_lost_process():
        return loop.train(settings)


if __name__ == "__main__":
    code = main()
    if "jax" in sys.modules:
        from mdvit_jax.training import distributed

        distributed.leave(code)
    sys.exit(code)
