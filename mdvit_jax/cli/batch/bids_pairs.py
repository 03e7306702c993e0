"""Which images of a BIDS dataset are registered to what, and what is said about it.

Nothing is guessed: of several images of a kind each is registered, under its own name;
a session without one, or with several to register to, is left out and named.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mdvit_jax import errors
from mdvit_jax.cli.batch import bids_images
from mdvit_jax.cli.batch.bids_images import BidsImage

T1W = "T1w"
# Images of the structure, one volume each; those with --to T1w without --suffix.
_STRUCTURAL = ("T2w", "FLAIR", "PDw", "T2starw", "inplaneT1", "inplaneT2")


class Selection(NamedTuple):
    """Which images are registered.

    Attributes:
        suffixes: theirs; none are all structural ones but T1w.
        people, sessions: labels without sub- and ses-; none are all.
        entities: such as {"acq": "mprage"}, of the images that are registered to a
            template, or of the T1w images that others are registered to.
    """

    suffixes: Sequence[str] = ()
    people: Sequence[str] = ()
    sessions: Sequence[str] = ()
    entities: Sequence[tuple[str, str]] = ()


class BidsPair(NamedTuple):
    """An image, and what it is registered to: a template, or the T1w of its session.

    Attributes:
        moving: the image.
        fixed: the template's file, or the T1w.
        defaced: whether names say that the image's face was removed.
    """

    moving: BidsImage
    fixed: Path | BidsImage
    defaced: bool


def pair_with_template(
    root: Path, template: Path, selection: Selection
) -> tuple[list[BidsPair], list[str]]:
    """A pair for each selected image, and sentences about the sessions.

    Raises:
        UserError: no image is selected, or a person or session is not there.
    """
    images = _select_sessions(root, selection)
    suffixes = selection.suffixes or (T1W,)
    chosen, notes = _choose(images, suffixes, selection.entities)
    if not chosen:
        words = [f"{key}-{label}" for key, label in selection.entities]
        with_them = f" with {' '.join(words)}" if words else ""
        raise errors.UserError(
            " ".join(
                [
                    f"{root} has no {' or '.join(suffixes)} image{with_them} of these "
                    "people and sessions; see the names of its files.",
                    *notes,
                ]
            )
        )
    without = _list_without(root, images, chosen, selection)
    if without:
        what = " or ".join(suffixes)
        notes.append(f"No {what}, so left out: {errors.list_briefly(without)}.")
    pairs, more = _pair(images, [(image, template) for image in chosen])
    return pairs, notes + more


def pair_with_t1w(root: Path, selection: Selection) -> tuple[list[BidsPair], list[str]]:
    """A pair of each image and the T1w of its session, and sentences about the rest.

    Raises:
        UserError: there is no such pair, or a person or session is not there.
    """
    images = _select_sessions(root, selection)
    suffixes = selection.suffixes or _STRUCTURAL
    targets = defaultdict(list)
    for image in _choose(images, (T1W,), selection.entities)[0]:
        targets[image.session].append(image)
    chosen, notes = _choose([i for i in images if i.suffix != T1W], suffixes)
    both = [(i, targets[i.session][0]) for i in chosen if len(targets[i.session]) == 1]
    without = [image.path.name for image in chosen if not targets[image.session]]
    several = {i.session for i in chosen if len(targets[i.session]) > 1}
    if without:
        notes.append(
            f"No T1w in their session, so left out: {errors.list_briefly(without)}."
        )
    if several:
        first = [image.path.name for image in targets[min(several)]]
        notes.append(
            f"Several T1w in {len(several)} sessions, so left out "
            f"({errors.list_briefly(first)}, for one); say by --entity which one "
            "counts, such as --entity run-1."
        )
    if not both:
        what = " or ".join(suffixes)
        raise errors.UserError(
            " ".join([f"{root} has no {what} with one T1w in its session.", *notes])
        )
    pairs, more = _pair(images, both)
    return pairs, notes + more


def parse_entities(words: Sequence[str]) -> list[tuple[str, str]]:
    """The entities of words such as run-1.

    Raises:
        UserError: a word is none.
    """
    result = []
    for word in words:
        key, hyphen, label = word.partition("-")
        if not (hyphen and key.isalnum() and bids_images.is_label(label)):
            raise errors.UserError(
                f'--entity is "{word}"; write an entity and its label, such as run-1.'
            )
        result.append((key, label))
    return result


def _select_sessions(root: Path, selection: Selection) -> list[BidsImage]:
    """The images of the people and sessions that are asked for."""
    images = bids_images.find(root)
    people = {word.removeprefix("sub-") for word in selection.people}
    sessions = {word.removeprefix("ses-") for word in selection.sessions}
    known = {*bids_images.find_people(root), *(image.session[0] for image in images)}
    _check_labels(root, "participant", people, known)
    _check_labels(root, "session", sessions, {image.session[1] for image in images})
    return [
        image
        for image in images
        if (not people or image.session[0] in people)
        and (not sessions or image.session[1] in sessions)
    ]


def _check_labels(root: Path, kind: str, asked: set[str], known: set[str]) -> None:
    unknown = sorted(asked - known)
    if unknown:
        there = errors.list_briefly(sorted(known - {""})) or "none"
        raise errors.UserError(
            f"{root} has no {kind} {errors.list_briefly(unknown)}; it has {there}."
        )


def _choose(
    images: Sequence[BidsImage],
    suffixes: Sequence[str],
    entities: Sequence[tuple[str, str]] = (),
) -> tuple[list[BidsImage], list[str]]:
    """The images of a kind in their own space, and a sentence about others of it."""
    matching = [
        image
        for image in images
        if image.suffix in suffixes
        and all(image.entities.get(key) == label for key, label in entities)
    ]
    chosen = [i for i in matching if i.entities.get("space", T1W) == T1W]
    if len(chosen) == len(matching):
        return chosen, []
    count = len(matching) - len(chosen)
    return chosen, [f"In another space by their names (space-), so left out: {count}."]


def _pair(
    images: Sequence[BidsImage], both: Sequence[tuple[BidsImage, Path | BidsImage]]
) -> tuple[list[BidsPair], list[str]]:
    """Pairs of images, and what a person should know of them."""
    masks = {_defaced_by(i) for i in images if i.suffix == "defacemask"}
    pairs = [
        BidsPair(moving, fixed, _is_defaced(moving, masks)) for moving, fixed in both
    ]
    notes = []
    kinds = defaultdict(list)
    for pair in pairs:
        kinds[pair.moving.session, pair.moving.suffix].append(pair.moving.path.name)
    several = [names for names in kinds.values() if len(names) > 1]
    if several:
        notes.append(
            f"Several images of one kind in {len(several)} sessions, each registered "
            f"on its own ({errors.list_briefly(several[0])}, for one)."
        )
    defaced = sum(pair.defaced for pair in pairs)
    if defaced:
        notes.append(
            f"{defaced} of {len(pairs)} images are defaced by their names or have a "
            "defacemask; their outlines lack the face, so look at them first."
        )
    return pairs, notes


def _defaced_by(mask: BidsImage) -> tuple:
    """What a mask of a face and its image have in common."""
    return mask.session, mask.entities.get("mod", T1W), mask.entities.get("run")


def _is_defaced(image: BidsImage, masks: set[tuple]) -> bool:
    words = " ".join(image.entities.values()).lower()
    key = image.session, image.suffix, image.entities.get("run")
    return "deface" in words or key in masks


def _list_without(
    root: Path,
    images: Sequence[BidsImage],
    chosen: Sequence[BidsImage],
    selection: Selection,
) -> list[str]:
    """People and sessions that have none of the chosen images."""
    expected = {image.session for image in images}
    if not selection.people and not selection.sessions:
        people = {person for person, _ in expected}
        expected |= {(p, "") for p in bids_images.find_people(root) if p not in people}
    missing = sorted(expected - {image.session for image in chosen})
    return [f"sub-{p}" + (f" ses-{s}" if s else "") for p, s in missing]
