"""Scans that a run leaves out because they cannot be read: named once, and counted."""

import logging
from collections.abc import Iterable, Iterator, Sequence

import jax
import ml_collections
import tqdm

from mdvit_jax import errors
from mdvit_jax.data import loading

_logger = logging.getLogger(__name__)
# Of several processes all but the first are quiet; what one leaves out only it can say.
_logger.setLevel(logging.WARNING)


def check(config: ml_collections.ConfigDict, parts: int) -> None:
    """Raise a UserError if a scan would be left out by some and used by others.

    Processes that load the same pairs, each for its share of the weights, may differ in
    what they can read, and the same weights would learn from two batches.

    Args:
        config: of it `data.skip_unreadable`.
        parts: how many parts of a batch the processes load (`rows_of_process`).
    """
    if config.data.skip_unreadable and parts < jax.process_count():
        raise errors.UserError(
            f"data.skip_unreadable is true, but mesh.model {config.mesh.model} makes "
            f"{jax.process_count()} processes load the same {parts} parts of a batch, "
            "of which each may read what another cannot; set one of them back."
        )


def told(
    batches: Iterable[loading.Batch], subjects: Sequence[str]
) -> Iterator[loading.Batch]:
    """The batches; a scan's first absence from its pairs is a warning in the log.

    The warning counts the scans that are left out so far. Of several processes each
    tells of the pairs that it loads.

    Args:
        batches: whose `unreadable` names scans by index, in whichever worker they were.
        subjects: the scans' names.
    """
    known: set[int] = set()
    for batch in batches:
        for index, why in batch["unreadable"].items():
            if index not in known:
                known.add(index)
                with tqdm.tqdm.external_write_mode():
                    _logger.warning(
                        "%s cannot be read and is left out, %d of %d scans so far: %s",
                        subjects[index],
                        len(known),
                        len(subjects),
                        why,
                    )
        yield batch
