"""Programs that are traced once and kept in files, beside those that JAX compiled.

A registration computes for a second; to trace and lower its programs in Python takes as
long again, each time that a command starts, and JAX keeps only what it compiled of
them. So their traced form is kept in the same folder, by `jax.export`.
"""

import contextlib
import functools
import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdvit_jax.io import atomic

# The code that programs are made of.
_ROOMS = "geometry", "losses", "models", "registration"


class Program:
    """A jitted function whose traced form is kept where JAX keeps compiled programs.

    Args:
        function: of arrays and numbers, and of tuples and named tuples of them.
        name: of the function with its options, unique in this package.
        types: the named tuples among its arguments and results.
    """

    def __init__(self, function: Callable[..., Any], name: str, types: Sequence[type]):
        self._jitted, self._name, self._types = jax.jit(function), name, types
        self._loaded: dict[Any, Callable[..., Any]] = {}  # by the shapes of arguments
        self._locks: dict[Any, threading.Lock] = {}  # likewise

    def __call__(self, *arguments):
        """Compute, after loading or compiling the program if necessary."""
        arguments = jax.tree.map(_as_array, arguments)
        return self._prepared(arguments)(*arguments)

    def prepare(self, *arguments) -> None:
        """Load or compile the program for arguments of these shapes and types."""
        self._prepared(jax.tree.map(_as_array, arguments))

    def _prepared(self, arguments) -> Callable[..., Any]:
        key = _shapes(jax.tree.leaves(arguments))
        # Of several threads one compiles; those that need other shapes do not wait.
        with self._locks.setdefault(key, threading.Lock()):
            if key not in self._loaded:
                program = self._read_or_trace(arguments)
                program.lower(*arguments).compile()
                self._loaded[key] = program
        return self._loaded[key]

    def _read_or_trace(self, arguments) -> jax.stages.Wrapped:
        if (folder := _folder()) is None:
            return self._jitted
        shapes = str(_shapes(jax.tree.leaves(arguments))).encode()
        digest = hashlib.sha256(shapes).hexdigest()[:16]
        file = folder / f"{self._name}-{_code()}-{digest}"
        traced = self._read(file)
        if traced is None:
            from jax import export

            traced = export.export(self._jitted)(*arguments)
            with contextlib.suppress(OSError):  # the folder may not be ours
                folder.mkdir(parents=True, exist_ok=True)
                atomic.write_bytes(file, bytes(traced.serialize()))
        return jax.jit(traced.call)

    def _read(self, file: Path):
        """What a file keeps; None if it is missing or damaged."""
        from jax import export  # slow to import

        for kind in self._types:
            with contextlib.suppress(ValueError):  # another program has done so
                export.register_namedtuple_serialization(
                    kind, serialized_name=kind.__qualname__
                )
        try:
            return export.deserialize(bytearray(file.read_bytes()))
        except Exception:
            return None


def _as_array(value) -> np.ndarray:
    return np.asarray(value, jnp.result_type(value))


def _shapes(leaves) -> tuple[Any, ...]:
    return tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)


def _folder() -> Path | None:
    """Where JAX keeps its programs, if on this disk."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    return Path(folder) if folder and "://" not in folder else None


@functools.cache
def _code() -> str:
    """A digest of what programs are made of: our modules, JAX, and the platform."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(f"{jax.__version__} {jax.default_backend()}".encode())
    for room in _ROOMS:
        for module in sorted((package / room).rglob("*.py")):
            digest.update(module.read_bytes())
    return digest.hexdigest()[:16]
