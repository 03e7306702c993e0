"""The options of `mdvit register`, and the checks before anything is computed."""

import argparse
from pathlib import Path

from mdvit_jax import errors
from mdvit_jax.cli.option_values import FORMATS, INTERPOLATIONS, fill_value
from mdvit_jax.registration import CONTRASTS, DOF

_USAGE = "mdvit register --fixed IMAGE --moving IMAGE [options]"
_DESCRIPTION = """\
Align two images of heads or brains of any contrast and orientation.

  mdvit register --fixed mni152 --moving T1.nii.gz --output T1_in_MNI152.nii.gz
  mdvit register --fixed F.nii.gz --moving M.nii.gz --output M_on_F.nii.gz
                 --transform T.tfm --qc T.png
  mdvit register --fixed T1.nii.gz --moving T2.nii.gz --dof rigid
                 --header-only T2_on_T1.nii.gz
  mdvit register --fixed A.nii.gz --moving B.nii.gz --output B_in_A.nii.gz
                 --also-labels B_labels.nii.gz B_labels_in_A.nii.gz --report B.json
  mdvit register --fixed T1.nii.gz --moving fMRI_mean.nii.gz --dof rigid
                 --transform T.mat --transform-format fsl --inverse back.lta

The images are aligned in world coordinates, first in the orientation of their headers
(or what --start says), then in any orientation if that does not fit. Give at least one
output; an existing file is replaced with --overwrite only.

Left and right are taken from the header. If it is wrong, they may be exchanged in the
result, which nothing in a brain shows; the verdict of an orientation that is more than
60 degrees from the header's is never more than "check".

The transform is one 4x4 matrix in world RAS+ millimetres, fixed to moving: it takes a
point of the fixed image to the point of the moving image that shows the same place.
The warped image at x is the moving image at matrix * x.

Of its parts, the translation is that of the fixed object's centre, which rotation,
scale and shear leave in place. A scale of 1.1 says that the moving object is 1.1 times
as large as the fixed one, so that the warped image is made smaller.
"""
_EPILOG = """\
exit code:
  0  aligned; the verdict is "ok", or "check": look at the picture (--qc)
  2  an input or an option cannot be used; nothing was written
  3  the verdict is "failed"; the outputs are written, but do not use them unseen
"""


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "register",
        help="align two images of any contrast and orientation",
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_images(parser.add_argument_group("images"))
    _add_outputs(parser.add_argument_group("outputs"))
    _add_alignment(parser.add_argument_group("alignment"))
    loud = parser.add_mutually_exclusive_group()
    loud.add_argument("-v", "--verbose", action="store_true", help="log the steps")
    loud.add_argument(
        "-q", "--quiet", action="store_true", help="print warnings and errors only"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    check(options)
    # Imported here: it brings JAX, for which --help and a mistake need not wait.
    from mdvit_jax.cli.register import run_register

    return run_register.run_register(options)


def check(options: argparse.Namespace) -> None:
    """Complete the options: `also` and `also_labels` become pairs of input and output.

    Raises:
        UserError: what could not be written afterwards, or would overwrite an input.
    """
    from mdvit_jax.cli.register import register_outputs

    for name in ("also", "also_labels"):
        files = [
            _complete_pair(pair, options.output, name)
            for pair in getattr(options, name)
        ]
        setattr(options, name, files)
    register_outputs.check(options)


def _add_images(group) -> None:
    add = group.add_argument
    add(
        "--fixed",
        metavar="IMAGE",
        required=True,
        help="the image that stays: a file, or mni152 or mni152-2mm, the brain of "
        "MNI152 in voxels of 1 or 2 mm, which nilearn brings",
    )
    add(
        "--moving",
        metavar="IMAGE",
        required=True,
        help="the image that is aligned to it",
    )
    for name in ("fixed", "moving"):
        add(
            f"--{name}-mask",
            metavar="MASK",
            help=f"image on the {name} image's voxels, above 0 where it counts for the "
            "alignment (a lesion left out, say); nothing is cut out of the output",
        )
    add("--force", action="store_true", help="take label maps as images")


def _add_outputs(group) -> None:
    add = group.add_argument
    add(
        "--output",
        metavar="IMAGE",
        help="the moving image on the fixed image's grid and with its header, in the "
        "moving image's number type (.nii.gz, .nii, .mgz, .mgh)",
    )
    add(
        "--transform",
        metavar="FILE",
        help="fixed to moving; the ending says the format: .tfm (ITK, ANTs), .lta "
        "(FreeSurfer), .x5, .txt (the 4x4 matrix); .mat needs --transform-format",
    )
    add("--inverse", metavar="FILE", help="likewise, moving to fixed")
    add(
        "--transform-format",
        choices=FORMATS,
        help="format of both, whatever their endings (FSL and ITK share .mat)",
    )
    add(
        "--header-only",
        metavar="IMAGE",
        help="the moving image with its own voxels, bit by bit, and a new sform that "
        "lays it into the fixed image's space (.nii.gz, .nii)",
    )
    add(
        "--interpolation",
        choices=INTERPOLATIONS,
        default="linear",
        help="of --output and --also (default: linear); cubic and lanczos keep edges "
        "sharper and may overshoot",
    )
    add(
        "--fill",
        metavar="auto|VALUE",
        default="auto",
        type=fill_value,
        help="their value outside of the image; auto (the default): that of its "
        "background, such as -1024 in CT",
    )
    also = "; written to OUTPUT, or beside --output as NAME_warped; may be repeated"
    add(
        "--also",
        metavar=("IMAGE", "OUTPUT"),
        nargs="+",
        action="append",
        default=[],
        help="another image, or a series, in the moving image's world, which goes "
        f"through the same transform{also}",
    )
    add(
        "--also-labels",
        metavar=("LABELS", "OUTPUT"),
        nargs="+",
        action="append",
        default=[],
        help=f"the same for a label map: the nearest voxel, no new values{also}",
    )
    add("--overwrite", action="store_true", help="replace outputs that are there")
    add(
        "--qc",
        metavar="FILE",
        help="to look at: a picture of three planes before and after (.png), or a page "
        "that flickers between the two images, with all measures (.html)",
    )
    add(
        "--report",
        metavar="JSON",
        help="matrix, measures, verdict, versions, checksums of the inputs",
    )


def _add_alignment(group) -> None:
    add = group.add_argument
    add(
        "--dof",
        choices=DOF,
        default="affine",
        help="what the transform may do: turn and shift (rigid), also scale "
        "(similarity), also stretch and shear (affine, the default)",
    )
    add(
        "--contrast",
        choices=CONTRASTS,
        default="auto",
        help="any: local correlation, whatever the contrasts; same: NTG at last, which "
        "asks for contrasts that are alike; auto (the default): any",
    )
    add(
        "--start",
        metavar="com|identity|network|FILE|RUN",
        default="com",
        help="where the alignment starts: centres laid on each other (com, default), "
        "headers alone (identity), the centres and what the trained network of this "
        "package says (network), what that of a RUN says, a folder that train.py "
        "wrote, or a transform FILE; with com and network, all orientations are "
        "searched if need be",
    )
    add(
        "--refine",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="--no-refine takes the start as the answer",
    )
    add("--seed", type=int, default=0, metavar="N", help="of the starts (default 0)")


def _complete_pair(files: list[str], beside: str | None, name: str) -> tuple[str, str]:
    """Pairs of a further image and its output."""
    flag = f"--{name.replace('_', '-')}"
    if len(files) == 2:
        return files[0], files[1]
    if len(files) > 2:
        raise errors.UserError(
            f"{flag} takes an image and its output, not {len(files)} files; write "
            f"{flag} again for each image."
        )
    if beside is None:
        raise errors.UserError(
            f"{flag} {files[0]} has no output; name it: {flag} {files[0]} OUTPUT."
        )
    file = Path(files[0]).name
    from mdvit_jax.io import output_paths

    ending = output_paths.image_ending(beside)
    stem = file.removesuffix(".gz")
    stem = stem[: stem.rfind(".")] if "." in stem else stem
    return files[0], str(Path(beside).parent / f"{stem}_warped{ending}")
