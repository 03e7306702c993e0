"""What is told of a save that failed."""

CLOSED_LOOP = """
import asyncio, threading, tensorstore
from mdvit_jax.training import save_errors

async def read(future):
    return await future

async def begin(future):
    asyncio.ensure_future(read(future))
    await asyncio.sleep(0)  # it waits now

class Bad:
    def __del__(self):
        raise ValueError("another")

for _ in range(2):
    promise, future = tensorstore.Promise.new()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin(future))
    loop.close()
    thread = threading.Thread(target=promise.set_result, args=[3])
    thread.start()
    thread.join()
    save_errors.tell_once()
    Bad()
"""


def test_what_tensorstore_says_after_a_save_failed_is_not_told(run_python):
    said = run_python(CLOSED_LOOP).stderr
    assert said.count("RuntimeError: Event loop is closed") == 1, said  # the first time
    assert said.count("ValueError: another") == 2
