"""The derivatives of a BIDS dataset: names, sidecars, and the files of the folder.

For sub-01/anat/sub-01_T1w.nii.gz and the template MNI152NLin2009aSym there are
sub-01/anat/sub-01_space-MNI152NLin2009aSym_desc-affine_T1w.nii.gz with its .json, and
sub-01/anat/sub-01_from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.tfm with .txt and
.json. from and to are as in fMRIPrep: the transform takes images of the one to the
other. Transforms are not yet part of the standard, so .bidsignore names them.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import mdvit_jax
from mdvit_jax import errors
from mdvit_jax.cli.batch import bids_images, bids_sidecars
from mdvit_jax.cli.batch.bids_images import BidsImage
from mdvit_jax.cli.batch.bids_pairs import BidsPair
from mdvit_jax.cli.batch.pair_outputs import ENDINGS, Options, Outputs
from mdvit_jax.cli.batch.pair_task import PairTask
from mdvit_jax.cli.batch.pairs_csv import Row
from mdvit_jax.io import atomic, json_file, named_templates

_VERSION = "1.10.0"  # of the standard
_DESCRIPTION = "dataset_description.json"
_IGNORED = ("*_xfm.*", "figures", "results*.csv", "ratings*.csv", "*.html")
# What nilearn ships is the symmetric, non-linear average of 2009, version a.
_NAMED = "MNI152NLin2009aSym"
_NAMED_URL = "https://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009"


class Derivatives(NamedTuple):
    """A folder of derivatives.

    Attributes:
        root: the dataset that they are made from.
        folder: where they go.
        space: label of what images are registered to, such as "T1w".
        template: the fixed image of all pairs; None if each has a T1w of its own.
    """

    root: Path
    folder: Path
    space: str
    template: Path | None


def name_space(template: str, space: str | None) -> str:
    """The label of a template's space.

    Args:
        template: one of `named_templates.NAMES`, or a file.
        space: what the user calls it; None asks for the name of the file, which says it
            where the file is one of TemplateFlow (tpl-LABEL_…).

    Raises:
        UserError: it is not known, or no label.
    """
    if space is not None:
        if not bids_images.is_label(space):
            raise errors.UserError(
                f'--space is "{space}"; labels of BIDS are letters and digits.'
            )
        return space
    if named_templates.is_name(template):
        return _NAMED
    match = re.match(r"tpl-([A-Za-z0-9+]+)_", Path(template).name)
    if match is None:
        raise errors.UserError(
            f"{template} does not say which space it is; add --space, such as --space "
            "MNI152NLin6Asym, which becomes part of the names."
        )
    return match[1]


def create_task(pair: BidsPair, derivatives: Derivatives, options: Options) -> PairTask:
    """The pair, its outputs, and what its sidecars say of it beforehand."""
    moving, space = pair.moving, derivatives.space
    fixed = pair.fixed.path if isinstance(pair.fixed, BidsImage) else pair.fixed
    described = moving.entities.get("desc")  # of an image that is a derivative itself
    desc = described + options.dof.title() if described else options.dof
    added = {"space": space, "desc": desc}
    entities = bids_images.add_entities(moving.entities, added)
    image = bids_images.join_name(entities, moving.suffix)
    source = {k: v for k, v in moving.entities.items() if k not in added}
    source |= {"from": moving.suffix, "to": space, "mode": "image"}
    source |= {"desc": described} if described else {}
    transform = bids_images.join_name(source, "xfm")
    place, ending = _place(moving, derivatives), ENDINGS[options.format]
    person = derivatives.folder / f"sub-{moving.entities['sub']}"
    outputs = Outputs(
        transform=place / f"{transform}{ending}",
        image=place / f"{image}.nii.gz" if options.images else None,
        labels=None,
        picture=person / f"figures/{image}.png" if options.qc else None,
        thumbnail=person / f"figures/{image}.webp",
        matrix=place / f"{transform}.txt" if ending != ".txt" else None,
        image_sidecar=place / f"{image}.json" if options.images else None,
        transform_sidecar=place / f"{transform}.json",
    )
    metadata: dict[str, Any] = {
        "Description": f"{moving.suffix} image on the grid of {space}, by one "
        f"{options.dof} transform and linear interpolation",
        "Sources": [_uri(moving.path, derivatives)],
    }
    if derivatives.template is None:
        metadata["Sources"].append(_uri(fixed, derivatives))
        metadata["SpatialReference"] = _uri(fixed, derivatives)
    else:
        named = named_templates.is_name(fixed)
        metadata["SpatialReference"] = _NAMED_URL if named else fixed.as_uri()
    skull = _read_skull(moving.path)
    if skull is not None:
        metadata[bids_sidecars.SKULL] = skull
    if pair.defaced:
        metadata["Defaced"] = True
    row = Row(image, fixed, moving.path, None, None, None)
    return PairTask(row, outputs, options, metadata)


def check_folder(derivatives: Derivatives) -> None:
    """Raise a UserError if the folder is the dataset's own or another program's."""
    root, folder = derivatives.root, derivatives.folder
    if folder.resolve() == root.resolve():
        raise errors.UserError(
            f"{folder} is the dataset itself; name another --output, such as "
            f"{root / 'derivatives' / 'mdvit'}."
        )
    path = folder / _DESCRIPTION
    if not path.exists():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = [program["Name"] for program in content["GeneratedBy"]]
    except (OSError, ValueError, LookupError, TypeError):
        names = []
    if "mdvit_jax" not in names:
        raise errors.UserError(
            f"{path} is not of mdvit_jax; name another --output, as each program's "
            "derivatives have a folder of their own."
        )


def write_dataset_files(derivatives: Derivatives) -> None:
    """Write what makes the folder a BIDS dataset."""
    folder = derivatives.folder
    try:
        source = json.loads((derivatives.root / _DESCRIPTION).read_text("utf-8"))
        name = str(source.get("Name") or derivatives.root.name)
        license_name, doi = source.get("License"), source.get("DatasetDOI")
    except (OSError, ValueError, AttributeError):
        name, license_name, doi = derivatives.root.name, None, None
    url = derivatives.root.resolve().as_uri()
    content: dict[str, Any] = {
        "Name": f"{name}: images aligned to {derivatives.space}",
        "BIDSVersion": _VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "mdvit_jax",
                "Version": mdvit_jax.__version__,
                "Description": "Affine registration of each image (mdvit batch)",
            }
        ],
        "SourceDatasets": [{"URL": url} | ({"DOI": doi} if doi else {})],
        "DatasetLinks": {"source": url},
    }
    if license_name:
        content["License"] = license_name
    folder.mkdir(parents=True, exist_ok=True)
    json_file.write(folder / _DESCRIPTION, content)
    atomic.write_text(folder / ".bidsignore", "\n".join(_IGNORED) + "\n")
    if not (folder / "README").exists():
        atomic.write_text(
            folder / "README",
            f"Images of {name}, aligned to {derivatives.space} by affine transforms of "
            f"mdvit_jax {mdvit_jax.__version__}.\n\nresults.csv says how each went: "
            "ok, check (look at it), failed (do not use it) or error.\n*_xfm.tfm is "
            "the transform for ITK, ANTs and mdvit apply, *_xfm.txt a 4x4 matrix in "
            "world RAS+ mm.\n",
        )


def _place(image: BidsImage, derivatives: Derivatives) -> Path:
    """The folder of an image's derivatives: as the image's own, such as sub-01/anat."""
    person, session = image.session
    parts = image.path.relative_to(derivatives.root).parts
    kind = parts[-2] if len(parts) > 2 else "anat"
    folder = derivatives.folder / f"sub-{person}"
    return (folder / f"ses-{session}" if session else folder) / kind


def _uri(path: Path, derivatives: Derivatives) -> str:
    """A file of the source dataset, as DatasetLinks of the description resolve it."""
    return f"bids:source:{path.relative_to(derivatives.root).as_posix()}"


def _read_skull(image: Path) -> bool | None:
    """What the image's own sidecar says about its skull; None if it says nothing."""
    sidecar = Path(re.sub(r"\.nii(\.gz)?$", ".json", os.fspath(image)))
    try:
        value = json.loads(sidecar.read_text(encoding="utf-8"))[bids_sidecars.SKULL]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return value if isinstance(value, bool) else None
