"""`mdvit apply`: an image or a label map through affine transforms that are there."""

import argparse

from mdvit_jax.cli.option_values import INTERPOLATIONS

EMPTY = 3  # exit code
_DESCRIPTION = """\
Bring an image onto the grid of another through affine transforms.

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
        "--transform", metavar="FILE", nargs="+", required=True, help="one or several"
    )
    parser.add_argument(
        "--moving",
        metavar="IMAGE",
        required=True,
        help="the image that is resampled, of one volume or a series",
    )
    parser.add_argument(
        "--reference", metavar="IMAGE", required=True, help="the output is on its grid"
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
        "is interpolated on its own, as is the background, and the largest weight wins",
    )
    parser.add_argument(
        "--invert", action="store_true", help="go the way back through the transforms"
    )
    parser.set_defaults(run=apply_transform)


def apply_transform(options: argparse.Namespace) -> int:
    """Run the command with its options; return its exit code."""
    # Imported here: --help need not wait for them.
    from mdvit_jax.io import nifti, output_paths, series
    from mdvit_jax.transforms import application

    read = options.moving, options.reference, *options.transform
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
    reference = nifti.read_grid(options.reference)
    matrix = _composed(options, reference, moving.grid)
    is_complete = application.write_resampled(
        options.output,
        moving,
        matrix,
        reference,
        labels=options.labels,
        interpolation=options.interpolation,
    )
    print(f"{options.output}: {options.moving} on the grid of {options.reference}")
    return 0 if is_complete else EMPTY


def _composed(options: argparse.Namespace, reference, moving):
    """The way of a point of the reference to the moving image."""
    import numpy as np

    from mdvit_jax import transforms

    paths = options.transform
    if len(paths) == 1:
        grids = (moving, reference) if options.invert else (reference, moving)
        matrix = transforms.read(paths[0], fixed=grids[0], moving=grids[1])
    else:
        # Between which images an FSL matrix stands is not known here.
        matrix = np.eye(4)
        for path in paths:
            matrix = transforms.read(path) @ matrix
    return np.linalg.inv(matrix) if options.invert else matrix
