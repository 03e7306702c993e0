"""A cohort of a few synthetic people for tests, and the cache of any cohort."""

from pathlib import Path

from mdvit_jax.config import load_config
from mdvit_jax.data import cache, cohort, dataset

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
    """Seven people and the template; `data__size="32"` changes `data.size`."""
    overrides = {name.replace("__", "."): value for name, value in changed.items()}
    return load_config(_DEFAULT, _SMALL | overrides)


def fill(config) -> None:
    """Conform all scans of a cohort into its cache, in this process."""
    Path(config.data.cache).mkdir(exist_ok=True)
    for scan in cohort.read(config):
        cache.write(scan, dataset.conform_scan(scan, config), config)
