"""The user's own commands on a prepared cohort of synthetic people."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def prepared(cache: Path, settings: Mapping[str, str]) -> list[str]:
    """Prepare people into a cache; the command that trains on them, workdir not named.

    Args:
        cache: a folder that is made.
        settings: of the configuration, such as `data.synthetic.people`.
    """
    settings = {"data.layout": "synthetic", **settings, "data.cache": str(cache)}
    options = [f"--config.{name}={value}" for name, value in settings.items()]
    options = ["--config", "configs/default.py", *options]
    prepare = [sys.executable, "-m", "mdvit_jax", "prepare", *options]
    subprocess.run(prepare, check=True, stderr=subprocess.DEVNULL)
    return [sys.executable, "train.py", *options]
