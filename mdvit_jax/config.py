"""Configuration files, their overrides on the command line, and their copy in a run.

A configuration file is Python with a function `get_config()` that returns an
`ml_collections.ConfigDict`; `configs/default.py` holds every value. Any value can be
changed on the command line as `--config.GROUP.NAME=VALUE`, with the type that it has
in the file (`ml_collections.config_flags`). Of a file that has several forms one is
named after a colon, `configs/adni.py:recipe`; `get_config` gets the word.
"""

import difflib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from mdvit_jax import errors
from mdvit_jax.io import atomic, bucket

_PREFIX = "--config."
_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}

# What held before there was a setting, for older runs and files of weights.
_ADDED = {
    "model.passes": 1,
    "model.first_stride": 1,
    "model.heat_maps": "relu",
    "loss.people": False,
}

# The least value of settings that would otherwise fail late, or silently.
_LEAST = {
    "seed": 0,
    "data.size": 1,
    "data.workers": 0,
    "model.depth": 1,
    "model.passes": 1,
    "model.first_stride": 1,
    "model.embedding": 1,
    "loss.levels": 1,
    "loss.stride": 1,
    "optim.steps": 1,
    "optim.batch": 1,
    "optim.accumulate": 1,
    "optim.lr": 0,
    "optim.decay_every": 1,
    "synthesis.pairs": 0,
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


def load_config(
    path: str | Path, overrides: Mapping[str, str] | Sequence[str] = ()
) -> ml_collections.ConfigDict:
    """Run a configuration file and apply the overrides; the result is locked.

    Args:
        path: of the Python file, with or without a form. The folder that holds its
            folder can be imported from, as in `from configs import default`.
        overrides: words of a command line such as `--config.optim.lr=1e-4`; or dotted
            name → value as text.

    Raises:
        UserError: no such file, an error in it, an unknown name or a wrong value.
    """
    if isinstance(overrides, Mapping):
        overrides = [f"{_PREFIX}{name}={text}" for name, text in overrides.items()]
    file, form = _split_form(str(path))
    config = _run_file(Path(file), form)
    _apply(config, overrides)
    for name, least in _LEAST.items():
        value = dict(leaves(config)).get(name, least)
        if not value >= least:  # NaN too
            raise errors.UserError(f"{name} is {value}; it must be at least {least}.")
    return ml_collections.ConfigDict(_tuples(config.to_dict())).lock()


def _split_form(path: str) -> tuple[str, str]:
    """FILE.py:FORM → FILE.py and FORM; the form is empty where there is none."""
    file, _, form = path.rpartition(":")
    return (file, form) if file.endswith(".py") else (path, "")


def _run_file(path: Path, form: str) -> ml_collections.ConfigDict:
    if not path.is_file():
        others = sorted(path.parent.glob("[!_]*.py"))
        near = difflib.get_close_matches(path.stem, [p.stem for p in others], n=1)
        hint = "name one with --config."
        if near:
            hint = f"did you mean {path.with_stem(near[0])}?"
        elif others:
            hint = f"name one with --config: {', '.join(map(str, others))}."
        raise errors.UserError(f"The configuration file {path} does not exist; {hint}")
    root = str(path.resolve().parent.parent)
    sys.path.insert(0, root)
    try:
        spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if form and not inspect.signature(module.get_config).parameters:
            raise ValueError(f'it has one form only, and none is called "{form}"')
        return module.get_config(form) if form else module.get_config()
    except Exception as error:
        raise errors.UserError(
            f"The configuration file {path} cannot be used ({type(error).__name__}: "
            f"{error}); correct it, with configs/default.py as the example."
        ) from error
    finally:
        sys.path.remove(root)


def _apply(config: ml_collections.ConfigDict, words: Sequence[str]) -> None:
    """Change the values that the words name."""
    before = dict(leaves(config))
    for word in words:
        flag, equals, _ = word.partition("=")
        name = flag.removeprefix(_PREFIX)
        if name not in before:
            raise errors.UserError(
                f"{flag} names no value of the configuration; did you mean "
                f"{_PREFIX}{_nearest(name, before)}?"
            )
        if not equals:  # config_flags would take the next word for it
            raise errors.UserError(f"{flag} needs a value: {flag}=VALUE.")
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict(
        "config", config, flag_values=values, sys_argv=list(words)
    )
    try:
        values(["", *words])
    except flags.Error as error:
        # absl says: flag --config.optim.steps=many: invalid literal for int() …
        word = str(error).removeprefix("flag ").partition(": ")[0]
        default = before[word.partition("=")[0].removeprefix(_PREFIX)]
        kind = _KINDS.get(type(default), "a tuple")
        raise errors.UserError(
            f"{word} is not {kind}; give a value such as {default!r}."
        ) from error


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    """The known name most like this one; the part after the last dot counts more."""

    def likeness(other: str) -> float:
        pairs = (name, other), (name.rpartition(".")[2], other.rpartition(".")[2])
        whole, last = (difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)
        return whole + 2 * last

    in_group = [other for other in known if other.startswith(f"{name}.")]
    return max(in_group or known, key=likeness)


def save_config(config: ml_collections.ConfigDict, folder: str | Path) -> None:
    """Write the resolved configuration as `config.json` into a run's folder."""
    path = bucket.open_folder(folder) / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    atomic.write_text(path, text)


def read_config(folder: str | Path) -> ml_collections.ConfigDict:
    """The configuration that `save_config` wrote into a run's folder.

    Raises:
        UserError: the folder holds no run.
    """
    path = bucket.open_folder(folder) / "config.json"
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
    return restore(values)


def restore(values: dict[str, dict]) -> ml_collections.ConfigDict:
    """A configuration, or some groups of one, from what JSON keeps of it."""
    for name, before in _ADDED.items():
        group, setting = name.split(".")
        if group in values:
            values[group].setdefault(setting, before)
    return ml_collections.ConfigDict(_tuples(values))


def differences(
    one: ml_collections.ConfigDict, other: ml_collections.ConfigDict
) -> dict[str, tuple[Any, Any]]:
    """Dotted name → the two values, where two configurations differ."""
    first, second = dict(leaves(one)), dict(leaves(other))
    names = dict.fromkeys([*first, *second])
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: values for name, values in pairs.items() if values[0] != values[1]}


def describe_changes(
    before: ml_collections.ConfigDict,
    now: ml_collections.ConfigDict,
    matters: Callable[[str], bool],
) -> str:
    """The values that differ between two configurations, in words; "" if none does.

    Args:
        before, now: configurations.
        matters: whether a difference in this dotted name counts.
    """
    return ", ".join(
        f"{name} {old!r} (now {new!r})"
        for name, (old, new) in differences(before, now).items()
        if matters(name)
    )


def leaves(config: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All dotted names and their values."""
    for key, value in config.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _tuples(value: Any) -> Any:
    """The lists in a value, such as those of JSON, as tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_tuples(item) for item in value)
    return value
