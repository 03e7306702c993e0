"""`mdvit convert`: an affine transform from one program's file into another's."""

import argparse

from mdvit_jax.cli.option_values import FORMATS

_DESCRIPTION = """\
Convert an affine transform between the files of ITK and ANTs (.tfm, .mat), FSL (.mat),
FreeSurfer (.lta), X5 (.x5) and plain text (.txt: 4x4, fixed to moving, world RAS+ mm).

  mdvit convert --input T.tfm --output T.mat --to fsl --fixed F.nii.gz --moving M.nii.gz
  mdvit convert --input T0GenericAffine.mat --output T.lta --fixed F.mgz --moving M.mgz
"""


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "convert",
        help="convert an affine transform from one program's file into another's",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--input", metavar="FILE", required=True, help="is read")
    parser.add_argument("--output", metavar="FILE", required=True, help="is written")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an output that is there"
    )
    parser.add_argument(
        "--from",
        dest="source",
        choices=("fsl", "text"),
        help="what 4x4 numbers are; by default fsl where the file ends in .mat",
    )
    parser.add_argument(
        "--to",
        dest="target",
        choices=FORMATS,
        help="format of the output; by default what its ending says",
    )
    parser.add_argument(
        "--fixed",
        metavar="IMAGE",
        help="the image that stays (FSL: -ref); fsl and lta need both images",
    )
    parser.add_argument(
        "--moving", metavar="IMAGE", help="the image that is moved (FSL: -in)"
    )
    parser.add_argument(
        "--invert",
        action="store_true",
        help="write the inverse; --fixed and --moving are those of the input",
    )
    parser.set_defaults(run=convert_transform)


def convert_transform(options: argparse.Namespace) -> int:
    """Run the command with its options; return its exit code."""
    # Imported here: --help need not wait for them.
    import numpy as np

    from mdvit_jax import transforms
    from mdvit_jax.io import coerce, output_paths

    named = options.fixed, options.moving
    output_paths.check_not_input(options.output, filter(None, (options.input, *named)))
    output_paths.check_writable(options.output)
    output_paths.check_new(options.output, options.overwrite)
    fixed, moving = (None if p is None else coerce.to_grid(p, p) for p in named)
    matrix = transforms.read(
        options.input, fixed=fixed, moving=moving, format=options.source
    )
    if options.invert:
        matrix, fixed, moving = np.linalg.inv(matrix), moving, fixed
    transforms.write(
        options.output, matrix, fixed=fixed, moving=moving, format=options.target
    )
    print(f"{options.output}: {'inverse of ' * options.invert}{options.input}")
    return 0
