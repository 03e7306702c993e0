"""What an error says, and the exit code that it becomes."""

import errno

import pytest

from mdvit_jax import errors
from mdvit_jax.training import distributed


@pytest.mark.parametrize("name", [None, "/run/metrics.jsonl"])
def test_a_folder_that_cannot_be_written_to(name):
    def write():
        with errors.unwritable_told("/run"):
            raise OSError(errno.ENOSPC, "No space left on device", name)

    where = f"No space left on device{f': {name}' if name else ''}"
    with pytest.raises(errors.UserError, match=rf"^/run .*\({where}\); free space"):
        write()


@pytest.mark.parametrize(
    ("error", "code"), [(errors.UserError("x."), 2), (distributed.Lost("x."), 134)]
)
def test_a_mistake_and_a_lost_process_differ_by_their_exit_codes(error, code, capsys):
    @errors.handle_user_errors
    def main() -> int:
        raise error

    assert main() == code
    assert capsys.readouterr().err == "error: x.\n"
