"""What is said to a file, and what to somebody who is not there any more."""

import os
import pty
import subprocess
import sys

import pytest

from recorded_run import ROOT

# Prints, and tells by its exit code whether the reader is said to be gone.
PRINTS = """
import sys
from mdvit_jax import streams
streams.outlast()
for file in (sys.stdout, sys.stderr):
    print("Größe " * 10_000, file=file)
    file.flush()
raise SystemExit(5 + streams.reader_gone())
"""


def said_to(stdout):
    program = [sys.executable, "-c", PRINTS]
    done = subprocess.run(program, cwd=ROOT, stdout=stdout, stderr=stdout, timeout=60)
    return done.returncode


def test_what_is_printed_to_a_file_is_there(tmp_path):
    with (tmp_path / "log").open("w") as log:
        assert said_to(log) == 5
    assert (tmp_path / "log").read_text() == ("Größe " * 10_000 + "\n") * 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="it is of Linux")
def test_what_does_not_fit_on_a_disk_is_dropped():
    with open("/dev/full", "w") as full:
        assert said_to(full) == 5


def test_what_a_terminal_that_is_gone_would_show_is_dropped():
    ours, terminal = pty.openpty()
    os.close(ours)
    try:
        assert said_to(terminal) == 5
    finally:
        os.close(terminal)


@pytest.mark.parametrize(("closed", "code"), [(False, 5), (True, 6)])
def test_a_pipe_without_a_reader_is_told_from_a_full_one(closed, code):
    ours, pipe = os.pipe()
    os.set_blocking(pipe, False)
    try:
        if closed:
            os.close(ours)
        assert said_to(pipe) == code
    finally:
        os.close(pipe)
        if not closed:
            os.close(ours)
