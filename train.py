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
    129  stopped as its terminal was closed (SIGHUP); saved, and the same command goes
         on. Under nohup it does not stop
    130  stopped by Ctrl-C (SIGINT); saved, and the same command goes on
    134  ended, by JAX perhaps (SIGABRT), as another process of the run is gone or never
         came; the same command goes on
    143  stopped by SIGTERM, or by Ctrl-C or SIGHUP where there are several processes;
         saved, and the same command goes on
"""

import argparse

from mdvit_jax import config as configuration
from mdvit_jax import errors
from mdvit_jax.cli import startup
from mdvit_jax.training import distributed


@errors.told_in_a_sentence
def main() -> int:
    """Read the configuration and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _, config = configuration.parse(parser)
    startup.start()
    distributed.join()
    from mdvit_jax.training import loop

    with distributed.handle_lost_process():
        return loop.train(config)


if __name__ == "__main__":
    distributed.leave(main())
