"""The options of `mdvit batch`."""

import argparse

from mdvit_jax.cli.option_values import FORMATS, positive_number
from mdvit_jax.registration import DOF

_DESCRIPTION = """\
Register many pairs of images, and write one table of how each went.

  mdvit batch --pairs pairs.csv --output results
  mdvit batch --pairs pairs.csv --output results --dof rigid --no-images --format fsl
  mdvit batch --bids dataset --to mni152 --output derivatives --jobs 8
  mdvit batch --bids dataset --to T1w --suffix T2w FLAIR --output derivatives

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
  index.html          the page to look at them, worst first, and to rate them

The status of a pair is ok, check (look at it), failed (do not use it) or error (it
could not be registered; the reason is in the table). An error never stops the batch.

Of a BIDS dataset (--bids) each T1w is registered to a template, or with --to T1w every
other structural image to the T1w of its session. Names, sidecars and folders of the
output are those of BIDS derivatives. Of several runs each is registered; sessions
without a T1w, or with several to register to, are left out and named.

Pairs are registered one after the other, by several processes of this machine (--jobs)
or by the workers of a Dask cluster (--scheduler), which all see the same files. A pair
whose process died is tried again twice. In a job array, each job may take its part of
the pairs (--part 3/100); then --merge joins their tables:

  mdvit batch --pairs pairs.csv --output results --part $SLURM_ARRAY_TASK_ID/100
  mdvit batch --merge --output results

On the page a person marks pairs as pass or fail; the file of ratings that it saves goes
into results.csv by

  mdvit batch --ratings ratings.csv --output results

Stop it whenever you like: the same command goes on where it was. Pairs whose outputs
are there and whose images and options have not changed are not computed again, nor are
those with an error, without --retry-errors. One batch at a time may write to a folder,
which its file .lock is for. Programs are compiled for the first pair only, whatever the
sizes of the images, so it takes longer than the others.

The exit code is 0 if all pairs are ok or check, 1 if some failed or had an error, 2 if
an option or the folder is wrong, and 75 if another batch is writing to the folder.
"""


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "batch",
        help="align all pairs of a CSV file, or the images of a BIDS dataset",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--pairs", metavar="CSV", help="the table of pairs, as above")
    source.add_argument("--bids", metavar="FOLDER", help="a BIDS dataset; needs --to")
    source.add_argument(
        "--merge", action="store_true", help="join the tables of parts in --output"
    )
    source.add_argument(
        "--ratings",
        metavar="CSV",
        help="add the ratings that the page of --output saved",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", required=True, help="created if it is missing"
    )
    parser.add_argument(
        "--dof",
        choices=DOF,
        help="what may change; similarity is rigid and one scale (default: affine, and "
        "rigid with --to T1w)",
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
    _add_bids(parser.add_argument_group("images of a BIDS dataset"))
    _add_processes(parser.add_argument_group("processes"))
    parser.set_defaults(run=_run)


def _add_bids(group) -> None:
    add = group.add_argument
    add(
        "--to",
        metavar="mni152|IMAGE|T1w",
        help="what images are registered to: a template (nilearn brings mni152), or "
        "the T1w of their own session",
    )
    add(
        "--space",
        metavar="LABEL",
        help="what names call the space of a template's file (default: by its name, "
        "where that is tpl-LABEL_…)",
    )
    add(
        "--suffix",
        metavar="SUFFIX",
        nargs="+",
        default=[],
        help="kinds of images (default: T1w; with --to T1w the other structural ones)",
    )
    add("--participant-label", metavar="LABEL", nargs="+", default=[], help="people")
    add("--session", metavar="LABEL", nargs="+", default=[], help="sessions")
    add(
        "--entity",
        metavar="KEY-LABEL",
        nargs="+",
        default=[],
        help="what their names must hold, such as run-1 acq-mprage; with --to T1w, "
        "what those of the T1w must",
    )


def _add_processes(group) -> None:
    add = group.add_argument
    add(
        "--jobs",
        metavar="N",
        type=positive_number,
        default=1,
        help="processes on this machine, which share its cores (default: 1)",
    )
    add(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster, such as tcp://login1:8786, or the JSON file that it "
        "wrote",
    )
    add(
        "--part",
        metavar="I/N",
        help="every Nth pair from the Ith on, with its own table",
    )
    add(
        "--retry-errors",
        action="store_true",
        help="try pairs again that ended in an error with the same images",
    )


def _run(options: argparse.Namespace) -> int:
    # Imported here: it brings JAX, for which --help need not wait.
    from mdvit_jax.cli.batch import run_batch

    return run_batch.run_batch(options)
