"""Scans that a run leaves out because they cannot be read: named once, and counted."""

import logging
from collections.abc import Iterable, Iterator, Sequence

import tqdm

from mdvit_jax.data import loading

_logger = logging.getLogger(__name__)
# Not silenced in any process: each alone knows which of its scans it leaves out.
_logger.setLevel(logging.WARNING)


def warn(
    batches: Iterable[loading.Batch], subjects: Sequence[str]
) -> Iterator[loading.Batch]:
    """The batches; warn of each scan that is left out for the first time.

    Args:
        batches: those of this process, whose `unreadable` names scans by index.
        subjects: the scans' names.
    """
    known: set[int] = set()
    for batch in batches:
        for index, reason in batch["unreadable"].items():
            if index not in known:
                known.add(index)
                with tqdm.tqdm.external_write_mode():
                    _logger.warning(
                        "%s cannot be read and is left out, %d of %d scans so far: %s",
                        *(subjects[index], len(known), len(subjects), reason),
                    )
        yield batch
