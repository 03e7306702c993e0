"""A cohort of a few synthetic people for tests."""

from pathlib import Path

from mdvit_jax import configuration

_DEFAULT = Path(__file__).resolve().parents[2] / "configs/default.py"
_SMALL = {
    "data.layout": "synthetic",
    "data.label_scheme": "tissue",
    "data.size": "48",
    "data.split": "(2, 2, 3)",
    "data.task": "template",
    "data.synthetic.people": "7",
    "data.synthetic.deformation": "0",
}


def config(**changed):
    """Seven people against the template; `data__size="32"` changes a value."""
    overrides = {name.replace("__", "."): value for name, value in changed.items()}
    return configuration.load(_DEFAULT, _SMALL | overrides)
