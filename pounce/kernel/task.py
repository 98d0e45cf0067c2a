"""Coroutines, and what they wait for.

Theory. A coroutine runs until it needs something that has not happened: a timer, a part of a request, room in a write
buffer. Then it *yields* an object to whatever has called `send` on it. In this kernel that object is a `Wait`, and
`Task` is what calls `send`:

    coroutine yields a Wait ──► Task.park ──► Wait.park keeps the task
    the thing happens       ──► Wait.wake ──► Task.resume ──► loop.call_soon(Task._step) ──► coroutine.send

A waiting task is referenced by exactly one object, its wait. The scheduler has no table of tasks, and nothing is
searched when a wait comes true.

Three rules follow from the request path:

- A coroutine that never waits costs a call: `spawn` makes a `Task` only when the coroutine has yielded.
- A wait comes true once. Both ends of a race may report (the data and the end of the connection), so a second `wake`
  or `fail` is ignored.
- Cancelling throws `Cancelled` in at the wait, once. A coroutine that catches it and continues may do so.

The kernel must never know asyncio. It has two joints for another scheduler: `suspend`, how a wait suspends its
coroutine, and `Loop.migrate`, which takes over a coroutine (see `aio.bridge`).

Owner of a task and of what it waits for: the loop's thread, from beginning to end.
"""

import contextlib
import contextvars
import enum
from collections.abc import Callable, Coroutine, Generator
from types import FrameType
from typing import Any, Protocol

from pounce.kernel.loop import Callback, Loop

type OnDone = Callable[[object, BaseException | None], object]
"""Called once, with what the coroutine has returned and what it has raised."""

READY = object()
"""Stands for what a task waits for when that has come true already."""

type Frame = tuple[str, int, str]
"""A line of a stack: file, number of the line, name of the function."""

MAX_FRAMES = 1000
"""Frames of one stack. A chain that can be resumed is not longer: this is the interpreter's recursion limit."""


abandoned: list[object] = []
"""Coroutines that have ignored their cancellation, of all loops that have ended; each thread appends in one step. If
they were destroyed, they would ignore GeneratorExit as well, and Python would print a traceback. So they are kept for
the life of the process."""


class Cancelled(BaseException):
    """Thrown into a coroutine at the point where it waits. A BaseException, so that `except Exception` in an
    application does not swallow it."""


class Interrupted(Cancelled):
    """Thrown into code that is running, by a signal."""


class State(enum.Enum):
    RUNNING = "its coroutine is on the thread's stack"
    WAITING = "parked on the wait that its coroutine has yielded"
    READY = "its next step stands in the loop's ready deque"
    DONE = "its coroutine has returned or raised"
    MIGRATED = "another scheduler drives its coroutine"


TRANSITIONS = {
    State.RUNNING: {State.WAITING, State.DONE, State.MIGRATED},
    State.WAITING: {State.READY, State.MIGRATED},
    State.READY: {State.RUNNING, State.MIGRATED},
    State.DONE: set(),
    State.MIGRATED: set(),
}
"""The legal changes of `Task.state`. `resume` and `cancel` make a task READY, `_step` makes it RUNNING, `park` WAITING,
`_finish` DONE, `migrate` MIGRATED."""


class Driver(Protocol):
    """What drives a coroutine, as the code that has started it may use it."""

    def cancel(self) -> None:
        """Ends the coroutine where it waits, by an exception."""

    def stack(self) -> list[Frame]:
        """Where the coroutine is, outermost call first."""

    @property
    def running(self) -> bool:
        """Is the coroutine on its thread's stack now? Any thread may ask."""

    @property
    def done(self) -> bool:
        """Has the coroutine ended? Its `on_done` may not have been called yet."""


class Waiter(Protocol):
    """What a wait keeps and wakes: a task, or what stands for one in another scheduler."""

    @property
    def loop(self) -> "TimerLoop": ...
    def resume(self) -> None: ...


class TimerLoop(Protocol):
    """The part of a loop that waits need."""

    def call_later(self, delay: float, callback: Callback) -> "Cancellable": ...
    def post(self, callback: Callback) -> object: ...


class Cancellable(Protocol):
    def cancel(self) -> object: ...


class Wait:
    """One thing that one task waits for. Awaiting it gives what `wake` was called with, or raises what `fail` was.

    It may come true before a task waits for it; then awaiting it does not suspend.
    """

    __slots__ = ("_error", "_task", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._task: Waiter | None = None
        self._value: Any = None
        self._error: BaseException | None = None

    def wake(self, value: Any = None) -> None:
        """The thing has happened: the task continues, in this turn or the next."""
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

    def park(self, task: Waiter) -> None:
        """The task waits from here on. A wait that has something to start overrides this and starts it here."""
        assert self._task is None, "one wait, one task"
        self._task = task

    def move(self, task: Waiter) -> None:
        """Another task waits in place of the one that did."""
        self._task = task

    def unpark(self) -> None:
        """The task no longer waits, because it was cancelled. An override stops here what its `park` has started."""
        self._task = None

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self.done:
            yield from suspend(self)
        if self._error is not None:
            raise self._error
        return self._value


def _yield(wait: Wait) -> Generator[Any, Any]:
    yield wait


suspend: Callable[[Wait], Generator[Any, Any, object]] = _yield
"""How a wait suspends its coroutine: by yielding itself. Another scheduler replaces it once, when it is loaded."""


class Task:
    """One coroutine, driven by one loop to its end. `state` changes as TRANSITIONS says."""

    __slots__ = ("_context", "_coroutine", "_migrated", "_on_done", "_throw", "_wait", "loop", "state")

    def __init__(
        self, loop: Loop, coroutine: Coroutine[Any, Any, Any], on_done: OnDone, context: contextvars.Context
    ) -> None:
        self.loop = loop
        self.state = State.RUNNING
        self._coroutine = coroutine
        self._context = context
        self._on_done = on_done
        self._wait: Wait | None = None
        self._throw: BaseException | None = None  # the next step throws it in instead of sending None
        self._migrated: Driver | None = None

    def resume(self) -> None:
        """The wait came true: the loop will call the next step."""
        if self.state is State.WAITING:
            self.state = State.READY
            self.loop.call_soon(self._step)

    def cancel(self) -> None:
        """Throws `Cancelled` in where the coroutine waits; at its next wait if it does not wait now."""
        if self._migrated is not None:
            self._migrated.cancel()
        elif self.state is not State.DONE:
            self._throw = Cancelled()
            if self.state is State.WAITING:
                if self._wait is not None:
                    self._wait.unpark()
                self.resume()

    def park(self, wait: object) -> None:
        """Waits for the object that the coroutine has yielded."""
        if self.loop.migrate is not None:
            self._wait = wait  # type: ignore[assignment]  # the other scheduler may know it, whatever it is
            self._migrate()
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

    def migrate(self) -> None:
        """Lets another scheduler, `loop.migrate`, drive the coroutine from where it waits. A task that is running
        migrates when it next waits."""
        if self.state in (State.WAITING, State.READY):
            self._migrate()

    def _migrate(self) -> None:
        assert self.loop.migrate is not None
        wait = READY if self.state is State.READY else self._wait
        self.state = State.MIGRATED
        self._migrated = self.loop.migrate(self._coroutine, wait, self._throw, self._on_done, self._context)

    def _step(self) -> None:
        if self.state is State.MIGRATED:  # since this step was scheduled
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
        except BaseException as error:  # of any kind: it ends this task and nothing else
            self._finish(None, error)
        else:
            self.park(wait)

    def _finish(self, value: object, error: BaseException | None) -> None:
        self.state = State.DONE
        on_done = self._on_done
        del self._on_done  # else the task and what waits for its end would reference each other until a collection
        on_done(value, error)

    def abandon(self) -> None:
        """Nothing drives the coroutine any more."""
        if not self.done and self._migrated is None:
            abandoned.append(self._coroutine)

    def stack(self) -> list[Frame]:
        """Where the coroutine is, outermost call first."""
        return await_stack(self._coroutine)

    @property
    def running(self) -> bool:
        return getattr(self._coroutine, "cr_running", False)

    @property
    def done(self) -> bool:
        return self.state is State.DONE if self._migrated is None else self._migrated.done


def spawn(
    loop: Loop, coroutine: Coroutine[Any, Any, Any], on_done: OnDone, context: contextvars.Context | None = None
) -> Task | None:
    """Drives `coroutine` at once, in place, in a context of its own (a copy of the current one unless given).

    Returns the task it became when it had to wait. Returns None when it has ended already: `on_done` has then been
    called before this returns, and no task was made.
    """
    if context is None:
        context = contextvars.copy_context()
    loop.coroutine = coroutine
    loop.context = context
    try:
        wait = context.run(coroutine.send, None)
    except StopIteration as stop:
        on_done(stop.value, None)
    except BaseException as error:  # of any kind: it ends this coroutine and nothing else
        on_done(None, error)
    else:
        task = Task(loop, coroutine, on_done, context)
        task.park(wait)
        return task
    return None


def await_stack(awaitable: object) -> list[Frame]:
    """The chain of awaits that ends where a coroutine waits, outermost call first.

    Applications await objects of their own classes, too. Whatever those return or raise, this ends, and gives only
    real frames."""
    frames: list[Frame] = []
    with contextlib.suppress(BaseException):
        while len(frames) < MAX_FRAMES:
            # Coroutines, generators and asynchronous generators name the same two things differently.
            for prefix in ("cr", "gi", "ag"):
                frame = getattr(awaitable, prefix + "_frame", None)
                if type(frame) is FrameType:
                    frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname))
                    next_name = "gi_yieldfrom" if prefix == "gi" else prefix + "_await"
                    awaitable = getattr(awaitable, next_name, None)
                    break
            else:
                break
    return frames
