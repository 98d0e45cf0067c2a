"""Tasks: waiting, waking, cancelling, context variables, and the stack of where one waits."""

import contextvars
import sys

import pytest

from pounce.kernel.task import MAX_FRAMES, Cancelled, State, Task, Wait, await_stack, spawn
from pounce.kernel.waits import sleep
from tests.kernel.outcome import Outcome
from tests.support.harness import run_until_idle, sleeping_loop


def test_a_coroutine_that_never_waits_is_over_at_once_and_becomes_no_task():
    loop, _, _ = sleeping_loop()
    outcome = Outcome()

    async def main():
        return 42

    assert spawn(loop, main(), outcome) is None
    assert outcome.value == 42


def test_a_task_continues_with_what_it_was_woken_with():
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


def test_a_wait_that_is_woken_already_does_not_suspend():
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


def test_cancel_throws_at_the_wait_and_stops_its_timer():
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


def test_cancel_of_a_running_task_takes_effect_at_its_next_wait():
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


def test_cancel_of_a_woken_task_cancels_it():
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


def test_stack_of_a_waiting_task():
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


def test_stack_of_a_deep_chain_ends_where_it_waits():
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
def test_stack_survives_an_awaited_object_that_answers_anything(answer):
    loop, _, _ = sleeping_loop()

    async def main():
        await Answering(answer)

    places = spawn(loop, main(), Outcome()).stack()
    assert places[0][2].endswith("main")
    assert all(tuple(map(type, place)) == (str, int, str) for place in places)


def test_stack_of_an_endless_chain_is_truncated():
    class Circle:
        cr_frame = sys._getframe()

        @property
        def cr_await(self):
            return self

    assert len(await_stack(Circle())) == MAX_FRAMES
