"""A folder is locked by one program at a time, and unlocked when the program ends."""

import errno
import os
import signal
import subprocess
import sys

import filelock
import pytest

from mdvit_jax.io import lock

HOLDER = """
import sys
from mdvit_jax.io import lock
with lock.hold(sys.argv[1], "taken"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold_as_second(folder) -> None:
    with lock.hold(folder, "another one is here"):
        pass


def start_holder(folder) -> subprocess.Popen:
    """Start a program that holds the folder until it is killed."""
    program = [sys.executable, "-c", HOLDER, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(program, text=True, **pipes)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("kill", [False, True])
def test_a_second_program_is_refused_while_the_first_lives(tmp_path, kill):
    for _ in range(2):  # the file of the first one is nobody's
        with start_holder(tmp_path) as process:
            with pytest.raises(lock.Taken, match="another one is here"):
                hold_as_second(tmp_path)
            if kill:
                process.send_signal(signal.SIGKILL)
            process.communicate()
        hold_as_second(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_second_one_in_the_same_program_is_refused(tmp_path):
    with lock.hold(tmp_path, ""), pytest.raises(lock.Taken):
        hold_as_second(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_there_is_a_warning(tmp_path, monkeypatch, caplog, number):
    def fail(self, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    with lock.hold(tmp_path, ""):
        hold_as_second(tmp_path)
    assert len(caplog.records) == 2
    assert "file system without locks" in caplog.text


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        hold_as_second(tmp_path / "file")
