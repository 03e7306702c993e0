"""Does training in bfloat16 learn as training in float32 does? Curves of both.

    for seed in 0 1 2; do  # each has people of its own
        settings="--config configs/quickstart.py --config.seed=$seed \\
            --config.data.cache=cache/quickstart-$seed"
        python -m mdvit_jax prepare $settings
        for dtype in float32 bfloat16; do
            python train.py $settings --config.model.compute_dtype=$dtype \\
                --config.workdir=runs/precision/quickstart/$dtype-$seed
        done
    done
    # and on real scans, with one cohort for all seeds: --config configs/table1.py
    #   --config.optim.steps=600 --config.validation.every=150
    python -m benchmarks.precision runs/precision/quickstart runs/precision/table1 \\
        --output precision.png

Draws training loss and validation overlap of all runs of a folder, a row of plots for
each folder, and prints the last of both: mean and range over the seeds. With the same
seed both dtypes have the same people, pairs and first weights.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from mdvit_jax.plots import curves, panels

COLOURS = {"float32": panels.FIRST, "bfloat16": panels.SECOND}
Series = Mapping[str, tuple[NDArray, NDArray]]


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="of runs DTYPE-SEED")
    parser.add_argument("--output", type=Path, required=True, help="the picture")
    options = parser.parse_args()
    count = len(options.folders)
    figure = panels.create_figure(11.0, 3.6 * count)
    figure.subplots_adjust(0.06, 0.4 / count / 3.6, 0.98, 1 - 0.1 / count, 0.14, 0.3)
    print(
        "| runs | dtype | seeds | last tenth of the loss | DSC |\n|---|---|---|---|---|"
    )
    rows = figure.subplots(count, 2, squeeze=False)
    for folder, (left, right) in zip(options.folders, rows, strict=True):
        curves.style_axis(left, f"{folder.name}: training loss, running mean")
        curves.style_axis(right, f"{folder.name}: validation DSC")
        for dtype, colour in COLOURS.items():
            paths = sorted(folder.glob(f"{dtype}-*/metrics.jsonl"))
            runs = [curves.read_series(path, "loss", "dsc") for path in paths]
            for run in runs:
                draw(left, right, run, colour, dtype if run is runs[0] else None)
            losses = [tail_mean(run["loss"][1]) for run in runs]
            overlaps = [run["dsc"][1][-1] for run in runs]
            print(
                f"| {folder.name} | {dtype} | {len(runs)} | {spread(losses)} | "
                f"{spread(overlaps)} |"
            )
        left.legend(frameon=False, labelcolor=panels.TEXT, fontsize=9)
    panels.save_figure(figure, options.output)


def draw(left: Axes, right: Axes, run: Series, colour: str, label: str | None) -> None:
    """The curves of one run; the first of a dtype has the label."""
    smooth = max(1, len(run["loss"][0]) // 20)
    style: dict[str, Any] = {"color": colour, "lw": 1.2, "alpha": 0.85}
    left.plot(*curves.running_mean(*run["loss"], smooth), label=label, **style)
    right.plot(*run["dsc"], "o-", ms=3, **style)


def tail_mean(values: NDArray) -> float:
    """The mean of the last tenth."""
    return values[-max(1, len(values) // 10) :].mean()


def spread(values: list[float]) -> str:
    """Mean, lowest and highest."""
    if not values:
        return ""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
