"""`mdvit bids-app`: the command line that all BIDS Apps share.

https://bids-apps.neuroimaging.io: `run BIDS_DIR OUTPUT_DIR LEVEL [options]`. The
Dockerfile at the root of the project has it as its entry point.
"""

import argparse

_DESCRIPTION = """\
Register a BIDS dataset by the command line that all BIDS Apps share.

  mdvit bids-app BIDS_DIR OUTPUT_DIR participant
  mdvit bids-app BIDS_DIR OUTPUT_DIR participant --participant-label 01 02 --jobs 4
  mdvit bids-app BIDS_DIR OUTPUT_DIR group

participant brings each T1w onto MNI152, as
  mdvit batch --bids BIDS_DIR --to mni152 --output OUTPUT_DIR --qc
and group makes a template of all people, as
  mdvit template --bids BIDS_DIR --output OUTPUT_DIR/template --qc
The help of these two commands says what is written and what the exit codes mean.
"""


def add_parser(subparsers) -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "bids-app",
        help="register a BIDS dataset as a BIDS App",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("bids_dir", metavar="BIDS_DIR", help="the dataset")
    add("output_dir", metavar="OUTPUT_DIR", help="of the derivatives")
    add("level", choices=("participant", "group"), help="of the analysis")
    # BIDS Apps write _ where this program writes -.
    add(
        "--participant-label",
        "--participant_label",
        metavar="LABEL",
        nargs="+",
        default=[],
        help="people, without sub- (default: all)",
    )
    add(
        "--session-label",
        "--session_label",
        metavar="LABEL",
        nargs="+",
        default=[],
        help="sessions, without ses- (default: all)",
    )
    add("--jobs", metavar="N", default="1", help="processes, at level participant")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from mdvit_jax.cli import main

    return main.main(translate(options))


def translate(options: argparse.Namespace) -> list[str]:
    """The command line of this program that does what a BIDS App is asked for."""
    output = options.output_dir
    if options.level == "participant":
        words = ["batch", "--to", "mni152", "--jobs", options.jobs, "--output", output]
    else:
        words = ["template", "--output", f"{output}/template"]
    words += ["--bids", options.bids_dir, "--qc"]
    if options.participant_label:
        words += ["--participant-label", *options.participant_label]
    if options.session_label:
        words += ["--session", *options.session_label]
    return words
