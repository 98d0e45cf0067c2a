"""asyncio for applications that stand on it. The server does not.

The face is an `asyncio.SelectorEventLoop` (see `event_loop`) whose selector is the worker's own loop:

    run_forever ── every turn ──► selector.select(timeout)
                                     └► worker's loop.turn(timeout): accept, read, drive, write, own timers
                                        returns the events of asyncio's descriptors, and only those

Both share one real selector: descriptors of the worker carry a callable, those of asyncio its own pair of handles.
So transports, TLS, datagrams, subprocesses, executors, signals and debug mode are asyncio's own, and the worker's
loop stays what it is. Nothing private of asyncio is touched here; what it offers to implementers of loops and tasks
(`_set_running_loop`, `_enter_task`, `_leave_task`, `_unregister_task`: "Extending" in its documentation) is used
where a step changes its scheduler, and for the root task.

All tasks that `asyncio.all_tasks` gives are the application's, which may cancel them all but its own. The root task,
which lasts as long as the loop is turned and closes what the application has left open, is not among them. anyio
keeps its helper threads for as long as the root task runs, and takes the running request for it where it finds none: so
it is told.

This module and `event_loop` are the only ones of the server that import asyncio. They are loaded when the application
has imported it:

- before the workers start: each worker begins with a face;
- later, in the middle of a request: `put_on` in the importing worker, at once, and in the others with their next
  turn. What is guaranteed then: the coroutine that imported goes on as a task of the new loop from that line on
  (`get_running_loop`, `current_task`, `sleep`, `timeout`, `create_task` work in the same step); every other
  coroutine goes on as a task when it is next resumed; what waited before still waits for the same thing; context
  variables are kept. Not guaranteed: that blocking the importing step (a loop of its own, `asyncio.run`) works, as
  it would not in any asyncio program.

Owner: the worker's thread.
"""

import asyncio
import contextvars
import logging
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

from pounce.aio.event_loop import FaceLoop
from pounce.kernel import task as kernel_task
from pounce.kernel.loop import Loop
from pounce.kernel.task import READY, Cancelled, Done, Place, Timekeeper, Wait, await_stack, left_behind

logger = logging.getLogger("pounce.error")


class FaceTask:
    """A task, as whoever started the coroutine may use it."""

    __slots__ = ("task",)

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self.task = task

    def cancel(self) -> None:
        coroutine = self.task.get_coro()
        if getattr(coroutine, "cr_await", self) is None and not self.running:
            # Adopted in this turn: it would never see what is thrown into it before it has begun.
            self.task.get_loop().call_soon(self.task.cancel)
        else:
            self.task.cancel()

    def stack(self) -> list[Place]:
        return await_stack(self.task.get_coro())

    @property
    def running(self) -> bool:
        return getattr(self.task.get_coro(), "cr_running", False)

    @property
    def over(self) -> bool:
        return self.task.done()


class Face:
    """One worker's asyncio."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.asyncio_loop = FaceLoop(loop)
        self._tasks: set[asyncio.Task[Any]] = set()  # asyncio itself keeps only weak references
        self._patience: float | None = None
        self._told_to_end = self.asyncio_loop.create_future()
        self._root = self._hidden(self._live())
        self._root.set_name("pounce")
        self._root.add_done_callback(lambda _: self.asyncio_loop.stop())
        self._step: _Step | None = None
        self.closed = False

    def spawn(
        self, coroutine: Coroutine[Any, Any, Any], done: Done, context: contextvars.Context | None = None
    ) -> FaceTask | None:
        """As `kernel.task.spawn`, with a real task, eagerly started."""
        if self._step is not None:
            self._end_step()
        loop = self.asyncio_loop
        try:
            if loop.debugs or loop.makes_tasks:
                task = self._begin(coroutine, context)
            else:
                task = asyncio.Task(coroutine, loop=loop, eager_start=True, context=context)
        except BaseException as error:
            # A task passes SystemExit and KeyboardInterrupt on, for the program to end. The rest is from the
            # application's own task factory.
            done(None, error)
            return None
        if task.done():
            _report(done, task)
            return None
        return self._keep(task, done)

    def _begin(self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context | None) -> "asyncio.Task[Any]":
        """A task in debug mode, or of the application's task factory."""
        loop = self.asyncio_loop
        begun = loop.time()
        if loop.makes_tasks:
            made: object = loop.create_task(coroutine, context=context)
            if not isinstance(made, asyncio.Task):
                raise TypeError(f"the task factory has made {type(made)}, which is no task")
            task = made
        else:
            task = asyncio.Task(coroutine, loop=loop, eager_start=True, context=context)
        if loop.debugs and (seconds := loop.time() - begun) >= loop.slow_callback_duration:
            # As the loop itself says in debug mode of every later step.
            logging.getLogger("asyncio").warning("Executing %r took %.3f seconds", task, seconds)
        return task

    def _keep(self, task: "asyncio.Task[Any]", done: Done) -> FaceTask:
        self._tasks.add(task)
        task.add_done_callback(partial(self._finished, done))
        return FaceTask(task)

    def _finished(self, done: Done, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        _report(done, task)

    # Life

    def run(self) -> None:
        """Turns asyncio's loop, and with it the worker's, until `end`. An exception from the
        worker's own loop comes out; calling `run` again goes on."""
        if self._step is not None:
            self._end_step()
        loop = self.asyncio_loop
        asyncio._set_running_loop(None)
        asyncio.set_event_loop(loop)
        while not self._root.done():  # an application that stops the loop stops its own turn, and nothing else
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):  # from a task; whoever started it has been told
                continue
        asyncio.set_event_loop(None)
        loop.close()
        self.closed = True
        self._root.result()

    def end(self, patience: float) -> None:
        """Lets `run` return, after what asyncio does at the end of a program, each part within `patience`
        seconds: what the application still has running is cancelled, asynchronous generators and helper threads
        are closed."""
        if not self._told_to_end.done():
            self._patience = patience
            self._told_to_end.set_result(None)

    def give_anyio_its_root(self) -> None:
        """anyio's back end has been loaded. On the thread that has loaded it: where that is a task of this loop, it
        may ask for the root in its next line."""
        if asyncio._get_running_loop() is self.asyncio_loop and asyncio.current_task() is not None:
            self._set_root()
            return

        async def in_a_task() -> None:  # because that is how anyio knows where it runs
            self._set_root()

        self.asyncio_loop.call_soon_threadsafe(
            lambda: asyncio.Task(in_a_task(), loop=self.asyncio_loop, eager_start=True)
        )

    def _set_root(self) -> None:
        root_task = getattr(sys.modules["anyio._backends._asyncio"], "_root_task", None)
        if root_task is not None:
            root_task.set(self._root)

    async def _live(self) -> None:
        await self._told_to_end
        if self._patience is not None:
            await self._close(self._patience)

    async def _close(self, patience: float) -> None:
        """Nothing here may ask for the current task, as `asyncio.timeout` does: an application that makes asyncio.Task
        the one written in Python (nest_asyncio) takes that knowledge from asyncio, from 3.14 on."""
        loop = self.asyncio_loop
        behind: set[asyncio.Task[Any]] = set()
        tasks = asyncio.all_tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            _, behind = await asyncio.wait(tasks, timeout=patience)
            for task in behind:
                where = " in {2} ({0}:{1})".format(*places[-1]) if (places := await_stack(task.get_coro())) else ""
                logger.error("Task %r ignores its cancellation%s; leaving it behind.", task.get_name(), where)
                _leave_behind(task)
        generators = self._hidden(loop.shutdown_asyncgens())
        if (await asyncio.wait([generators], timeout=patience))[1]:
            logger.error("Asynchronous generators have not closed within %g seconds; leaving them behind.", patience)
            tasks = {generators, *asyncio.all_tasks()} - behind
            for task in tasks:
                task.cancel()
            for task in (await asyncio.wait(tasks, timeout=patience))[1]:
                _leave_behind(task)
        await loop.close_default_executor(patience)

    def _hidden[T](self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """A task of the server's own, of which the application does not hear."""
        task = asyncio.Task(coroutine, loop=self.asyncio_loop, context=contextvars.Context())
        asyncio._unregister_task(task)
        return task

    # Taking over in the middle

    def take_over(self) -> None:
        """The coroutine whose step is running now, on this thread, becomes a task before it goes on. Every other
        one does when it would next wait."""
        loop = self._loop
        loop.adopt = self._adopt
        if getattr(loop.coroutine, "cr_running", False):
            asyncio._set_running_loop(self.asyncio_loop)
            step = self._step = _Step(loop.coroutine)
            step.task = asyncio.Task(_carry_on(step), loop=self.asyncio_loop, context=loop.context)
            asyncio._enter_task(self.asyncio_loop, step.task)

    def _end_step(self) -> None:
        """The step in which asyncio was imported is over."""
        step, self._step = self._step, None
        assert step is not None
        assert step.task is not None
        asyncio._leave_task(self.asyncio_loop, step.task)

    def _adopt(
        self,
        coroutine: Coroutine[Any, Any, Any],
        waits_for: object,
        throw: BaseException | None,
        done: Done,
        context: contextvars.Context,
    ) -> FaceTask:
        step = self._step
        if step is not None and step.coroutine is coroutine:
            self._end_step()
        else:
            step = _Step(coroutine)
            step.task = asyncio.Task(_carry_on(step), loop=self.asyncio_loop, context=context)
        step.waits_for, step.throw, step.over = waits_for, throw, False
        assert step.task is not None
        return self._keep(step.task, done)


class _Step:
    """Where a coroutine stands when it changes its scheduler."""

    __slots__ = ("coroutine", "over", "task", "throw", "waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine
        self.task: asyncio.Task[Any] | None = None
        self.waits_for: object = None
        self.throw: BaseException | None = None
        self.over = True  # unless it is handed over, the coroutine has ended in that very step


async def _carry_on(step: _Step) -> Any:
    """A coroutine that another scheduler has begun, shaped as one that is only beginning now."""
    return await _rest(step)  # type: ignore[misc, unused-ignore]  # types.coroutine makes it awaitable, which mypy does not see


@types.coroutine
def _rest(step: _Step) -> Generator[Any, Any, Any]:
    if step.over:
        return None
    coroutine, waits_for, throw = step.coroutine, step.waits_for, step.throw
    parked = isinstance(waits_for, Wait)
    try:
        while True:
            if throw is not None:
                error, throw = throw, None
                waits_for = coroutine.throw(error)
                continue
            value = None
            try:
                if parked:
                    parked = False
                    yield from _bridge(waits_for, move=True)  # type: ignore[arg-type]
                elif waits_for is not READY:
                    value = yield waits_for
            except BaseException as error:
                throw = error
            else:
                waits_for = coroutine.send(value)
    except StopIteration as stop:
        return stop.value


class _Waiter:
    """Stands for a task of the kernel in what it waits for."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self.loop: Timekeeper = _Time(loop)

    def resume(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _Time:
    """asyncio's loop, as waits of the kernel use one."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, callback)

    def post(self, callback: Callable[[], object]) -> object:
        return self._loop.call_soon_threadsafe(callback)


def _bridge(wait: Wait, *, move: bool = False) -> Generator[Any, Any, object]:
    """Awaits what the kernel waits for, in whichever task of whichever asyncio loop this is called."""
    loop = asyncio._get_running_loop()
    if loop is None:
        yield wait
        return None
    waiter = _Waiter(loop)
    if move:
        wait.move(waiter)
    else:
        wait.park(waiter)
    if not wait.done:
        try:
            yield from waiter.future
        except BaseException:
            wait.leave()
            raise
    return None


def _leave_behind(task: "asyncio.Task[Any]") -> None:
    """The log has told of it, and asyncio is not to do so as well."""
    left_behind.append(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def _report(done: Done, task: "asyncio.Task[Any]") -> None:
    if task.cancelled():
        done(None, Cancelled() if task.cancelling() else _raised(task))
    elif (error := task.exception()) is not None:
        done(None, error)
    else:
        done(task.result(), None)


def _raised(task: "asyncio.Task[Any]") -> BaseException | None:
    """The CancelledError of a coroutine that nobody has cancelled: its own, or from something else that it awaited.
    An error like any other, which asyncio does not tell from a cancellation."""
    try:
        task.result()
    except asyncio.CancelledError as error:
        return error
    return None


def _untold(record: logging.LogRecord) -> bool:
    """asyncio logs the exception of a task that nobody has asked for it. A SystemExit in a task's first step goes to
    whoever made the task, which then never was: `Face.spawn` tells its caller, and once is enough."""
    if record.exc_info and isinstance(record.exc_info[1], SystemExit | KeyboardInterrupt):
        frame: types.FrameType | None = sys._getframe()
        while frame is not None:
            if frame.f_code is Face.spawn.__code__:
                return False
            frame = frame.f_back
    return True


logging.getLogger("asyncio").addFilter(_untold)
kernel_task.bridge = _bridge
