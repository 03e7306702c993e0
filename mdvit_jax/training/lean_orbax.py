"""Orbax's saves, without what TensorStore never gives back.

TensorStore keeps each key and each value of a dictionary that it turns into Python (up
to 0.1.86 at least: JsonToPyObject in python/tensorstore/json_type_caster.cc). Each save
of Orbax asks it for such dictionaries: for every array the spec of the folder, which
Orbax itself has just written, and metrics that nobody here reads. It is some 0.1 MB a
save, for ever; Orbax has no option against it. What is replaced here is private to
Orbax: a release that has moved it saves as well, and leaves that memory behind.
"""

import types
from typing import Any

try:
    from orbax.checkpoint._src.serialization import tensorstore_utils
except ImportError:
    tensorstore_utils = None


class _Spec(dict):
    """A spec as Orbax wrote it; TensorStore opens it as well as one of its own."""

    def to_json(self) -> dict[str, Any]:
        return dict(self)


def use() -> None:
    """From now on Orbax takes its own specs as they are, and no metrics."""
    if not hasattr(tensorstore_utils, "ts"):
        return
    tensorstore = vars(tensorstore_utils.ts)
    spec = types.SimpleNamespace(Spec=_Spec, open=tensorstore["KvStore"].open)
    instead = {
        "KvStore": spec,
        "experimental_collect_matching_metrics": lambda prefix: [],
    }
    tensorstore_utils.ts = types.SimpleNamespace(**tensorstore | instead)
