"""Copy the scans and label maps of a configuration, small, for a machine without data.

    PYTHONPATH=. python launch/small_copy.py --config configs/anything.py --output NEW

Writes the scans for training and validation on a grid of 2 mm in 8 bits, and the label
maps as one file; prints the options for train.py. Scans for the test are not copied.
"""

import argparse
from pathlib import Path

import nibabel
import numpy as np

from mdvit_jax import errors
from mdvit_jax.cli import parser
from mdvit_jax.config import load_config
from mdvit_jax.data import cohort, dataset, head_file, label_maps

VOXEL = 2.0  # mm; the grids that networks see are coarser


@errors.handle_user_errors
def main() -> int:
    """Read the configuration and write the copy."""
    command = parser.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_config()
    command.add_argument("--output", type=Path, required=True, help="the folder")
    options = command.parse_args()
    config = load_config(options.config, options.overrides)
    with config.unlocked():
        config.data.size = round(config.data.field_of_view / VOXEL)
        config.data.cache = ""
    folder = options.output / "scans"
    folder.mkdir(parents=True, exist_ok=True)
    parts = cohort.split(cohort.read(config), config)
    for scan in parts["train"] + parts["validation"]:
        made = dataset.conform_scan(scan, config)
        image = np.round(made.image * 255).astype(np.uint8)
        copy = nibabel.nifti1.Nifti1Image(image, made.to_world)
        copy.header.set_xyzt_units("mm")
        nibabel.save(copy, folder / f"{scan.subject}_T1w.nii.gz")
    flags = [f"--config.data.layout=bids --config.data.root={folder}"]
    if config.synthesis.pairs:
        path = options.output / "heads.npz"
        paths = sorted(Path(config.synthesis.heads).expanduser().glob("*.nii*"))
        head_file.write(
            path, label_maps.read_heads(paths, voxel=config.synthesis.voxel)
        )
        flags.append(f"--config.synthesis.heads={path}")
    print(" ".join(flags))
    return 0


if __name__ == "__main__":
    main()
