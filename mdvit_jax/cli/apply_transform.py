"""`mdvit apply`: an image or a label map through transforms from files."""

import argparse

from mdvit_jax import errors
from mdvit_jax.cli import transform_argument
from mdvit_jax.cli.option_values import INTERPOLATIONS, fill_value

EMPTY = 3  # exit code
_DESCRIPTION = """\
Bring an image onto the grid of another through transforms.

  mdvit apply --transform T.tfm --moving M.nii.gz --reference F.nii.gz --output W.nii.gz
  mdvit apply --transform T.tfm --moving labels.nii.gz --labels --reference F.nii.gz
              --output labels_in_F.nii.gz
  mdvit apply --transform T.tfm --moving labels.nii.gz --labels --interpolation linear
              --reference F.nii.gz --output labels_in_F.nii.gz
  mdvit apply --transform T.tfm --invert --moving F.nii.gz --reference M.nii.gz
              --output F_in_M.nii.gz

A transform goes from the fixed image to the moving one (`mdvit convert --help` lists
the files). Several are composed; the first is that of the reference: with
--transform A.tfm B.tfm, A goes from the reference to some image, B on from there.
Displacement fields of ANTs and ITK (.nii.gz, .h5) may be among them.

What a file does not say follows it, after colons: invert (use its inverse),
format=fsl or format=text (a 4x4 of numbers), and for FSL's the images between which it
stands, fixed=IMAGE and moving=IMAGE, where these are not the reference and the moving
image:

  mdvit apply --transform template_to_T1.mat:format=fsl:moving=T1.nii.gz
              T1_to_T2.tfm:invert --moving T2.nii.gz ...

A series of volumes (fMRI, DWI) goes volume by volume through the same transforms and
keeps its time step; of the reference only the grid is used.

The exit code is 0; 2 where something cannot be used, and nothing was written; 3 where
the image lies wholly outside of the grid, so that the output is empty.
"""


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "apply",
        help="bring an image, a series or a label map through affine transforms",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--transform",
        metavar="FILE",
        nargs="+",
        required=True,
        type=transform_argument.parse,
        help="one or several, each with its own options after colons",
    )
    parser.add_argument(
        "--moving",
        metavar="IMAGE",
        required=True,
        help="the image that is resampled, of one volume or a series",
    )
    parser.add_argument(
        "--reference",
        metavar="IMAGE",
        required=True,
        help="the output is on its grid; mni152 and mni152-2mm are templates",
    )
    parser.add_argument(
        "--output", metavar="IMAGE", required=True, help=".nii.gz, .nii, .mgz or .mgh"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an output that is there"
    )
    parser.add_argument(
        "--labels",
        action="store_true",
        help="the moving image is a label map: no new values",
    )
    parser.add_argument(
        "--interpolation",
        choices=INTERPOLATIONS,
        help="by default linear for images and nearest for labels; linear labels: each "
        "is interpolated on its own, as is the background, and the largest weight "
        "wins; cubic and lanczos keep images sharper and may overshoot",
    )
    parser.add_argument(
        "--fill",
        metavar="auto|VALUE",
        default="auto",
        type=fill_value,
        help="value outside of the moving image; auto (the default): that of its "
        "background, such as -1024 in CT, and 0 for labels",
    )
    parser.add_argument(
        "--invert", action="store_true", help="apply the inverse of the transforms"
    )
    parser.set_defaults(run=apply_transform)


def apply_transform(options: argparse.Namespace) -> int:
    """Run the command with its options; return its exit code."""
    # Imported here: --help need not wait for them.
    from mdvit_jax.io import coerce, output_paths, series
    from mdvit_jax.transforms import application

    if options.labels and options.interpolation in ("cubic", "lanczos"):
        raise errors.UserError(
            f"--interpolation {options.interpolation} makes new values, which labels "
            "cannot have; choose nearest or linear."
        )
    files = [path for t in options.transform for path in (t.file, t.fixed, t.moving)]
    read = options.moving, options.reference, *filter(None, files)
    output_paths.check_not_input(options.output, read)
    output_paths.image_ending(options.output)
    output_paths.check_writable(options.output)
    output_paths.check_new(options.output, options.overwrite)
    if options.labels or options.interpolation:
        moving = series.open_series(options.moving, labels=options.labels)
    else:
        moving = series.open_continuous_series(
            options.moving, cure="add --labels, or --interpolation if it is an image"
        )
    reference = coerce.to_grid(options.reference, options.reference)
    is_complete = application.write_resampled(
        options.output,
        moving,
        _read_chain(options, reference, moving.grid),
        reference,
        labels=options.labels,
        interpolation=options.interpolation,
        fill=options.fill,
    )
    print(f"{options.output}: {options.moving} on the grid of {options.reference}")
    return 0 if is_complete else EMPTY


def _read_chain(options: argparse.Namespace, reference, moving):
    """The transforms on the way of a point of the reference to the moving image."""
    from mdvit_jax import transforms

    first, last = (moving, reference) if options.invert else (reference, moving)
    chain: list = []
    for number, transform in enumerate(options.transform):
        is_last = number == len(options.transform) - 1
        ends = first if number == 0 else None, last if is_last else None
        fixed, moved = reversed(ends) if transform.invert else ends
        part = transforms.read_chain(
            transform.file,
            fixed=_read_grid(transform.fixed) or fixed,
            moving=_read_grid(transform.moving) or moved,
            format=transform.format,
        )
        chain += _invert(part, transform.file) if transform.invert else part
    return _invert(chain, "The chain") if options.invert else chain


def _read_grid(path: str | None):
    from mdvit_jax.io import coerce

    return None if path is None else coerce.to_grid(path, path)


def _invert(chain: list, name: str) -> list:
    import numpy as np

    if not all(isinstance(transform, np.ndarray) for transform in chain):
        raise errors.UserError(
            f"{name} holds a displacement field, which has no inverse here; name the "
            "field of the other direction (ANTs: 1InverseWarp.nii.gz)."
        )
    return [np.linalg.inv(matrix) for matrix in reversed(chain)]
