"""What a command sets up before it computes."""

import os
import platform
import subprocess
import sys

import pytest

# Tells of malloc's arenas once JAX has computed and many threads have taken memory.
PROGRAM = """
import ctypes, os, sys, threading
from mdvit_jax import runtime
if sys.argv[1] == "started":
    runtime.start()
import jax.numpy as jnp
jnp.ones((300, 300)).dot(jnp.ones((300, 300))).block_until_ready()
count = 10 * os.cpu_count()
together = threading.Barrier(count + 1)
def take():
    bytearray(100_000)
    together.wait()
for _ in range(count):
    threading.Thread(target=take).start()
together.wait()
c = ctypes.CDLL(None)
c.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(c.fopen(sys.argv[2].encode(), b"w"))
c.malloc_info(0, file)
c.fclose(file)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="it is of the GNU C library"
)
@pytest.mark.parametrize(
    ("start", "setting", "expected"),
    [("started", None, "one a core"), ("started", "1", "1"), ("not", None, "many")],
)
def test_threads_share_freed_memory_unless_the_user_says_otherwise(
    tmp_path, monkeypatch, start, setting, expected
):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    if setting:
        monkeypatch.setenv("MALLOC_ARENA_MAX", setting)
    told = tmp_path / "malloc.xml"
    subprocess.run([sys.executable, "-c", PROGRAM, start, str(told)], check=True)
    arenas = told.read_text().count("<heap nr=")
    cores = len(os.sched_getaffinity(0))
    # Without the program's start there are many: else this test would show nothing.
    if expected == "many":
        assert arenas > cores
    else:
        assert arenas == (cores if expected == "one a core" else 1)
