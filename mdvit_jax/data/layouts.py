"""Where each layout keeps its scans: a folder (or a manifest) → a list of scans.

Only names are looked at here, no file is opened but the manifest. A reader returns its
scans in the order of their names, so that every machine sees the same cohort.

To add a layout, write a reader and add it to the table at the end.
"""

import difflib
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import ml_collections

from mdvit_jax import errors
from mdvit_jax.data import manifest
from mdvit_jax.data.scan import Scan, create_scan

_log = logging.getLogger(__name__)


def read(data_config: ml_collections.ConfigDict) -> list[Scan]:
    """The scans that `config.data` names by `layout` and `root`, in order of names.

    Raises:
        UserError: the layout is unknown, its folder is missing or holds no scans, two
            scans have one name, or a manifest is wrong.
    """
    name = data_config.layout
    if name not in _LAYOUTS:
        near = difflib.get_close_matches(str(name), _LAYOUTS, n=1, cutoff=0.0)
        raise errors.UserError(
            f'data.layout is "{name}", which is none of {", ".join(_LAYOUTS)}; did you '
            f'mean "{near[0]}"?'
        )
    layout = _LAYOUTS[name]
    for setting in ("labels", "mask"):
        if data_config[setting] and name != "folder":
            raise errors.UserError(
                f'data.{setting} is "{data_config[setting]}", which layout {name} does '
                "not use; use layout folder, or name the files in a CSV manifest."
            )
    root = Path(data_config.root).expanduser()
    if layout.expected and not (data_config.root and root.exists()):
        where = f'"{root}", which does not exist' if data_config.root else "empty"
        raise errors.UserError(
            f"data.root is {where}; layout {name} expects there {layout.expected} "
            f"({layout.source})."
        )
    scans = sorted(layout.read(root, data_config), key=lambda scan: scan.subject)
    if not scans:
        raise errors.UserError(
            f"{root} holds no scan of layout {name}, which expects there "
            f"{layout.expected} ({layout.source})."
        )
    for scan, following in itertools.pairwise(scans):
        if scan.subject == following.subject:
            raise errors.UserError(
                f"{scan.image} and {following.image} are both named {scan.subject}; "
                "rename one of them, or list the scans in a CSV manifest."
            )
    return scans


def _freesurfer(root: Path, data_config) -> Iterable[Scan]:
    unfinished = []
    for folder in _match_files(root, "*/mri"):
        subject = folder.parent.name
        if subject.startswith("fsaverage"):
            continue
        image = _first(folder / "norm.mgz", folder / "brain.mgz")
        if image is None:
            unfinished.append(subject)
        else:
            scan = create_scan(subject, image, labels=_first(folder / "aseg.mgz"))
            # FreeSurfer names the visits of a longitudinal study so.
            base = subject.partition(".long.")[2]
            yield (
                scan._replace(person=create_scan(base, image).person) if base else scan
            )
    if unfinished:
        _log.warning(
            "%d folders in %s have neither mri/norm.mgz nor mri/brain.mgz and are left "
            "out; the first is %s (did recon-all finish?).",
            len(unfinished),
            root,
            unfinished[0],
        )


def _neurite_oasis(root: Path, data_config) -> Iterable[Scan]:
    """norm and seg35 lie in the scan's own space, aligned_ ones in a common one."""
    aligned = 0
    for folder in _match_files(root, "*OAS1_*"):
        image, labels = folder / "norm.nii.gz", folder / "seg35.nii.gz"
        if not image.is_file():
            image, labels = (
                folder / f"aligned_{path.name}" for path in (image, labels)
            )
            aligned += image.is_file()
        if image.is_file():
            yield create_scan(folder.name, image, labels=_first(labels))
    if aligned:
        _log.warning(
            "%d scans in %s exist only as aligned_norm.nii.gz, which were aligned to a "
            "template before: little is left to register.",
            aligned,
            root,
        )


def _lpba40(root: Path, data_config) -> Iterable[Scan]:
    """Delineation space is preferred; native space is skull-stripped by its mask.

    The Analyze files of LPBA40 do not say left from right: as everywhere in nibabel,
    their first axis is taken to run from right to left.
    """
    for folder in (root, root / "delineation_space", root / "native_space"):
        files: dict[str, list[Path]] = {}
        number = "S[0-9][0-9]"
        for pattern in (f"{number}/{number}.*", f"{number}.*"):
            for path in _match_files(folder, pattern):
                if path.name.endswith((".nii.gz", ".nii", ".hdr", ".hdr.gz")):
                    files.setdefault(path.name[:3], []).append(path)
        scans = []
        for subject, paths in files.items():
            image = _named(paths, ".skullstripped.", ".brain.bfc.", ".mri.")
            labels = _named(paths, ".structure.label.", ".label.")
            if image is not None:
                mask = _named(paths, ".brain.mask.")
                scans.append(create_scan(subject, image, labels=labels, mask=mask))
        if scans:
            return scans
    return []


def _bids(root: Path, data_config) -> Iterable[Scan]:
    for folder in ("", "sub-*/anat/", "sub-*/ses-*/anat/"):
        for path in _match_files(root, f"{folder}sub-*_T1w.nii*"):
            subject, ending = path.name.rsplit("_T1w", 1)
            if ending in (".nii", ".nii.gz"):
                yield create_scan(subject, path)


def _folder(root: Path, data_config) -> Iterable[Scan]:
    pattern = PurePosixPath(data_config.image).as_posix()  # without a ./ or //
    others = any(character in pattern for character in "?[")
    if pattern.count("*") != 1 or others or Path(pattern).is_absolute():
        raise errors.UserError(
            f'data.image is "{pattern}", but needs exactly one *, which stands for the '
            "subject's name, no ? and no [, and to start within data.root; list more "
            "involved layouts in a CSV manifest (layout csv)."
        )
    before, after = pattern.split("*")
    images = {
        path.relative_to(root).as_posix()[len(before) : -len(after) or None]: path
        for path in _match_files(root, pattern)
    }
    if "" in images:
        raise errors.UserError(
            f"{images['']} leaves no name for its subject, as data.image is "
            f'"{pattern}"; rename the file or change the pattern.'
        )

    def partners(setting: str) -> dict[str, Path]:
        """Subject → its file by the template `data.<setting>`, where there is one."""
        template = data_config[setting]
        if not template:
            return {}
        if "{subject}" not in template:
            raise errors.UserError(
                f'data.{setting} is "{template}", but needs {{subject}} where the '
                "subject's name belongs."
            )
        paths = {s: root / template.replace("{subject}", s) for s in images}
        paths = {subject: path for subject, path in paths.items() if path.is_file()}
        if images and not paths:
            raise errors.UserError(
                f'data.{setting} is "{template}", but {root} has no such file for any '
                f'of its {len(images)} subjects ("{next(iter(images))}" is one).'
            )
        return paths

    labels, masks = partners("labels"), partners("mask")
    # The default glob finds them too; with an image or without one, they are not scans.
    partner = {*labels.values(), *masks.values()}
    templates = [data_config[s].replace("{subject}", "*") for s in ("labels", "mask")]
    # One that says more about a name than the images' own does.
    templates = [t for t in templates if len(t) > len(pattern)]
    alone = [
        path
        for path in images.values()
        if path not in partner
        and any(path.relative_to(root).match(template) for template in templates)
    ]
    if alone:
        _log.warning(
            "%d files in %s are labels or masks without an image and are left out; the "
            "first is %s.",
            len(alone),
            root,
            alone[0].name,
        )
    return [
        create_scan(subject, path, labels=labels.get(subject), mask=masks.get(subject))
        for subject, path in images.items()
        if path not in partner and path not in alone
    ]


def _csv(path: Path, data_config) -> Iterable[Scan]:
    return manifest.read(path)


def _synthetic(root: Path, data_config) -> Iterable[Scan]:
    people = data_config.synthetic.people
    if people < 1:
        raise errors.UserError(
            f"data.synthetic.people is {people}; at least one person is needed."
        )
    return [create_scan(f"synthetic-{i:05d}", Path(str(i))) for i in range(people)]


def _match_files(root: Path, pattern: str) -> list[Path]:
    """What matches, without what macOS and others leave behind (._name, .name)."""
    paths = sorted(root.glob(pattern))
    return [
        path
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]


def _first(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _named(paths: list[Path], *words: str) -> Path | None:
    """The first path whose name holds the earliest possible one of the words."""
    return next((path for word in words for path in paths if word in path.name), None)


class _Layout(NamedTuple):
    read: Callable[[Path, ml_collections.ConfigDict], Iterable[Scan]]
    expected: str  # what has to be at data.root; empty: nothing
    source: str  # how to get it


_LAYOUTS: Mapping[str, _Layout] = {
    "freesurfer": _Layout(
        _freesurfer,
        "one folder a scan with mri/norm.mgz or mri/brain.mgz and, for evaluation, "
        "mri/aseg.mgz",
        "run FreeSurfer's recon-all on your scans; ADNI's are granted on application "
        "at https://adni.loni.usc.edu",
    ),
    "neurite_oasis": _Layout(
        _neurite_oasis,
        "folders OASIS_OAS1_xxxx_MRy with norm.nii.gz and seg35.nii.gz",
        "download neurite-oasis by the link at https://github.com/adalca/"
        "medical-datasets/blob/master/neurite-oasis.md",
    ),
    "lpba40": _Layout(
        _lpba40,
        "folders S01 to S40 with *.skullstripped.* and *.structure.label.*, or the "
        "folder delineation_space or native_space that holds them",
        "register and download LPBA40 at https://resource.loni.usc.edu/resources/"
        "atlases-downloads/",
    ),
    "bids": _Layout(
        _bids,
        "sub-XX[/ses-YY]/anat/*_T1w.nii.gz or sub-XX_T1w.nii.gz, skull-stripped",
        "https://openneuro.org has many such data sets",
    ),
    "folder": _Layout(
        _folder,
        "skull-stripped images whose names match data.image",
        "any NIfTI, .mgz or Analyze files will do",
    ),
    "csv": _Layout(
        _csv,
        "a CSV file with the columns subject and image and, optionally, labels, mask, "
        "split and person",
        "write one line for each scan",
    ),
    "synthetic": _Layout(_synthetic, "", ""),
}
