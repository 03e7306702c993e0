"""The options of `mdvit batch`."""

import argparse

from mdvit_jax.cli.option_values import DOF, FORMATS

_DESCRIPTION = """\
Register many pairs of images, and write one table of how each went.

  mdvit batch --pairs pairs.csv --output results
  mdvit batch --pairs pairs.csv --output results --dof rigid --no-images --format fsl

The pairs are a CSV file, whose first line names its columns:

  fixed,moving,name
  mni152,scans/anna.nii.gz,anna
  mni152,scans/bert.nii.gz,bert

fixed and moving are needed; mni152 (and mni152-2mm) is the template that nilearn ships.
name says what the outputs are called; without it they are called after the moving
image, and names must differ. Columns fixed_mask and moving_mask may name masks on the
voxels of the image, above 0 where it counts for the alignment (a lesion left out, say),
and labels a label map of the moving image, which goes through the same transform.
Relative paths start at the folder of the CSV file.

In the output folder there are, for each pair,
  NAME_warped.nii.gz  the moving image on the grid of the fixed one
  NAME.tfm            the transform, fixed to moving (mdvit convert and apply use it)
  NAME_labels.nii.gz  the labels on the grid of the fixed image, if there are any
  NAME.png            with --qc, three planes before and after
and for all of them
  results.csv         status, reasons, measures before and after, rotation, scales, ...

The status of a pair is ok, check (look at it), failed (do not use it) or error (it
could not be registered; the reason is in the table). An error never stops the batch.

Stop it whenever you like: the same command goes on where it was. Pairs whose outputs
are there and whose images and options have not changed are not computed again; those
with an error are tried again. One batch at a time may write to a folder, which its file
.lock is for. Programs are compiled for the first pair only, whatever the sizes of the
images, so it takes longer than the others.

The exit code is 0 if all pairs are ok or check, 1 if some failed or had an error, 2 if
the CSV file or the folder is wrong, and 75 if another batch is writing to the folder.
"""


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "batch",
        help="align all pairs of a CSV file",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--pairs", metavar="CSV", required=True, help="the table of pairs, as above"
    )
    parser.add_argument(
        "--output", metavar="FOLDER", required=True, help="created if it is missing"
    )
    parser.add_argument(
        "--dof",
        choices=DOF,
        default="affine",
        help="what may change; similarity is rigid and one scale (default: affine)",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="itk",
        help="of the transforms (default: itk, which writes .tfm)",
    )
    parser.add_argument(
        "--no-images", action="store_true", help="write no warped images"
    )
    parser.add_argument(
        "--qc", action="store_true", help="write a picture of each pair, NAME.png"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    # Imported here: it brings JAX, for which --help need not wait.
    from mdvit_jax.cli.batch import run_batch

    return run_batch.run_batch(options)
