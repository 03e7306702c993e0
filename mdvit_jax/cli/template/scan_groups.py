"""Which scans a template is made of: files, a table, or images of a BIDS dataset."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mdvit_jax import errors
from mdvit_jax.cli import option_values
from mdvit_jax.cli.batch import bids_pairs, pairs_csv
from mdvit_jax.cli.batch.pairs_csv import Row

TEMPLATE = "template.nii.gz"


class ScanGroup(NamedTuple):
    """The scans of one template.

    Attributes:
        folder: where it is written.
        rows: the scans as moving images; the fixed one is the template.
    """

    folder: Path
    rows: list[Row]


def list_groups(options: argparse.Namespace) -> list[ScanGroup]:
    """The groups of a command line: one, or one for each person of a BIDS dataset.

    Raises:
        UserError: a table or a dataset is wrong, two scans have one name, a group has
            one scan, or a person several in a group of people.
    """
    folder = Path(options.output).absolute()
    if not options.bids:
        for_bids = "suffix", "participant_label", "session", "entity"
        option_values.refuse(options, "needs --bids", *for_bids)
    if options.bids:
        groups = _from_bids(options, folder)
    elif options.pairs:
        rows = pairs_csv.read(Path(options.pairs))
        groups = [_create_group(folder, rows)]
    else:
        paths = [Path(name).expanduser().absolute() for name in options.images]
        groups = [_create_group(folder, map(_create_row, paths))]
    for group in groups:
        _check(group)
    return groups


def _create_group(folder: Path, rows: Iterable[Row]) -> ScanGroup:
    template = folder / TEMPLATE
    return ScanGroup(
        folder, [row._replace(fixed=template, fixed_mask=None) for row in rows]
    )


def _create_row(scan: Path) -> Row:
    return Row(pairs_csv.name_after(scan), scan, scan, None, None, None)


def _from_bids(options: argparse.Namespace, folder: Path) -> list[ScanGroup]:
    selection = bids_pairs.Selection(
        [options.suffix] if options.suffix else [],
        options.participant_label,
        options.session,
        bids_pairs.parse_entities(options.entity),
    )
    root = Path(options.bids).absolute()
    pairs, notes = bids_pairs.pair_with_template(root, folder / TEMPLATE, selection)
    people = defaultdict(list)
    for pair in pairs:
        people[pair.moving.entities["sub"]].append(pair.moving)
    several = {person: scans for person, scans in people.items() if len(scans) > 1}
    if options.within_person:
        if not several:
            raise errors.UserError(
                f"{root} has no person with two scans of this kind; look at the names "
                "of its files."
            )
        alone = [f"sub-{person}" for person in people if person not in several]
        if alone:
            notes.append(f"One scan only, so left out: {errors.list_briefly(alone)}.")
        groups = [
            _create_group(
                folder / f"sub-{person}", [_create_row(scan.path) for scan in scans]
            )
            for person, scans in several.items()
        ]
    else:
        if several:
            person, scans = next(iter(several.items()))
            names = errors.list_briefly(scan.path.name for scan in scans)
            raise errors.UserError(
                f"{root} has several scans of sub-{person} ({names}), and people count "
                "the same in a group; choose by --session or --entity, or add "
                "--within-person for a template of each person."
            )
        rows = [_create_row(pair.moving.path) for pair in pairs]
        groups = [_create_group(folder, rows)]
    for note in notes:
        print(note, file=sys.stderr)
    return groups


def _check(group: ScanGroup) -> None:
    if len(group.rows) < 2:
        raise errors.UserError(
            "a template is made of two scans or more, and this is one: "
            f"{group.rows[0].moving}."
        )
    _check_unlike(group.rows, "name", [row.name.casefold() for row in group.rows])
    _check_unlike(group.rows, "file", [row.moving.resolve() for row in group.rows])
    for row in group.rows:
        if not pairs_csv.is_name(row.name):
            raise errors.UserError(
                f'{row.moving} is called "{row.name}", which files cannot be called '
                "after; list the scans in a table (--pairs) with a column name."
            )


def _check_unlike(rows: Sequence[Row], what: str, keys: Sequence) -> None:
    first: dict = {}
    for row, key in zip(rows, keys, strict=True):
        other = first.setdefault(key, row)
        if other is not row:
            raise errors.UserError(
                f"{other.moving} and {row.moving} are scans of one {what}; name each "
                "file once, and list files that are called alike in a table (--pairs) "
                "with a column name."
            )
