"""`python -m mdvit_jax COMMAND`, also installed as `mdvit`."""

import sys

from mdvit_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
