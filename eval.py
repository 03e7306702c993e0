"""Evaluate a trained network on people it did not learn from.

    python eval.py --config configs/quickstart.py --checkpoint runs/quickstart

Rows: Initial, Initial (CoM), the network. Written into the run's folder `evaluation`:
table.md, summary.json, cases.csv and pictures of the worst cases.
"""

import argparse
import sys
from pathlib import Path

from mdvit_jax import configuration, errors, runtime


@errors.told_in_a_sentence
def main() -> int:
    """Load the run's network and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint",
        metavar="RUN",
        required=True,
        help="folder that train.py wrote (its workdir); the parameters are those of "
        "its best checkpoint by validation DSC, the network is the run's own",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="for the results; by default RUN/evaluation"
    )
    options, config = configuration.parse(parser)
    runtime.start()
    from mdvit_jax.evaluation import methods, table1
    from mdvit_jax.training import start

    start.check_held_out(config, options.checkpoint)
    trained = start.trained_network(options.checkpoint)
    output = Path(options.output or Path(options.checkpoint) / "evaluation")
    table = table1.run(
        config,
        trained.name,
        methods.trained(trained.network, trained.params),
        output,
        description={"network": f"{options.checkpoint}, step {trained.step}"},
    )
    print(table)
    print(f"Written to {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
