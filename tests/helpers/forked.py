"""Programs in processes of their own that need not import the package.

A command imports for seconds. A server of `multiprocessing` does so once, computes
nothing, and is forked for each program.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parents[2]

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["mdvit_jax.training.loop", "mdvit_jax.cli.startup"])


class Program:
    """`python ARGUMENT...` at the root; used like a `subprocess.Popen`."""

    def __init__(self, arguments, environ: dict[str, str]):
        self._folder = tempfile.TemporaryDirectory()
        self._output = Path(self._folder.name) / "output"  # stdout and stderr
        self._output.touch()
        arguments = [*map(str, arguments)]
        self._process = _server.Process(
            target=_run, args=(arguments, environ, str(self._output))
        )
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"still running after {timeout} s: {self.output()}")
        return self.returncode

    def output(self) -> str:
        return self._output.read_text()

    def communicate(self, timeout: float = 100) -> tuple[str, None]:
        self.wait(timeout)
        return self.output(), None


def _run(arguments: list[str], environ: dict[str, str], output: str) -> None:
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environ)
    # What JAX read when it was imported.
    jax.config.update("jax_platforms", environ.get("JAX_PLATFORMS"))
    jax.config.update("jax_compilation_cache_dir", environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    quick = environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1"
    jax.config.update("jax_disable_most_optimizations", quick)
    devices = int(environ.get("JAX_NUM_CPU_DEVICES", "1"))
    jax.config.update("jax_num_cpu_devices", devices)
    sys.argv = arguments
    if arguments[0] == "-c":
        exec(arguments.pop(1), {"__name__": "__main__"})
    else:
        runpy.run_path(arguments[0], run_name="__main__")
