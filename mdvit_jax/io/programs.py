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
        self._lock = threading.Lock()

    def __call__(self, *arguments):
        """Compute, after loading or tracing the program if necessary."""
        arguments = jax.tree.map(_as_array, arguments)
        key = _shapes(jax.tree.leaves(arguments))
        with self._lock:  # of several threads one compiles
            if key not in self._loaded:
                program = self._read_or_trace(arguments)
                program.lower(*arguments).compile()
                self._loaded[key] = program
        return self._loaded[key](*arguments)

    def preload(self) -> None:
        """Load the program for all shapes for which it is kept."""
        if (folder := _folder()) is None:
            return
        with self._lock:
            for file in sorted(folder.glob(f"{self._name}-{_code()}-*")):
                traced = self._read(file)
                if traced is None or _shapes(traced.in_avals) in self._loaded:
                    continue
                program = jax.jit(traced.call)
                leaves = [
                    jax.ShapeDtypeStruct(a.shape, a.dtype) for a in traced.in_avals
                ]
                arguments, _ = jax.tree.unflatten(traced.in_tree, leaves)
                program.lower(*arguments).compile()
                self._loaded[_shapes(leaves)] = program

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
