"""Several processes share the folder of their run, or are refused."""

from helpers.recorded_run import start_together

PROGRAM = """
import sys
from etils import epath
from mdvit_jax import errors
import jax
from mdvit_jax.training import resume

for folders in (("run", "run"), ("here", "there")):
    try:
        folder = epath.Path(sys.argv[1]) / folders[jax.process_index()]
        with resume.hold_folder(folder):
            print("held", folder.name)
    except errors.UserError as error:
        print(error)
"""


def test_processes_with_different_folders_are_refused(tmp_path):
    for process in start_together(PROGRAM, str(tmp_path)):
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0 and "held run\n" in output, output
        assert "The 2 processes do not see the same files in" in output
        assert "held here" not in output and "held there" not in output
    names = [path.name for path in tmp_path.glob("*/*")]
    assert set(names) == {".lock"}  # nothing of the question is left


DAMAGED = """
import sys
import numpy as np
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from mdvit_jax.training import checkpoint, step
everywhere = NamedSharding(jax.make_mesh((2,), ("data",)), PartitionSpec())

def state(number):
    arrays = {"kernel": jnp.full((3, 4), float(number))}
    return step.TrainState(*jax.device_put((jnp.int32(number), arrays, ()), everywhere))

with checkpoint.Checkpoints(sys.argv[1], keep=3) as saved:
    for number in (1, 2, 3):
        saved.save(number, state(number))
    saved.wait()
    distributed.wait_for_all("saved")
    if jax.process_index() == 0:
        (saved.root / "3/params/_METADATA").write_text("")
        (saved.root / "2/SHA256SUMS").unlink()
        (saved.root / "2/params/_METADATA").write_text("")
    distributed.wait_for_all("damaged")
    restored, number = saved.restore(state(0))
kernel = np.asarray(restored.params["kernel"].addressable_data(0))
print("step", number, int(kernel[0, 0]))
"""


def test_processes_agree_on_the_newest_checkpoint_that_can_be_used(tmp_path):
    """The sums of one do not match, and another cannot be loaded."""
    for process in start_together(DAMAGED, str(tmp_path)):
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0 and "step 1 1\n" in output, output
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["1", "2.damaged", "3.damaged"]
