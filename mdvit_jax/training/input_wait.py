"""Whether the devices wait for scans: what says if loading is too slow."""

from typing import Any

_MUCH = 0.1  # share of steps that began late from which the run says what helps


class InputWait:
    """Counts the steps that began late because their scans did.

    The devices work on a step while the scans of the next are awaited. If they are
    done before these come, they have to wait, however many batches workers are ahead.
    """

    def __init__(self) -> None:
        """No step yet."""
        self.steps = self.late = 0

    def scans_came(self, before: Any | None) -> None:
        """Count a step, by an array that the step before gives; None: there is none.

        Validation and saves end with the devices at rest: the step after says nothing.
        """
        if before is not None:
            self.steps += 1
            self.late += before.is_ready()

    def summary(self, workers: int) -> str:
        """A sentence for the end of a run, with advice where loading was too slow."""
        told = f"The devices waited for scans before {self.late} of {self.steps} steps"
        if self.late <= _MUCH * self.steps:
            return told + "."
        return (
            f"{told}; a prepared data.cache makes loading faster, and another number "
            f"than {workers} of data.workers may (0 if reading takes milliseconds)."
        )
