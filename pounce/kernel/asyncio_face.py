"""asyncio for applications that stand on it. The server does not.

The face is a stock `asyncio.SelectorEventLoop` whose selector is the worker's own loop:

    run_forever ── every turn ──► selector.select(timeout)
                                     └► worker's loop.turn(timeout): accept, read, drive, write, own timers
                                        returns the events of asyncio's descriptors, and only those

Both share one real selector: descriptors of the worker carry a callable, those of asyncio its own pair of handles.
So transports, TLS, datagrams, subprocesses, executors, signals and debug mode are asyncio's own, and the worker's
loop stays what it is. Nothing private of asyncio is touched; what it offers to implementers of loops and tasks
(`_set_running_loop`, `_enter_task`, `_leave_task`, `_unregister_task`: "Extending" in its documentation) is used
where a step changes its scheduler, and at the end.

All tasks of the loop are the application's, which may cancel them all but its own: there is no root task.

This is the only module of the server that imports asyncio. It is loaded when the application has imported it:

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
import selectors
import signal
import sys
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from functools import partial
from typing import Any

from pounce.kernel import task as kernel_task
from pounce.kernel.loop import Loop
from pounce.kernel.task import READY, Cancelled, Done, Place, Timekeeper, Wait, await_stack

logger = logging.getLogger("pounce.error")


class FaceSelector(selectors.BaseSelector):
    """The worker's loop, as asyncio uses a selector."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._loop.selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._loop.selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._loop.selector.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._loop.selector.get_map()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return self._loop.turn(timeout)

    def close(self) -> None:
        """The real selector is the worker's, and so is its end. What asyncio has left in it would keep it awake."""
        for key in list(self.get_map().values()):
            if key.data.__class__ is tuple:
                self.unregister(key.fileobj)


class FaceLoop(asyncio.SelectorEventLoop):
    def __init__(self, loop: Loop) -> None:
        super().__init__(FaceSelector(loop))
        self._wakeup_fd = loop.wakeup_fd

    def remove_signal_handler(self, sig: int) -> bool:
        """With its last handler asyncio takes away what wakes the loop at a signal; the server has handlers as well."""
        removed = super().remove_signal_handler(sig)
        if (fd := signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)) != -1:
            signal.set_wakeup_fd(fd)
        return removed


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


class Face:
    """One worker's asyncio."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.asyncio_loop = FaceLoop(loop)
        self._tasks: set[asyncio.Task[Any]] = set()  # asyncio itself keeps only weak references
        self._over = False
        self._patience: float | None = None
        self._closing: asyncio.Task[None] | None = None
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
            if loop.get_task_factory() is None:
                task = asyncio.Task(coroutine, loop=loop, eager_start=True, context=context)
            else:
                made: object = loop.create_task(coroutine, context=context)
                if not isinstance(made, asyncio.Task):
                    raise TypeError(f"the task factory has made {type(made)}, which is no task")
                task = made
        except BaseException as error:
            # A task passes SystemExit and KeyboardInterrupt on, for the program to end. The rest is from the
            # application's own task factory.
            done(None, error)
            return None
        if task.done():
            _report(done, task)
            return None
        return self._keep(task, done)

    def _keep(self, task: "asyncio.Task[Any]", done: Done) -> FaceTask:
        self._tasks.add(task)
        task.add_done_callback(partial(self._finished, done))
        return FaceTask(task)

    def _finished(self, done: Done, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        _report(done, task)

    # Life

    def run(self) -> None:
        """Turns asyncio's loop, and with it the worker's, until `end` or `abandon`. An exception from the
        worker's own loop comes out; calling `run` again goes on."""
        if self._step is not None:
            self._end_step()
        loop = self.asyncio_loop
        asyncio._set_running_loop(None)
        asyncio.set_event_loop(loop)
        self._run_until(lambda: self._over)
        if self._patience is not None:
            if self._closing is None:
                self._closing = asyncio.Task(self._close(self._patience), loop=loop, name="pounce")
                self._closing.add_done_callback(lambda _: loop.stop())
                # What the application cancels in its own clean-up may be all tasks; it does not mean this one.
                asyncio._unregister_task(self._closing)
            self._run_until(self._closing.done)
        asyncio.set_event_loop(None)
        loop.close()
        self.closed = True
        if self._closing is not None:
            self._closing.result()

    def _run_until(self, over: Callable[[], bool]) -> None:
        """An application that stops the loop stops its own turn, and nothing else."""
        while not over():
            try:
                self.asyncio_loop.run_forever()
            except (SystemExit, KeyboardInterrupt):  # from a task; whoever started it has been told
                continue

    def end(self, patience: float) -> None:
        """Lets `run` return, after what asyncio does at the end of a program, each part within `patience`
        seconds: what the application still has running is cancelled, asynchronous generators and helper threads
        are closed."""
        if not self._over:
            self._patience = patience
            self.abandon()

    def abandon(self) -> None:
        """Lets `run` return at once, or, once it has been told to `end`, after that."""
        self._over = True
        self.asyncio_loop.stop()

    async def _close(self, patience: float) -> None:
        loop = self.asyncio_loop
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=patience)
            for task in stuck:
                where = " in {2} ({0}:{1})".format(*places[-1]) if (places := await_stack(task.get_coro())) else ""
                logger.error("Task %r ignores its cancellation%s; leaving it behind.", task.get_name(), where)
        try:
            async with asyncio.timeout(patience):
                await loop.shutdown_asyncgens()
        except TimeoutError:
            logger.error("Asynchronous generators have not closed within %g seconds; leaving them behind.", patience)
        await loop.shutdown_default_executor(timeout=patience)

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
