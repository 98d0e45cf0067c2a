"""Coroutines and what they wait for.

A coroutine that has to wait yields the thing it waits for, a `Wait`. The wait keeps the task, and whoever makes
it come true wakes the task through it. So a waiting task is held by exactly one thing, the scheduler holds no
table of tasks, and a coroutine that never has to wait costs no more than calling it.

A task is in one of five states:

    RUNNING   its coroutine is on the stack now
    WAITING   parked on the wait it yielded
    READY     woken or cancelled: its next step stands in the loop's ready deque
    DONE      its coroutine has returned or raised
    ADOPTED   another scheduler drives its coroutine now (see `aio.bridge`)

Cancelling throws `Cancelled` in at the wait, once. A coroutine that catches it and goes on may do so.

Owner of a task and of what it waits for: the loop's thread, from beginning to end.
"""

import contextlib
import contextvars
import enum
from collections.abc import Callable, Coroutine, Generator
from types import FrameType
from typing import Any, Protocol

from pounce.kernel.loop import Callback, Loop

type Done = Callable[[object, BaseException | None], object]
"""Called once, with what the coroutine returned and what it raised."""

READY = object()
"""Stands for what a task waits for when that has come true already."""

type Place = tuple[str, int, str]
"""Where a coroutine is: file, line, function."""

MOST_PLACES = 1000
"""In one stack. No chain that could be resumed is longer: it is the interpreter's recursion limit."""


left_behind: list[object] = []
"""Coroutines that have ignored their cancellation, of all loops that have ended; each appends in one step. Destroyed,
they would ignore GeneratorExit as well, and Python says so in a traceback. So they last as long as the process, which
ends by `ending.leave` if it is the server's."""


class Cancelled(BaseException):
    """Thrown into a coroutine at the point where it waits. A BaseException, so that `except Exception` in an
    application does not swallow it."""


class Interrupted(Cancelled):
    """Thrown into code that is running, by a signal."""


class State(enum.Enum):
    RUNNING = "running"
    WAITING = "waiting"
    READY = "ready"
    DONE = "done"
    ADOPTED = "adopted"


class Driver(Protocol):
    """What drives a coroutine, as whoever started it may use it."""

    def cancel(self) -> None:
        """Ends the coroutine where it waits, by an exception."""

    def stack(self) -> list[Place]:
        """Where the coroutine is, outermost call first."""

    @property
    def running(self) -> bool:
        """Is the coroutine on its thread's stack now? Any thread may ask."""

    @property
    def over(self) -> bool:
        """Has the coroutine ended? Whoever started it may not have been told yet."""


class Parked(Protocol):
    """What a wait keeps and wakes: a task, or what stands for one in another scheduler."""

    @property
    def loop(self) -> "Timekeeper": ...
    def resume(self) -> None: ...


class Timekeeper(Protocol):
    """The part of a loop that waits need."""

    def call_later(self, delay: float, callback: Callback) -> "Cancellable": ...
    def post(self, callback: Callback) -> object: ...


class Cancellable(Protocol):
    def cancel(self) -> object: ...


class Wait:
    """One thing that one task waits for. Awaiting it gives what `wake` was called with.

    It may come true before anyone waits; then awaiting it does not suspend. It comes true once: a second `wake`
    or `fail` is ignored, because the two ends of a race may both report.
    """

    __slots__ = ("_error", "_task", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._task: Parked | None = None
        self._value: Any = None
        self._error: BaseException | None = None

    def wake(self, value: Any = None) -> None:
        """The thing has happened: the task goes on, in this turn or the next."""
        if not self.done:
            self.done = True
            self._value = value
            if self._task is not None:
                self._task.resume()

    def fail(self, error: BaseException) -> None:
        """The thing cannot happen any more: `error` is raised where the task waits."""
        if not self.done:
            self._error = error
            self.wake()

    def park(self, task: Parked) -> None:
        """The task waits from here on. A wait that has something to start overrides this and starts it here."""
        assert self._task is None, "one wait, one task"
        self._task = task

    def move(self, task: Parked) -> None:
        """Another task waits in place of the one that did."""
        self._task = task

    def leave(self) -> None:
        """The task waits no longer, because it was cancelled. The place to stop what `park` has started."""
        self._task = None

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self.done:
            yield from bridge(self)
        if self._error is not None:
            raise self._error
        return self._value


def _yield(wait: Wait) -> Generator[Any, Any]:
    yield wait


bridge: Callable[[Wait], Generator[Any, Any, object]] = _yield
"""How a wait suspends its coroutine: by yielding itself, until another scheduler brings its own way. Set once, when
that scheduler is loaded."""


class Task:
    """One coroutine, driven by one loop to its end."""

    __slots__ = ("_adopted", "_context", "_coroutine", "_done", "_throw", "_wait", "loop", "state")

    def __init__(
        self, loop: Loop, coroutine: Coroutine[Any, Any, Any], done: Done, context: contextvars.Context
    ) -> None:
        self.loop = loop
        self.state = State.RUNNING
        self._coroutine = coroutine
        self._context = context
        self._done = done
        self._wait: Wait | None = None
        self._throw: BaseException | None = None  # what the next step throws in instead of going on
        self._adopted: Driver | None = None

    def resume(self) -> None:
        """The wait came true: the next step is taken when the loop comes to it."""
        if self.state is State.WAITING:
            self.state = State.READY
            self.loop.call_soon(self._step)

    def cancel(self) -> None:
        """Throws `Cancelled` in where the coroutine waits; at its next wait if it does not wait now."""
        if self._adopted is not None:
            self._adopted.cancel()
        elif self.state is not State.DONE:
            self._throw = Cancelled()
            if self.state is State.WAITING:
                if self._wait is not None:
                    self._wait.leave()
                self.resume()

    def park(self, wait: object) -> None:
        """Waits for what the coroutine has yielded."""
        if self.loop.adopt is not None:
            self._wait = wait  # type: ignore[assignment]  # whatever it is, the other scheduler may know it
            self._hand_over()
            return
        self.state = State.WAITING
        if isinstance(wait, Wait):
            self._wait = wait
            if self._throw is None:  # else it was cancelled in this step, and does not begin to wait
                wait.park(self)
        else:
            self._throw = TypeError(
                f"cannot wait for {wait!r}: the application awaits something that belongs to another event loop"
            )
        if self._throw is not None or self._wait.done:  # type: ignore[union-attr]  # one of the two is set
            self.resume()

    def hand_over(self) -> None:
        """Lets another scheduler, `loop.adopt`, drive the coroutine from where it waits. A task that is running
        is handed over when it next waits."""
        if self.state in (State.WAITING, State.READY):
            self._hand_over()

    def _hand_over(self) -> None:
        assert self.loop.adopt is not None
        wait = READY if self.state is State.READY else self._wait
        self.state = State.ADOPTED
        self._adopted = self.loop.adopt(self._coroutine, wait, self._throw, self._done, self._context)

    def _step(self) -> None:
        if self.state is State.ADOPTED:  # since this step was asked for
            return
        self.state = State.RUNNING
        self._wait = None
        self.loop.coroutine, self.loop.context = self._coroutine, self._context
        throw, self._throw = self._throw, None
        try:
            if throw is None:
                wait = self._context.run(self._coroutine.send, None)
            else:
                wait = self._context.run(self._coroutine.throw, throw)
        except StopIteration as stop:
            self._finish(stop.value, None)
        except BaseException as error:  # whatever it is, it ends this task and nothing else
            self._finish(None, error)
        else:
            self.park(wait)

    def _finish(self, value: object, error: BaseException | None) -> None:
        self.state = State.DONE
        done = self._done
        del self._done  # else what waits for the end and the task would hold each other until the collector comes
        done(value, error)

    def leave_behind(self) -> None:
        """Nothing drives the coroutine any more."""
        if not self.over and self._adopted is None:
            left_behind.append(self._coroutine)

    def stack(self) -> list[Place]:
        """Where the coroutine is, outermost call first."""
        return await_stack(self._coroutine)

    @property
    def running(self) -> bool:
        return getattr(self._coroutine, "cr_running", False)

    @property
    def over(self) -> bool:
        return self.state is State.DONE if self._adopted is None else self._adopted.over


def spawn(
    loop: Loop, coroutine: Coroutine[Any, Any, Any], done: Done, context: contextvars.Context | None = None
) -> Task | None:
    """Drives `coroutine` at once, in place, in a context of its own (a copy of the current one unless given).

    Returns the task it became when it had to wait. Returns None when it is over already: `done` has then been
    called before this returns, and no task was ever made.
    """
    if context is None:
        context = contextvars.copy_context()
    loop.coroutine = coroutine
    loop.context = context
    try:
        wait = context.run(coroutine.send, None)
    except StopIteration as stop:
        done(stop.value, None)
    except BaseException as error:  # whatever it is, it ends this coroutine and nothing else
        done(None, error)
    else:
        task = Task(loop, coroutine, done, context)
        task.park(wait)
        return task
    return None


def await_stack(awaitable: object) -> list[Place]:
    """The chain of awaits that ends where a coroutine waits, outermost call first.

    Applications await objects of their own making, too. Whatever those answer, or raise, this comes to an end and
    gives only places of real frames."""
    places: list[Place] = []
    with contextlib.suppress(BaseException):
        while len(places) < MOST_PLACES:
            # Coroutines, generators and asynchronous generators name the same two things differently.
            for prefix in ("cr", "gi", "ag"):
                frame = getattr(awaitable, prefix + "_frame", None)
                if type(frame) is FrameType:
                    places.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname))
                    next_name = "gi_yieldfrom" if prefix == "gi" else prefix + "_await"
                    awaitable = getattr(awaitable, next_name, None)
                    break
            else:
                break
    return places
