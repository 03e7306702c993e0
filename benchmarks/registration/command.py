"""One registration from two files to a file, as a command of its own.

python -m benchmarks.registration.command METHOD FIXED MOVING OUTPUT
"""

import sys

from mdvit_jax.__main__ import main

if __name__ == "__main__":
    name, fixed, moving, output = sys.argv[1:]
    if name == "register":
        words = ["--fixed", fixed, "--moving", moving, "--transform", output, "-q"]
        sys.exit(main(["register", *words]))
    # Imported here: the command of users does not bring them.
    import numpy as np

    from benchmarks.registration import compare
    from mdvit_jax.io import image

    np.savetxt(output, compare.align_pair(name, image.load(fixed), image.load(moving)))
