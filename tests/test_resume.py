"""Two processes, one of which sees late, or never, what the other one has written."""

import pytest

from recorded_run import start_together

# Each process has a folder of its own, as the view that a machine has of one folder:
# what is said to come late is made by the second process in its own.
PROGRAM = """
import json, sys, threading, time
from pathlib import Path

from mdvit_jax import errors, processes
processes.join()
import jax
from mdvit_jax.training import folders, one_folder

here = Path(sys.argv[1]) / str(jax.process_index())
late = json.loads(sys.argv[2])
one_folder._WAIT = float(sys.argv[3])

def make(name):
    if name.endswith("/"):
        (here / name).mkdir(parents=True)
    else:
        (here / name).touch()

if jax.process_index() == 1:
    threading.Timer(2, lambda: [make(name) for name in late]).start()
try:
    before = time.monotonic()
    steps = one_folder.agreed_steps(folders.Folders(here))
    if jax.process_index() == 0:
        (here / "config.json").touch()
    one_folder.check_one_folder(here, first=max(steps))
    print(steps, time.monotonic() - before < 30)
except errors.UserError as error:
    print(error)
"""


def both(folder, late: str, wait: float) -> list[str]:
    """What the two processes print."""
    started = start_together(PROGRAM, str(folder), late, str(wait))
    said = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    return [out for out, _ in said]


@pytest.fixture
def folder(tmp_path):
    """The first process has the steps 5 and 10; the second one an old listing."""
    for name in ("0/checkpoints/5", "0/checkpoints/10", "1/checkpoints/5"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "1/checkpoints/12").mkdir()
    return tmp_path


def test_what_comes_late_is_waited_for(folder):
    late = '["checkpoints/10/", "config.json"]'
    for said in both(folder, late, 60):
        assert said.endswith("[5, 10] True\n")  # after what Gloo says


@pytest.mark.parametrize("late", ['["config.json"]', '["checkpoints/10/"]'])
def test_a_folder_that_is_another_one_is_told_after_a_while(folder, late):
    for said in both(folder, late, 3):
        assert "The 2 processes do not see the same files in" in said
