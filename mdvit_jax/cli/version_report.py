"""What `mdvit --version --json` prints; nothing heavy is imported for it."""

import importlib.metadata
import json
import platform
import sys

import mdvit_jax

_LIBRARIES = ("jax", "jaxlib", "numpy", "scipy", "nibabel", "flax")


def describe_versions() -> str:
    """This package, the Python, the machine and the libraries, as JSON."""
    content = {
        "mdvit_jax": mdvit_jax.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "libraries": {name: _find_version(name) for name in _LIBRARIES},
    }
    return json.dumps(content, indent=2)


def _find_version(name: str) -> str | None:
    """Of an installed library, None of another."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
