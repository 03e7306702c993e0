"""What is said for a process that was ended, and not for one that ends by itself."""

import signal
import subprocess
import sys

import pytest

from recorded_run import ROOT

PROGRAM = "import os; from mdvit_jax import last_words as l; l.leave('I am gone.'); "


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL, "I am gone.\n"),
        ("os.abort()", -signal.SIGABRT, "I am gone.\n"),
        ("", 0, ""),
        ("raise SystemExit(3)", 3, ""),
        ("l.take_back(); os._exit(4)", 4, ""),
    ],
)
def test_last_words(end, code, said):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + end], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr, done.stdout) == (code, said, "")
