"""Deadlines of one length as a queue."""

import pytest

from tests.support.harness import Idle, run_until_idle, sleeping_loop


def test_deadlines_expire_in_the_order_in_which_they_were_set():
    loop, clock, _ = sleeping_loop()
    start, seen = clock.now, []
    queue = loop.deadlines(5.0, lambda owner: seen.append((owner, clock.now - start)))
    queue.arm("a")
    loop.call_later(1, lambda: queue.arm("b"))
    loop.call_later(2, lambda: queue.arm("c"))
    loop.call_later(3, lambda: queue.arm("a"))  # from the beginning again
    loop.call_later(4, lambda: queue.disarm("b"))
    run_until_idle(loop)
    assert seen == [("c", 7), ("a", 8)]
    assert len(queue) == 0


def test_deadlines_set_before_the_loop_was_blocked_are_postponed_by_that_time():
    loop, clock, _ = sleeping_loop()
    start, seen = clock.now, []
    queue = loop.deadlines(5.0, lambda owner: seen.append((owner, clock.now - start)))
    queue.arm("before")

    def block():
        queue.arm("a")
        queue.arm("b")
        clock.now += 30

    loop.call_later(1, block)
    run_until_idle(loop)
    assert seen == [("before", 31), ("a", 36), ("b", 36)]


def test_a_deadline_may_be_armed_again_from_its_own_expiry():
    loop, clock, _ = sleeping_loop()
    seen = []

    def expired(owner):
        seen.append(clock.now)
        if len(seen) < 3:
            queue.arm(owner)

    queue = loop.deadlines(1.0, expired)
    queue.arm("a")
    run_until_idle(loop)
    assert [now - seen[0] for now in seen] == [0, 1, 2]


def test_deadlines_of_infinite_length_never_wake_the_loop():
    loop, _, _ = sleeping_loop()
    queue = loop.deadlines(float("inf"), lambda owner: pytest.fail("expired"))
    queue.arm("a")
    with pytest.raises(Idle):
        loop.turn()


def test_arming_ten_thousand_deadlines_again_and_again_costs_no_scan():
    # Not a timed test: the count of looks at the queue is what must not grow.
    loop, clock, _ = sleeping_loop()
    queue = loop.deadlines(5.0, lambda owner: None)
    looks = 0

    class Counting(type(queue)):
        __slots__ = ()

        def expire(self):
            nonlocal looks
            looks += 1
            super().expire()

    queue.__class__ = Counting
    loop.call_soon(lambda: None)
    for owner in range(10_000):
        queue.arm(owner)
    for _ in range(1000):
        clock.now += 0.001
        queue.arm(7)
        loop.turn(0)
    assert looks == 0
