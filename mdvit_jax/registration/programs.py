"""Programs that are traced once and kept in files, beside those that JAX compiled.

A registration computes for a second; to trace and lower its programs in Python takes as
long again, each time that a command starts, and JAX keeps only what it compiled of
them. So their traced form is kept in the same folder, by `jax.export`.
"""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mdvit_jax.io import atomic

_ROOMS = ("geometry", "losses", "registration")  # the code that programs are made of


class Program:
    """A jitted function whose traced form is kept where JAX keeps compiled programs.

    Args:
        function: of arrays, NumPy's scalars, and tuples and named tuples of them.
        name: of the function with its options, unique in this package.
        types: the named tuples among its arguments and results.
    """

    def __init__(self, function: Callable[..., Any], name: str, types: Sequence[type]):
        self._jitted, self._name, self._types = jax.jit(function), name, types
        self._loaded: dict[Hashable, Any] = {}  # by the shapes of the arguments

    def __call__(self, *arguments):
        """Compute, after loading or tracing the program if necessary."""
        return self._load(jax.tree.map(array_shape, arguments))(*arguments)

    def preload(self, *shapes) -> None:
        """Load the program for such arguments if it is kept, so that a call need not.

        Args:
            shapes: a `jax.ShapeDtypeStruct` for each array.
        """
        file = self._file(shapes)
        if file and file.exists():
            self._load(shapes).lower(*shapes).compile()

    def _load(self, shapes):
        key = tuple(jax.tree.leaves(shapes))
        if key not in self._loaded:
            file = self._file(shapes)
            self._loaded[key] = self._read_or_trace(file, shapes) if file else None
        return self._loaded[key] or self._jitted

    def _read_or_trace(self, file: Path, shapes):
        from jax import export

        for kind in self._types:
            with contextlib.suppress(ValueError):  # another program has done so
                export.register_namedtuple_serialization(
                    kind, serialized_name=kind.__qualname__
                )
        try:
            traced = export.deserialize(bytearray(file.read_bytes()))
        except Exception:  # there is none, or it is damaged
            traced = export.export(self._jitted)(*shapes)
            with contextlib.suppress(OSError):  # the folder may not be ours
                file.parent.mkdir(parents=True, exist_ok=True)
                atomic.write_bytes(file, bytes(traced.serialize()))
        return jax.jit(traced.call)

    def _file(self, shapes) -> Path | None:
        """Where the traced program is kept; None where JAX keeps none on this disk."""
        folder = jax.config.values["jax_compilation_cache_dir"]
        if not folder or "://" in folder:
            return None
        origin = str((_code(), jax.__version__, jax.default_backend(), shapes))
        digest = hashlib.sha256(origin.encode()).hexdigest()
        return Path(folder) / f"{self._name}-{digest}-traced"


def array_shape(array) -> jax.ShapeDtypeStruct:
    """Shape and type of an array, as JAX takes it."""
    return jax.ShapeDtypeStruct(array.shape, jnp.result_type(array))


@functools.cache
def _code() -> str:
    """A digest of all modules of which programs are made."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for room in _ROOMS:
        for module in sorted((package / room).glob("*.py")):
            digest.update(module.read_bytes())
    return digest.hexdigest()
