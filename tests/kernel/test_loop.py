"""The loop and its deadlines, without descriptors: only time passes."""

import threading
import time

import pytest

from pounce.kernel.loop import READ, Loop
from tests.support.harness import Idle, run_until_idle, skipping_loop, sleeping_loop


# Found by reading the code.
def test_a_timer_in_the_far_future_does_not_overflow_the_wait():
    loop = Loop()
    loop.call_later(1e9, int)
    loop.post(int)
    loop.turn()
    loop.turn(0)
    loop.post(int)
    loop.turn()
    loop.close()


def test_a_loop_says_how_long_it_is_busy():
    loop, selector = skipping_loop()
    seen = []

    def block():
        selector.clock.now += 7.0
        seen.append(loop.clock() - loop.busy_since)

    loop.call_soon(block)
    selector.skip = 0.001
    loop.turn(0)
    assert seen == [7.0]
    select, selector.select = selector.select, lambda timeout: [seen.append(loop.busy_since), select(timeout)][1]
    loop.turn(0)
    assert seen[1] == float("inf")


def test_a_turn_does_its_steps_in_order():
    loop, clock, selector = sleeping_loop()
    seen = []
    loop.watch("socket", READ, lambda events: seen.append(("readiness", events)))
    selector.make_ready("socket")
    loop.call_soon(lambda: seen.append("ready"))
    loop.call_at(clock.now, lambda: seen.append("due"))
    loop.turn()
    assert seen == [("readiness", READ), "due", "ready"]


def test_what_is_made_ready_in_a_turn_waits_for_the_next():
    loop, _, selector = sleeping_loop()
    seen = []
    loop.watch("socket", READ, lambda _: seen.append("readiness"))

    def again():
        seen.append("ready")
        selector.make_ready("socket")
        loop.call_soon(again)

    loop.call_soon(again)
    for _ in range(3):
        loop.turn()
    assert seen == ["ready", "readiness", "ready", "readiness", "ready"]


def test_select_waits_for_ever_without_work_and_not_at_all_with_work():
    loop, _, selector = sleeping_loop()
    with pytest.raises(Idle):
        loop.turn()
    loop.call_soon(lambda: None)
    loop.turn()
    assert selector.waits == [None, 0.0]


def test_timers_fire_in_order_of_time_and_of_setting():
    loop, clock, _ = sleeping_loop()
    start, seen = clock.now, []
    for delay, name in ((2, "b"), (1, "a"), (2, "c")):
        loop.call_later(delay, lambda name=name: seen.append((name, clock.now - start)))
    cancelled = loop.call_later(1.5, lambda: seen.append("never"))
    cancelled.cancel()
    run_until_idle(loop)
    assert seen == [("a", 1), ("b", 2), ("c", 2)]


def test_an_exception_leaves_the_turn_and_the_rest_is_done_in_the_next():
    loop, clock, _ = sleeping_loop()
    seen = []

    def fail():
        raise ZeroDivisionError

    for call in (lambda: seen.append("first"), fail, lambda: seen.append("last")):
        loop.call_soon(call)
    loop.call_at(clock.now, fail)
    loop.call_at(clock.now, lambda: seen.append("timer"))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            loop.turn()
    loop.turn()
    assert sorted(seen) == ["first", "last", "timer"]


def test_post_from_many_threads_arrives_with_one_wake_up_per_batch():
    loop = Loop()
    wakes, seen = 0, []
    take = loop._take_posted

    def counting(events):
        nonlocal wakes
        wakes += 1
        take(events)

    loop.rewatch(loop._wake_reader, READ, counting)
    threads, each = 8, 2000
    barrier = threading.Barrier(threads)

    def poster(number):
        barrier.wait()
        for i in range(each):
            loop.post(lambda i=i: seen.append((number, i)))

    started = [threading.Thread(target=poster, args=(n,)) for n in range(threads)]
    for thread in started:
        thread.start()
    deadline = time.monotonic() + 30
    while len(seen) < threads * each and time.monotonic() < deadline:
        loop.turn(1.0)
    for thread in started:
        thread.join()
    assert len(seen) == threads * each
    for number in range(threads):  # what one thread posts comes in its order
        mine = [place for place, (who, _) in enumerate(seen) if who == number]
        assert mine == sorted(mine)
    assert wakes <= len(seen)
    for _ in range(3):
        loop.post(lambda: seen.append("batch"))
    before = wakes
    loop.turn(1.0)
    assert (wakes - before, seen[-3:]) == (1, ["batch"] * 3)


def test_post_to_a_closed_loop_raises():
    loop = Loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.post(lambda: None)
