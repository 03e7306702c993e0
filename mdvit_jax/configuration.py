"""Configuration files, their overrides on the command line, and their record in a run.

A configuration file is Python with a function `get_config()` that returns an
`ml_collections.ConfigDict`; `configs/default.py` holds every value. Any value can be
changed on the command line as `--config.GROUP.NAME=VALUE`, with the type that it has
in the file.
"""

import argparse
import ast
import difflib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from mdvit_jax import atomic, errors

_PREFIX = "--config."

# The smallest value of those that would fail late, or without a word, below it.
_LEAST = {
    "seed": 0,
    "data.size": 1,
    "data.workers": 0,
    "model.depth": 1,
    "model.embedding": 1,
    "loss.levels": 1,
    "loss.stride": 1,
    "optim.steps": 1,
    "optim.batch": 1,
    "optim.accumulate": 1,
    "optim.lr": 0,
    "optim.decay_every": 1,
    "mesh.model": 1,
    "validation.every": 1,
    "optim.warmup": 0,
    "optim.cooldown": 0,
    "optim.clip_norm": 0,
    "loss.known": 0,
    "loss.deep": 0,
    "validation.known": 0,
    "validation.cases": 0,
    "checkpoint.every": 1,
    "stall_after": 1,
    "checkpoint.keep": 1,
    "evaluation.pictures": 0,
}


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> tuple[argparse.Namespace, ml_collections.ConfigDict]:
    """Parse a command line that has `--config FILE` and overrides besides its own.

    Args:
        parser: with the command's own options; `--config` is added to it.
        arguments: None is the command line of the process.

    Returns:
        The command's own options, and the locked configuration.
    """
    parser.add_argument(
        "--config",
        metavar="FILE",
        required=True,
        help="a configuration such as configs/quickstart.py; change any of its values "
        "with --config.GROUP.NAME=VALUE, for example --config.optim.steps=500",
    )
    # An abbreviation of --config would swallow the overrides.
    parser.allow_abbrev = False
    options, rest = parser.parse_known_args(arguments)
    overrides, unknown = {}, []
    words = iter(rest)
    for word in words:
        name, equals, value = word.partition("=")
        if not name.startswith(_PREFIX):
            unknown.append(word)
        else:
            value = value if equals else next(words, "--")
            if not equals and value.startswith("--"):
                parser.error(f"{name} needs a value: {name}=VALUE")
            overrides[name.removeprefix(_PREFIX)] = value
    if unknown:
        parser.error(f"unrecognised arguments: {' '.join(unknown)}")
    return options, load(options.config, overrides)


def load(
    path: str | Path, overrides: Mapping[str, str] | None = None
) -> ml_collections.ConfigDict:
    """Run a configuration file and apply the overrides; the result is locked.

    Args:
        path: of the Python file. The folder that holds its folder can be imported from,
            as in `from configs import default`.
        overrides: dotted name → value as text.

    Raises:
        UserError: no such file, an error in it, an unknown name or a wrong value.
    """
    path = Path(path)
    if not path.is_file():
        others = ", ".join(sorted(str(p) for p in path.parent.glob("[!_]*.py")))
        known = f"; beside it there are {others}" if others else ""
        raise errors.UserError(
            f"The configuration file {path} does not exist{known}; name "
            "one with --config."
        )
    root = str(path.resolve().parent.parent)
    sys.path.insert(0, root)
    try:
        spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:
        raise errors.UserError(
            f"The configuration file {path} cannot be used ({type(error).__name__}: "
            f"{error}); correct it, with configs/default.py as the example."
        ) from error
    finally:
        sys.path.remove(root)
    for name, text in (overrides or {}).items():
        _override(config, name, text)
    _check_least(config)
    config.lock()
    return config


def _check_least(config: ml_collections.ConfigDict) -> None:
    values = dict(leaves(config))
    for name, least in _LEAST.items():
        value = values.get(name, least)
        if not value >= least:  # NaN too
            raise errors.UserError(
                f"{name} is {value}; give it a value of {least} at least."
            )


def save(config: ml_collections.ConfigDict, folder: str | Path) -> None:
    """Write the resolved configuration as `config.json` into a run's folder."""
    path = Path(folder) / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    atomic.write_text(path, text)


def saved(folder: str | Path) -> ml_collections.ConfigDict:
    """The configuration that `save` wrote into a run's folder.

    Raises:
        UserError: the folder holds no run.
    """
    path = Path(folder) / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        for group in ("data", "model", "loss", "optim"):
            if not isinstance(values[group], dict):
                raise ValueError(group)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise errors.UserError(
            f"{folder} is not the folder of a run: its config.json is missing or "
            "damaged; name the workdir that train.py wrote."
        ) from error
    return ml_collections.ConfigDict(_tuples(values))


def differences(
    one: ml_collections.ConfigDict, other: ml_collections.ConfigDict
) -> dict[str, tuple[Any, Any]]:
    """Dotted name → the two values, where two configurations differ."""
    first, second = dict(leaves(one)), dict(leaves(other))
    names = dict.fromkeys([*first, *second])
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: values for name, values in pairs.items() if values[0] != values[1]}


def _override(config: ml_collections.ConfigDict, name: str, text: str) -> None:
    known = dict(leaves(config))
    if name not in known:
        raise errors.UserError(
            f"--config.{name} names no value of the configuration; did you mean "
            f"--config.{_nearest(name, known)}?"
        )
    group = config
    *groups, last = name.split(".")
    for part in groups:
        group = group[part]
    group[last] = _convert(name, text, known[name])


def _nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like this one; the part after the last dot counts more."""

    def likeness(other: str) -> float:
        pairs = (name, other), (name.rpartition(".")[2], other.rpartition(".")[2])
        whole, last = (difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)
        return whole + 2 * last

    return max(known, key=likeness)


def _convert(name: str, text: str, default: Any) -> Any:
    """The text as a value of the default's type."""
    kind = type(default)
    try:
        if kind is str:
            return text
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is float:
            return float(text)
        if kind is int:
            number = float(text.replace("_", ""))  # 2e5 is a natural way to write steps
            if number != int(number):
                raise ValueError(text)
            return int(number)
        value = ast.literal_eval(text)
        return _tuples(value) if isinstance(value, tuple | list) else (value,)
    except (ValueError, KeyError, SyntaxError, OverflowError) as error:
        what = {bool: "true or false", float: "a number", int: "a whole number"}
        raise errors.UserError(
            f"--config.{name}={text} is not "
            f"{what.get(kind, 'a tuple')}; its value in the file is {default!r}."
        ) from error


def leaves(config: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All dotted names and their values."""
    for key, value in config.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_tuples(item) for item in value)
    return value
