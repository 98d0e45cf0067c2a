"""sleep and to_thread."""

import contextvars
import threading
import time

from pounce.kernel.loop import Loop
from pounce.kernel.task import Cancelled, spawn
from pounce.kernel.waits import sleep, to_thread
from tests.kernel.outcome import Outcome
from tests.support.harness import run_until_idle, sleeping_loop


def test_sleep_takes_its_time():
    loop, clock, _ = sleeping_loop()
    start, seen = clock.now, []

    async def ticker(name, seconds):
        for _ in range(3):
            await sleep(seconds)
            seen.append((name, clock.now - start))

    for name, seconds in (("a", 2), ("b", 3)):
        spawn(loop, ticker(name, seconds), Outcome())
    run_until_idle(loop)
    assert seen == [("a", 2), ("b", 3), ("a", 4), ("b", 6), ("a", 6), ("b", 9)]


def test_sleep_of_zero_gives_the_others_their_turn():
    loop, _, _ = sleeping_loop()
    seen = []

    async def polite():
        await sleep(0)
        seen.append("polite")

    spawn(loop, polite(), Outcome())
    loop.call_soon(lambda: seen.append("other"))
    run_until_idle(loop)
    assert seen == ["other", "polite"]


def run_for_real(coroutine):
    loop, outcome = Loop(), Outcome()
    spawn(loop, coroutine, outcome)
    deadline = time.monotonic() + 30
    while not outcome.calls and time.monotonic() < deadline:
        loop.turn(1.0)
    loop.close()
    return outcome


def test_to_thread_runs_a_function_with_the_callers_context():
    variable = contextvars.ContextVar("variable")

    def function(a, *, b):
        return threading.current_thread(), variable.get(), a + b

    async def main():
        variable.set("seen")
        return await to_thread(function, 1, b=2)

    thread, seen, total = run_for_real(main()).value
    assert thread is not threading.current_thread()
    assert (seen, total) == ("seen", 3)


def test_to_thread_raises_what_the_function_raises():
    async def main():
        try:
            await to_thread(int, "x")
        except ValueError as error:
            return str(error)

    assert "invalid literal" in run_for_real(main()).value


def test_cancel_of_to_thread_does_not_wait_for_the_thread():
    release = threading.Event()
    loop, outcome = Loop(), Outcome()

    async def main():
        await to_thread(release.wait, 30)

    task = spawn(loop, main(), outcome)
    task.cancel()
    loop.turn(0)
    assert isinstance(outcome.error, Cancelled)
    loop.close()
    release.set()  # the helper's report finds the loop closed, and nobody is hurt
