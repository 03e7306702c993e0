"""The folders of a run's checkpoints, `WORKDIR/checkpoints/STEP`, and what lies beside.

Each has SHA256SUMS once it is complete. Besides them there may be

- STEP.orbax-checkpoint-tmp, a save that was killed: removed when the run goes on;
- STEP.replaced, kept until the same step is saved again: put back if that was killed;
- STEP.damaged, which could not be used and was set aside. Nothing reads it.

Of several processes that share the folders, one renames and removes for all.
"""

import json
import logging
import shutil
from pathlib import Path

from mdvit_jax.training import sums

BY = "dsc"  # the validation metric that says which checkpoint is the best
_UNFINISHED = ".orbax-checkpoint-tmp"  # Orbax renames it when all is written

_logger = logging.getLogger(__name__)


class Unusable(Exception):
    """A checkpoint that cannot be used: its folder, and why, as words."""

    def __init__(self, folder: Path, why: str):
        super().__init__(f"{folder}: {why}")
        self.folder, self.why = folder, why


class Folders:
    """Those of one run."""

    def __init__(self, workdir: str | Path):
        """Nothing is made yet.

        Args:
            workdir: the run's folder.
        """
        self.root = Path(workdir).resolve() / "checkpoints"

    def of(self, step: int, ending: str = "") -> Path:
        """The folder of a step, with one of the endings above or without."""
        return self.root / f"{step}{ending}"

    def steps(self) -> list[int]:
        """Those that were saved completely, in rising order."""
        names = [p.name for p in self.root.glob("*") if p.name.isdecimal()]
        # Not 0013, which is no name that was written here.
        return sorted(int(name) for name in names if name == str(int(name)))

    def score(self, step: int) -> float | None:
        """The validation DSC that was saved with a step, if any was.

        Raises:
            Unusable: what the checkpoint says about it is damaged.
        """
        try:
            return json.loads((self.of(step) / "metrics/metrics").read_text())[BY]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError) as error:
            why = f"metrics/metrics cannot be read: {error}"
            raise Unusable(self.of(step), why) from error

    def check(self, step: int) -> None:
        """Raise `Unusable` if a checkpoint does not agree with its sums."""
        if (damage := sums.damage(self.of(step))) is not None:
            raise Unusable(self.of(step), damage)

    def tidy(self) -> None:
        """Make the folder of all; undo what a killed save has left half done."""
        self.root.mkdir(parents=True, exist_ok=True)
        for replaced in self.root.glob("*.replaced"):
            if replaced.with_suffix("").exists():
                shutil.rmtree(replaced, ignore_errors=True)
            else:
                replaced.rename(replaced.with_suffix(""))
        unfinished = sorted(self.root.glob(f"*{_UNFINISHED}"))
        if unfinished:
            names = ", ".join(path.name for path in unfinished)
            _logger.warning("%s: removed the unfinished save %s.", self.root, names)
        for path in unfinished:
            shutil.rmtree(path)

    def replace(self, step: int) -> None:
        """Make way for the same step, which is kept until `seal`."""
        self.of(step).rename(self.of(step, ".replaced"))

    def seal(self, step: int) -> None:
        """Write the sums of a step that is complete."""
        sums.write(self.of(step))
        shutil.rmtree(self.of(step, ".replaced"), ignore_errors=True)

    def set_aside(self, step: int) -> None:
        """Take a step that cannot be used out of the way of those that can."""
        aside = self.of(step, ".damaged")
        shutil.rmtree(aside, ignore_errors=True)  # of an earlier time
        if aside.is_file():  # it is nobody's checkpoint
            aside.unlink()
        self.of(step).rename(aside)
