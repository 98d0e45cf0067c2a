"""The loop, its deadlines and its tasks, in a world where nothing exists but time."""

import contextvars
import sys
import threading
import time

import pytest

from pounce.kernel.loop import READ, Loop
from pounce.kernel.task import MAX_FRAMES, Cancelled, State, Task, Wait, await_stack, spawn
from pounce.kernel.waits import sleep, to_thread
from tests.support.harness import Idle, run_until_idle, sleeping_loop


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


def test_a_loop_with_nothing_to_do_waits_for_ever_and_one_with_work_does_not_wait():
    loop, _, selector = sleeping_loop()
    with pytest.raises(Idle):
        loop.turn()
    loop.call_soon(lambda: None)
    loop.turn()
    assert selector.waits == [None, 0.0]


def test_timers_fire_in_order_of_time_and_equal_ones_in_order_of_setting():
    loop, clock, _ = sleeping_loop()
    start, seen = clock.now, []
    for delay, name in ((2, "b"), (1, "a"), (2, "c")):
        loop.call_later(delay, lambda name=name: seen.append((name, clock.now - start)))
    cancelled = loop.call_later(1.5, lambda: seen.append("never"))
    cancelled.cancel()
    run_until_idle(loop)
    assert seen == [("a", 1), ("b", 2), ("c", 2)]


def test_an_exception_leaves_the_turn_and_what_it_had_not_done_is_done_in_the_next():
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


def test_time_that_somebody_blocked_the_loop_is_given_back_to_whoever_has_a_deadline_since_then():
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


def test_deadlines_without_an_end_never_wake_the_loop():
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


def test_posts_from_many_threads_all_arrive_with_one_wake_up_per_batch():
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


def test_posting_to_a_closed_loop_says_so():
    loop = Loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.post(lambda: None)


# Tasks


class Outcome:
    """Keeps how a coroutine ended."""

    def __init__(self):
        self.calls = []

    def __call__(self, value, error):
        self.calls.append((value, error))

    @property
    def value(self):
        ((value, error),) = self.calls
        assert error is None, repr(error)
        return value

    @property
    def error(self):
        ((_, error),) = self.calls
        return error


def test_a_coroutine_that_never_waits_is_over_at_once_and_becomes_no_task():
    loop, _, _ = sleeping_loop()
    outcome = Outcome()

    async def main():
        return 42

    assert spawn(loop, main(), outcome) is None
    assert outcome.value == 42


def test_a_task_waits_and_goes_on_with_what_it_was_woken_with():
    loop, _, _ = sleeping_loop()
    outcome, wait = Outcome(), Wait()

    async def main():
        return await wait

    task = spawn(loop, main(), outcome)
    assert task.state is State.WAITING
    wait.wake("tea")
    wait.wake("coffee")  # too late
    assert task.state is State.READY
    loop.turn()
    assert (task.state, outcome.value) == (State.DONE, "tea")


def test_a_wait_that_has_come_true_already_does_not_suspend():
    loop, _, _ = sleeping_loop()
    outcome, wait = Outcome(), Wait()
    wait.wake("early")

    async def main():
        return await wait

    assert spawn(loop, main(), outcome) is None
    assert outcome.value == "early"


def test_a_failed_wait_raises_where_the_task_waits():
    loop, _, _ = sleeping_loop()
    outcome, wait = Outcome(), Wait()

    async def main():
        try:
            await wait
        except OSError as error:
            return str(error)

    spawn(loop, main(), outcome)
    wait.fail(OSError("gone"))
    loop.turn()
    assert outcome.value == "gone"


def test_an_exception_ends_the_task_and_not_the_loop():
    loop, _, _ = sleeping_loop()
    outcome = Outcome()

    async def main():
        await sleep(1)
        raise KeyboardInterrupt

    spawn(loop, main(), outcome)
    run_until_idle(loop)
    assert isinstance(outcome.error, KeyboardInterrupt)


def test_cancelling_throws_at_the_wait_and_stops_its_timer():
    loop, _, _ = sleeping_loop()
    outcome, seen = Outcome(), []

    async def main():
        try:
            await sleep(100)
        finally:
            seen.append("cleaned up")

    task = spawn(loop, main(), outcome)
    task.cancel()
    loop.turn()
    assert isinstance(outcome.error, Cancelled)
    assert seen == ["cleaned up"]
    task.cancel()  # no effect
    run_until_idle(loop)
    assert len(outcome.calls) == 1


def test_a_coroutine_may_catch_its_cancellation_and_go_on():
    loop, _, _ = sleeping_loop()
    outcome = Outcome()

    async def main():
        try:
            await sleep(100)
        except Cancelled:
            await sleep(1)
            return "went on"

    task = spawn(loop, main(), outcome)
    task.cancel()
    run_until_idle(loop)
    assert outcome.value == "went on"


def test_cancelling_a_running_task_takes_effect_at_its_next_wait():
    loop, _, _ = sleeping_loop()
    outcome, seen = Outcome(), []

    async def main():
        await sleep(1)
        task.cancel()
        seen.append("still running")
        await sleep(1)
        seen.append("never")

    task = spawn(loop, main(), outcome)
    run_until_idle(loop)
    assert isinstance(outcome.error, Cancelled)
    assert seen == ["still running"]


def test_cancelling_a_woken_task_cancels_it():
    loop, _, _ = sleeping_loop()
    outcome, wait = Outcome(), Wait()

    async def main():
        await wait

    task = spawn(loop, main(), outcome)
    wait.wake()
    task.cancel()
    loop.turn()
    assert isinstance(outcome.error, Cancelled)


def test_awaiting_something_foreign_raises_in_the_coroutine():
    loop, _, _ = sleeping_loop()
    outcome = Outcome()

    class Foreign:
        def __await__(self):
            yield "a future of another loop"

    async def main():
        try:
            await Foreign()
        except TypeError as error:
            return str(error)

    spawn(loop, main(), outcome)
    loop.turn()
    assert "another event loop" in outcome.value


def test_each_task_has_context_variables_of_its_own():
    loop, _, _ = sleeping_loop()
    variable = contextvars.ContextVar("variable", default="outside")
    outcomes = [Outcome(), Outcome()]

    async def main(value):
        before = variable.get()
        variable.set(value)
        await sleep(1)
        return before, variable.get()

    for value, outcome in enumerate(outcomes):
        spawn(loop, main(value), outcome)
    run_until_idle(loop)
    assert [outcome.value for outcome in outcomes] == [("outside", 0), ("outside", 1)]
    assert variable.get() == "outside"


def test_sleeping_takes_the_time_it_says():
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


def test_sleeping_for_nothing_lets_the_others_go_first():
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


def test_a_function_runs_in_a_helper_thread_with_the_callers_context():
    variable = contextvars.ContextVar("variable")

    def function(a, *, b):
        return threading.current_thread(), variable.get(), a + b

    async def main():
        variable.set("seen")
        return await to_thread(function, 1, b=2)

    thread, seen, total = run_for_real(main()).value
    assert thread is not threading.current_thread()
    assert (seen, total) == ("seen", 3)


def test_what_a_helper_thread_raises_is_raised_where_it_was_awaited():
    async def main():
        try:
            await to_thread(int, "x")
        except ValueError as error:
            return str(error)

    assert "invalid literal" in run_for_real(main()).value


def test_cancelling_a_wait_for_a_helper_thread_does_not_wait_for_it():
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


def test_the_stack_of_a_waiting_task_can_be_shown():
    loop, _, _ = sleeping_loop()

    async def inner():
        await sleep(1)

    async def generator():
        yield await inner()

    async def outer():
        async for _ in generator():
            pass

    task = spawn(loop, outer(), Outcome())
    names = [name.rsplit(".", 1)[-1] for _, _, name in task.stack()]
    assert names[0] == "outer"
    assert isinstance(task, Task)
    assert await_stack(None) == []


def test_the_stack_of_a_deep_chain_ends_where_it_waits():
    loop, _, _ = sleeping_loop()

    async def innermost():
        await sleep(1)

    async def nested(depth):
        await (nested(depth - 1) if depth else innermost())

    places = spawn(loop, nested(200), Outcome()).stack()
    assert "innermost" in [name.rsplit(".", 1)[-1] for _, _, name in places[200:]]


class Answering:
    """An application's own way to wait for `sleep`, which says of itself what a test wants it to."""

    def __init__(self, answer):
        self.answer = answer
        self.iterator = sleep(1).__await__()

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.iterator)

    def close(self):
        self.iterator.close()

    def __getattr__(self, name):
        return self.answer(self)


def raising(error):
    def answer(_):
        raise error

    return answer


@pytest.mark.parametrize(
    "answer",
    [lambda self: self, lambda _: sys._getframe(), *map(raising, [ValueError(), Cancelled(), SystemExit()])],
    ids=["itself", "a frame", "an error", "Cancelled", "SystemExit"],
)
def test_what_an_application_awaits_may_answer_anything(answer):
    loop, _, _ = sleeping_loop()

    async def main():
        await Answering(answer)

    places = spawn(loop, main(), Outcome()).stack()
    assert places[0][2].endswith("main")
    assert all(tuple(map(type, place)) == (str, int, str) for place in places)


def test_a_chain_of_awaits_without_an_end_is_cut():
    class Circle:
        cr_frame = sys._getframe()

        @property
        def cr_await(self):
            return self

    assert len(await_stack(Circle())) == MAX_FRAMES
