"""Train a registration network.

    python train.py --config configs/quickstart.py
    python train.py --config configs/adni.py --config.optim.batch=8

The run's folder is `config.workdir`. Started again with the same command, a run goes on
after its newest checkpoint that is undamaged. On several machines the same command runs
in each: see launch/.

Exit codes:
    0    done
    1    failed unexpectedly: a bug, with its traceback
    2    refused or failed, for a reason that is told in a sentence
    75   refused, as another run is training in this folder
    129  stopped as its terminal was closed (SIGHUP), or as nobody reads what it says;
         saved, and the same command goes on. Under nohup it does not stop
    130  stopped by Ctrl-C (SIGINT); saved, and the same command goes on
    134  ended, by JAX perhaps (SIGABRT), as another process of the run is gone or never
         came; the same command goes on
    143  stopped by SIGTERM, or by Ctrl-C or SIGHUP where there are several processes;
         saved, and the same command goes on
"""

import argparse

from mdvit_jax import config, errors, streams
from mdvit_jax.cli import parser, startup
from mdvit_jax.training import distributed


@errors.handle_user_errors
def main() -> int:
    """Read the configuration and train."""
    command = parser.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_config()
    options = command.parse_args()
    settings = config.load(options.config, options.overrides)
    startup.start()
    distributed.join()
    from mdvit_jax.training import loop

    with distributed.together():
        return loop.train(settings)


if __name__ == "__main__":
    streams.outlast()
    distributed.leave(main())
