"""Messages and exit codes of errors, and output that cannot be written."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mdvit_jax import errors
from mdvit_jax.training import distributed

ROOT = Path(__file__).resolve().parents[1]
MDVIT = [sys.executable, "-m", "mdvit_jax"]


@pytest.mark.parametrize("name", [None, "/run/metrics.jsonl"])
def test_a_folder_that_cannot_be_written_to(name):
    def write():
        with errors.explain_write_errors("/run"):
            raise OSError(errno.ENOSPC, "No space left on device", name)

    where = f"No space left on device{f': {name}' if name else ''}"
    with pytest.raises(errors.UserError, match=rf"^/run .*\({where}\); free space"):
        write()


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (errors.UserError("x."), 2, "error: x.\n"),
        (distributed.Lost("x."), 134, "error: x.\n"),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
    ],
)
def test_errors_differ_by_their_exit_codes(error, code, printed, capsys):
    @errors.handle_user_errors
    def main() -> int:
        raise error

    before = sys.stdout, sys.stderr
    assert main() == code
    assert capsys.readouterr().err == printed
    assert (sys.stdout, sys.stderr) == before


def test_a_bug_keeps_its_traceback():
    @errors.handle_user_errors
    def main() -> int:
        return 1 // 0

    with pytest.raises(ZeroDivisionError):
        main()


@pytest.fixture
def unread_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def full_pipe():
    """A pipe that does not block and whose reader is slow."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, bytes(4096))
        except BlockingIOError:
            break
    yield writer
    os.close(writer)
    os.close(reader)


@pytest.fixture
def full_disk():
    if not os.path.exists("/dev/full"):
        pytest.skip("/dev/full is of Linux")
    with open("/dev/full", "wb") as file:
        yield file.fileno()


@pytest.fixture
def gone_terminal():
    import pty

    ours, terminal = pty.openpty()
    os.close(ours)
    yield terminal
    os.close(terminal)


class Signalling(io.RawIOBase):
    """A file whose writing is interrupted by a signal."""

    def __init__(self):
        self.content = b""

    def writable(self):
        return True

    def write(self, data):
        if not self.content:
            signal.raise_signal(signal.SIGUSR1)
        self.content += bytes(data)
        return len(data)


def test_a_handler_of_signals_may_print_in_the_middle_of_a_write(monkeypatch):
    file = Signalling()
    stream = io.TextIOWrapper(io.BufferedWriter(file), line_buffering=True)
    monkeypatch.setattr(sys, "stdout", stream)

    @errors.handle_user_errors
    def main() -> int:
        print("whole")
        return 0

    before = signal.signal(signal.SIGUSR1, lambda *_: print("stop", flush=True))
    try:
        assert main() == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert file.content.startswith(b"whole\n")


@pytest.fixture
def transform(tmp_path):
    """The words of a command that converts a transform."""
    np.savetxt(tmp_path / "Größe.txt", np.eye(4))
    return ["convert", "--input", str(tmp_path / "Größe.txt"), "--output"]


@pytest.mark.parametrize(
    "stream", ["unread_pipe", "full_pipe", "full_disk", "gone_terminal"]
)
@pytest.mark.parametrize("buffered", ["", "1"])
def test_output_that_cannot_be_printed_is_dropped(
    transform, tmp_path, request, stream, buffered
):
    stdout = request.getfixturevalue(stream)
    environ = os.environ | {"PYTHONUNBUFFERED": buffered}
    words = [*MDVIT, *transform, str(tmp_path / "T.tfm")]
    done = subprocess.run(
        words, cwd=ROOT, env=environ, stdout=stdout, stderr=subprocess.PIPE, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "T.tfm").is_file()
    # A mistake is its exit code, too, and help is printed by argparse.
    for words, code in ((["convert"], 2), (["convert", "--help"], 0)):
        done = subprocess.run(
            [*MDVIT, *words], cwd=ROOT, env=environ, stdout=stdout, stderr=stdout
        )
        assert done.returncode == code


def test_closed_streams(transform, tmp_path):
    """The first file that the program opens must not become its standard output."""
    words = [*MDVIT, *transform, str(tmp_path / "T.tfm"), "--overwrite"]
    for closed in (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
        shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *words]
        done = subprocess.run(shell, cwd=ROOT, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        text = (tmp_path / "T.tfm").read_text()
        assert text.startswith("#Insight") and "Größe" not in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_an_encoding_lacks_are_escaped(tmp_path, encoding):
    program = """
from mdvit_jax import errors
@errors.handle_user_errors
def main():
    print("0.5 → 0.75")
    raise errors.UserError("ein → \\udce9")
raise SystemExit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert done.returncode == 2
    assert done.stdout == b"0.5 \\u2192 0.75\n"
    assert done.stderr == b"error: ein \\u2192 \\udce9\n"


def test_a_batch_goes_on_without_standard_error(tmp_path, unread_pipe):
    (tmp_path / "pairs.csv").write_text("fixed,moving\na.nii,b.nii\na.nii,c.nii\n")
    words = ["batch", "--pairs", tmp_path / "pairs.csv", "--output", tmp_path / "r"]
    done = subprocess.run(
        [*MDVIT, *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=unread_pipe,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1 and done.stdout.startswith("2 pairs: 2 error")
    rows = (tmp_path / "r/results.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["b", "c"]
