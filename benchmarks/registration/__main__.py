"""Compare registration methods on scans of real people.

    MDVIT_DATA=… python -m benchmarks.registration --output comparison

Each row of results.csv is one method on one case; table.md sums them up. Interrupted
or started with more cases, it computes only what is missing in results.jsonl.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.registration import compare, plan, table
from mdvit_jax import errors
from mdvit_jax.evaluation import methods


@errors.handle_user_errors
def main(words: Sequence[str] | None = None) -> int:
    """Run the comparison that the command line asks for; return its exit code."""
    options = _parser().parse_args(words)
    if options.output is None:  # or the table would mix people
        name = "registration_held_out" if options.held_out else "registration"
        options.output = Path("runs", name)
    names = []
    for name in options.methods:
        reason = methods.missing_package(name)
        if reason:
            print(reason, file=sys.stderr)
        else:
            names.append(name)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.UserError(
            f"the folder {options.output} cannot be made ({error.strerror}); name "
            "another one."
        ) from error
    tasks = plan.tasks(
        options.cases,
        people=options.people,
        pairs=options.pairs,
        spacing=options.spacing,
        cohort=plan.HELD_OUT if options.held_out else plan.SEEN,
    )
    rows = compare.compare(tasks, names, options.output / "results.jsonl")
    rows.to_csv(options.output / "results.csv", index=False)
    shown = [name for name in methods.CLASSICAL if (rows.method == name).any()]
    text = table.make_table(rows, shown).to_markdown() + "\n"
    (options.output / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    groups = "\n".join(f"  {name:14}{what}" for name, what in plan.GROUPS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.registration",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compare methods of affine registration on scans of real people: "
        "how far off they are,\nhow well people overlap, how long it takes.",
        epilog=f"groups of cases:\n{groups}\n\n"
        "The scans ds002748, oasis1_malf, synthseg_labels, lhdata and open_ms are read "
        "from the\nfolder MDVIT_DATA, else in ../shared/data beside the repository. "
        "Other\nprograms need pip install 'mdvit-jax[peers]'. To compute a row again, "
        "delete its\nline in results.jsonl.\n\nexample, a quick look at two methods:\n"
        "  python -m benchmarks.registration --methods register ants "
        "--people 2 --pairs 2",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=methods.CLASSICAL,
        default=list(methods.CLASSICAL),
        metavar="METHOD",
        help=f"of {', '.join(methods.CLASSICAL)}; default: all",
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=plan.GROUPS,
        default=list(plan.GROUPS),
        metavar="GROUP",
        help="the groups below; default: all",
    )
    parser.add_argument(
        "--people",
        type=int,
        default=12,
        metavar="N",
        help="people who are moved or aligned with the template; default: 12",
    )
    parser.add_argument(
        "--pairs",
        type=int,
        default=12,
        metavar="N",
        help="pairs of people; default: 12",
    )
    parser.add_argument(
        "--spacing",
        type=float,
        metavar="MM",
        help="resample the images to cubic voxels of this size first, which is faster "
        "(not those of speed and command); default: no resampling, about 1 mm",
    )
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="scans of the people on whom nothing was chosen (4 of ds002748, 5 of "
        "oasis1_malf, 2 of lhdata) and synthetic heads that were not looked at",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="for results.csv and table.md; default: runs/registration, with "
        "--held-out runs/registration_held_out",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
