"""The options of `mdvit template`."""

import argparse

from mdvit_jax.cli.option_values import FORMATS
from mdvit_jax.registration import DOF

_DESCRIPTION = """\
Bring scans into the space in their middle, and average them there.

  mdvit template --images anna.nii.gz bert.nii.gz carl.nii.gz --output group
  mdvit template --bids dataset --output group --qc
  mdvit template --within-person --images 2019.nii.gz 2021.nii.gz --output anna
  mdvit template --within-person --bids dataset --output people

Each scan is registered to the average of the others, over and over, until none moves by
more than 0.05 mm. No scan is the one that the others follow, and their order makes no
difference: the mean of all transforms is the identity, so that the template has the
scans' mean position, orientation, size and shear. Of two scans it is half way.

A group template is made of people, one scan of each, by affine transforms. With
--within-person the scans are several of one person, and only turned and shifted; of a
BIDS dataset, each person with two scans or more gets a folder sub-LABEL in the output.

In the output folder there are
  template.nii.gz     the average where at least half of the scans are, 0 elsewhere
  template.json       how it was made: scans, options, rounds
  results.csv         status, reasons, measures, rotation, scales of each scan
  index.html          the page to look at the scans on the template, worst first
and for each scan, as of mdvit batch,
  NAME.tfm            the transform, template to scan
  NAME_warped.nii.gz  the scan on the template's grid
  NAME_labels.nii.gz  the labels of its row of --pairs, if there are any
  NAME.png            with --qc, three planes before and after

The status of a scan is how well it fits the average of the others. One that is failed
spoils the template: leave it out. Scans are held in memory, some 100 MB each at 1 mm.

The exit code is 0 if it converged and all scans are ok or check, 1 if not, 2 if an
input or an option cannot be used, and 75 if another program is writing to the folder.
"""


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "template",
        help="average scans in the space in their middle, of people or of one person",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", metavar="IMAGE", nargs="+", help="the scans")
    source.add_argument(
        "--pairs",
        metavar="CSV",
        help="the moving images of a table of mdvit batch, with their names, masks and "
        "labels; the fixed ones are not read",
    )
    source.add_argument("--bids", metavar="FOLDER", help="a BIDS dataset")
    add("--output", metavar="FOLDER", required=True, help="created if it is missing")
    add(
        "--within-person",
        action="store_true",
        help="the scans are of one person; of a BIDS dataset, a template for each",
    )
    add(
        "--dof",
        choices=DOF,
        help="what may change; similarity is rigid and one scale (default: affine, and "
        "rigid with --within-person)",
    )
    add(
        "--voxel",
        metavar="MM",
        type=float,
        help="of the template (default: the geometric mean of those of the scans)",
    )
    add(
        "--format",
        choices=FORMATS,
        default="itk",
        help="of the transforms (default: itk, which writes .tfm)",
    )
    add("--no-images", action="store_true", help="write no warped images")
    add("--qc", action="store_true", help="write a picture of each scan, NAME.png")
    add("--overwrite", action="store_true", help="replace outputs that are there")
    bids = parser.add_argument_group("images of a BIDS dataset").add_argument
    bids("--suffix", metavar="SUFFIX", help="kind of the scans (default: T1w)")
    for name, what in (("participant-label", "people"), ("session", "sessions")):
        bids(f"--{name}", metavar="LABEL", nargs="+", default=[], help=what)
    bids(
        "--entity",
        metavar="KEY-LABEL",
        nargs="+",
        default=[],
        help="what their names must hold, such as run-1 acq-mprage",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    # Imported here: it brings JAX, for which --help need not wait.
    from mdvit_jax.cli.template import run_template

    return run_template.run_template(options)
