"""The asyncio bridge: asyncio for applications that are built on it, while the server itself is not.

An application that imports asyncio gets an `asyncio.SelectorEventLoop` (see `event_loop`) whose selector is the
worker's own loop:

    run_forever ── every turn ──► selector.select(timeout)
                                     └► worker's loop.turn(timeout): accept, read, drive, write, own timers
                                        returns the events of asyncio's descriptors, and only those

Both loops share one real selector: descriptors of the worker carry a callable, those of asyncio its own pair of
handles. So transports, TLS, datagrams, subprocesses, executors, signals and debug mode are asyncio's own code, and the
worker's loop stays as it is.

When it is attached. Either before the workers start: each worker then begins with a bridge. Or in the middle of a
request: at once in the worker that imports, and with their next turn in the others. Guaranteed then:

- the coroutine that has imported asyncio continues as a task of the new loop from that line on (`get_running_loop`,
  `current_task`, `sleep`, `timeout`, `create_task` work in the same step);
- every other coroutine continues as a task when it is next resumed, and still waits for what it waited for (see
  `migration`);
- context variables are kept.

Not guaranteed: that the importing step may block on a loop of its own (`asyncio.run`). It may not in any asyncio
program.

What the application sees. All tasks that `asyncio.all_tasks` gives are the application's, which may cancel them all but
its own. The root task, which lasts as long as the loop is turned and closes what the application has left open, is not
among them. anyio ends its helper threads when the root task ends, and takes the running request for the root task where
it finds none. So it is given the server's.

What is used of asyncio. The bridge uses public names, and those that asyncio offers to implementers of loops and tasks
(`_set_running_loop`, `_enter_task`, `_leave_task`, `_unregister_task`: "Extending" in its documentation). `event_loop`
also uses private names of the stock loop, and says which and why.

The server must never import asyncio outside of this room, nor load this room before the application has imported it.

Owner: the worker's thread.
"""

import asyncio
import contextvars
import logging
import sys
import types
from collections.abc import Coroutine
from functools import partial
from typing import Any

from pounce.aio.event_loop import BridgeLoop
from pounce.aio.migration import Migration
from pounce.kernel.loop import Loop
from pounce.kernel.task import Cancelled, Frame, OnDone, abandoned, await_stack

logger = logging.getLogger("pounce.error")


class BridgeTask:
    """A task, as the code that has started its coroutine may use it: a `kernel.task.Driver`."""

    __slots__ = ("task",)

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self.task = task

    def cancel(self) -> None:
        coroutine = self.task.get_coro()
        if getattr(coroutine, "cr_await", self) is None and not self.running:
            # Migrated in this turn: a coroutine that has not begun would never see what is thrown into it.
            self.task.get_loop().call_soon(self.task.cancel)
        else:
            self.task.cancel()

    def stack(self) -> list[Frame]:
        return await_stack(self.task.get_coro())

    @property
    def running(self) -> bool:
        return getattr(self.task.get_coro(), "cr_running", False)

    @property
    def done(self) -> bool:
        return self.task.done()


class Bridge:
    """One worker's asyncio."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.asyncio_loop = BridgeLoop(loop)
        self._tasks: set[asyncio.Task[Any]] = set()  # asyncio itself keeps only weak references
        self._timeout: float | None = None
        self._end_requested = self.asyncio_loop.create_future()
        self._root = self._server_task(self._run_root())
        self._root.set_name("pounce")
        self._root.add_done_callback(lambda _: self.asyncio_loop.stop())
        self._migration: Migration | None = None
        """Of the coroutine whose step has imported asyncio, until that step ends."""
        self.closed = False

    def spawn(
        self, coroutine: Coroutine[Any, Any, Any], on_done: OnDone, context: contextvars.Context | None = None
    ) -> BridgeTask | None:
        """As `kernel.task.spawn`, with a real task, eagerly started."""
        if self._migration is not None:
            self._end_migration()
        loop = self.asyncio_loop
        try:
            if loop.debug_mode or loop.has_task_factory:
                task = self._make_task(coroutine, context)
            else:
                task = asyncio.Task(coroutine, loop=loop, eager_start=True, context=context)
        except BaseException as error:
            # A task passes SystemExit and KeyboardInterrupt on, to end the program. Any other error is from the
            # application's own task factory.
            on_done(None, error)
            return None
        if task.done():
            _report(on_done, task)
            return None
        return self._track(task, on_done)

    def _make_task(
        self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context | None
    ) -> "asyncio.Task[Any]":
        """A task in debug mode, or of the application's task factory."""
        loop = self.asyncio_loop
        began = loop.time()
        if loop.has_task_factory:
            made: object = loop.create_task(coroutine, context=context)
            if not isinstance(made, asyncio.Task):
                raise TypeError(f"the task factory has made {type(made)}, which is no task")
            task = made
        else:
            task = asyncio.Task(coroutine, loop=loop, eager_start=True, context=context)
        if loop.debug_mode and (seconds := loop.time() - began) >= loop.slow_callback_duration:
            # The loop itself logs this for every later step.
            logging.getLogger("asyncio").warning("Executing %r took %.3f seconds", task, seconds)
        return task

    def _track(self, task: "asyncio.Task[Any]", on_done: OnDone) -> BridgeTask:
        self._tasks.add(task)
        task.add_done_callback(partial(self._finished, on_done))
        return BridgeTask(task)

    def _finished(self, on_done: OnDone, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        _report(on_done, task)

    # Life

    def run(self) -> None:
        """Turns asyncio's loop, and with it the worker's, until `end`. An exception of the worker's own loop comes
        out; calling `run` again continues."""
        if self._migration is not None:
            self._end_migration()
        loop = self.asyncio_loop
        asyncio._set_running_loop(None)
        asyncio.set_event_loop(loop)
        while not self._root.done():  # an application that stops the loop ends this turn of it, and nothing else
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):  # from a task, and reported to the code that has started it
                continue
        asyncio.set_event_loop(None)
        loop.close()
        self.closed = True
        self._root.result()

    def end(self, timeout: float) -> None:
        """Lets `run` return, after what asyncio does at the end of a program, each part within `timeout` seconds:
        tasks that still run are cancelled, asynchronous generators and helper threads are closed."""
        if not self._end_requested.done():
            self._timeout = timeout
            self._end_requested.set_result(None)

    def set_anyio_root_task(self) -> None:
        """anyio's asyncio backend has been loaded. Called on the thread that has loaded it: if that runs a task of this
        loop, the next line of the task may ask for the root task."""
        if asyncio._get_running_loop() is self.asyncio_loop and asyncio.current_task() is not None:
            self._set_root()
            return

        async def in_a_task() -> None:  # because anyio asks in which task it runs
            self._set_root()

        self.asyncio_loop.call_soon_threadsafe(
            lambda: asyncio.Task(in_a_task(), loop=self.asyncio_loop, eager_start=True)
        )

    def _set_root(self) -> None:
        root_task = getattr(sys.modules["anyio._backends._asyncio"], "_root_task", None)
        if root_task is not None:
            root_task.set(self._root)

    async def _run_root(self) -> None:
        await self._end_requested
        if self._timeout is not None:
            await self._close(self._timeout)

    async def _close(self, timeout: float) -> None:
        """Must not ask for the current task, as `asyncio.timeout` does: from 3.14 on, an application that replaces
        asyncio.Task by the one written in Python (nest_asyncio) hides the current task from asyncio."""
        loop = self.asyncio_loop
        stuck: set[asyncio.Task[Any]] = set()
        tasks = asyncio.all_tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=timeout)
            for task in stuck:
                where = " in {2} ({0}:{1})".format(*frames[-1]) if (frames := await_stack(task.get_coro())) else ""
                logger.error("Task %r ignores its cancellation%s; it is abandoned.", task.get_name(), where)
                _abandon(task)
        generators = self._server_task(loop.shutdown_asyncgens())
        if (await asyncio.wait([generators], timeout=timeout))[1]:
            logger.error("Asynchronous generators have not closed within %g seconds; they are abandoned.", timeout)
            tasks = {generators, *asyncio.all_tasks()} - stuck
            for task in tasks:
                task.cancel()
            for task in (await asyncio.wait(tasks, timeout=timeout))[1]:
                _abandon(task)
        await loop.close_default_executor(timeout)

    def _server_task[T](self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """A task that `asyncio.all_tasks` does not give."""
        task = asyncio.Task(coroutine, loop=self.asyncio_loop, context=contextvars.Context())
        asyncio._unregister_task(task)
        return task

    # Migration

    def migrate_current(self) -> None:
        """The coroutine whose step runs now, on this thread, becomes a task before its next line. Every other one does
        when it would next wait."""
        loop = self._loop
        loop.migrate = self._migrate
        if getattr(loop.coroutine, "cr_running", False):
            asyncio._set_running_loop(self.asyncio_loop)
            self._migration = Migration(loop.coroutine, self.asyncio_loop, loop.context)
            asyncio._enter_task(self.asyncio_loop, self._migration.task)

    def _end_migration(self) -> None:
        """The step that has imported asyncio has ended."""
        migration, self._migration = self._migration, None
        assert migration is not None
        asyncio._leave_task(self.asyncio_loop, migration.task)

    def _migrate(
        self,
        coroutine: Coroutine[Any, Any, Any],
        waits_for: object,
        throw: BaseException | None,
        on_done: OnDone,
        context: contextvars.Context,
    ) -> BridgeTask:
        """See `Loop.migrate`."""
        migration = self._migration
        if migration is not None and migration.coroutine is coroutine:
            self._end_migration()
        else:
            migration = Migration(coroutine, self.asyncio_loop, context)
        migration.wait(waits_for, throw)
        return self._track(migration.task, on_done)


def _abandon(task: "asyncio.Task[Any]") -> None:
    """The log has named the task already, so asyncio does not log it again when it is destroyed."""
    abandoned.append(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def _report(on_done: OnDone, task: "asyncio.Task[Any]") -> None:
    if task.cancelled():
        on_done(None, Cancelled() if task.cancelling() else _own_cancellation(task))
    elif (error := task.exception()) is not None:
        on_done(None, error)
    else:
        on_done(task.result(), None)


def _own_cancellation(task: "asyncio.Task[Any]") -> BaseException | None:
    """The CancelledError of a task that nothing has cancelled: the coroutine has raised it, or something else that it
    awaited was cancelled. It counts as an error like any other, though asyncio does not distinguish the two."""
    try:
        task.result()
    except asyncio.CancelledError as error:
        return error
    return None


def _not_reported(record: logging.LogRecord) -> bool:
    """A filter of asyncio's log. asyncio logs the exception of a task when no code has asked for it. A SystemExit in a
    task's first step is raised where the task is made, and `Bridge.spawn` reports it there."""
    if record.exc_info and isinstance(record.exc_info[1], SystemExit | KeyboardInterrupt):
        frame: types.FrameType | None = sys._getframe()
        while frame is not None:
            if frame.f_code is Bridge.spawn.__code__:
                return False
            frame = frame.f_back
    return True


logging.getLogger("asyncio").addFilter(_not_reported)
