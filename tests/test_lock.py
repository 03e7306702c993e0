"""A folder is one program's at a time, and never for longer than it lives."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from mdvit_jax.io import lock

HOLDER = """
import sys
from mdvit_jax.io import lock
with lock.hold(sys.argv[1], "taken"):
    print("held", flush=True)
    sys.stdin.read()
"""


def second(folder) -> None:
    with lock.hold(folder, "another one is here"):
        pass


def holder(folder) -> subprocess.Popen:
    """A program that holds the folder until it is ended."""
    program = [sys.executable, "-c", HOLDER, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(program, text=True, **pipes)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("kill", [False, True])
def test_a_second_one_is_refused_while_the_first_lives(tmp_path, kill):
    for _ in range(2):  # the file of the first one is nobody's
        with holder(tmp_path) as process:
            with pytest.raises(lock.Taken, match="another one is here"):
                second(tmp_path)
            if kill:
                process.send_signal(signal.SIGKILL)
            process.communicate()
        second(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        assert (tmp_path / ".lock").stat().st_size == 0


def test_what_is_locked_is_a_file_open_for_writing(tmp_path, monkeypatch):
    """As NFS asks for, where a folder would be locked on one machine only."""
    locked = []
    monkeypatch.setattr(fcntl, "flock", lambda opened, how: locked.append(opened))
    with lock.hold(tmp_path, ""):
        (opened,) = locked
        assert os.path.samestat(os.fstat(opened), (tmp_path / ".lock").stat())
        assert fcntl.fcntl(opened, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        assert not os.get_inheritable(opened)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_where_no_file_can_be_made_nobody_is_kept_out(tmp_path, monkeypatch, number):
    opens = os.open

    def refused(path, flags, *mode):
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number), str(path))
        return opens(path, flags, *mode)

    monkeypatch.setattr(os, "open", refused)
    with lock.hold(tmp_path, ""):
        second(tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_file_of_somebody_else_keeps_a_second_one_out(tmp_path, monkeypatch):
    opens = os.open

    def refused(path, flags, *mode):
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opens(path, flags, *mode)

    with lock.hold(tmp_path, ""):
        monkeypatch.setattr(os, "open", refused)
        with pytest.raises(lock.Taken):
            second(tmp_path)


def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path, monkeypatch):
    def without(opened, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without)
    with lock.hold(tmp_path, ""):
        second(tmp_path)
