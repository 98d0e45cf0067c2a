"""Migration: a coroutine that the kernel's scheduler has begun continues as an `asyncio.Task`.

A task can only be made of a coroutine that is beginning, and only the task itself may call `send` on it. So the task
gets a coroutine of the server's, `_resumed`, which does nothing but resume the other one: it sends it what it waits
for, and yields what it yields next.

A coroutine migrates at a point where it waits. The one exception is the coroutine whose own step imports asyncio: its
task is entered in the middle of the step (see `Bridge.migrate_current`), so that the next line finds itself in a task.

Must never lose a value or an exception on the way, nor resume a coroutine twice. Owner: the worker's thread.
"""

import asyncio
import contextvars
import types
from collections.abc import Coroutine, Generator
from typing import Any

from pounce.aio.suspend import suspend
from pounce.kernel.task import READY, Wait


class Migration:
    """A coroutine on its way from one scheduler to the other, and the task that it becomes."""

    __slots__ = ("coroutine", "ended", "task", "throw", "waits_for")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, context: contextvars.Context
    ) -> None:
        self.coroutine = coroutine
        self.waits_for: object = None
        self.throw: BaseException | None = None
        self.ended = True
        """Has the coroutine ended in the very step in which its migration began? So it is unless `wait` is called."""
        self.task = asyncio.Task(_resumed(self), loop=loop, context=context)

    def wait(self, waits_for: object, throw: BaseException | None) -> None:
        """The coroutine waits for this. `throw`: what to throw in there instead."""
        self.waits_for, self.throw, self.ended = waits_for, throw, False


async def _resumed(migration: Migration) -> Any:
    """A coroutine that has begun elsewhere, in the form of one that is beginning."""
    return await _resume(migration)  # type: ignore[misc, unused-ignore]  # types.coroutine makes it awaitable, which mypy does not see


@types.coroutine
def _resume(migration: Migration) -> Generator[Any, Any, Any]:
    if migration.ended:
        return None
    coroutine, waits_for, throw = migration.coroutine, migration.waits_for, migration.throw
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
                    yield from suspend(waits_for, move=True)  # type: ignore[arg-type]
                elif waits_for is not READY:
                    value = yield waits_for
            except BaseException as error:
                throw = error
            else:
                waits_for = coroutine.send(value)
    except StopIteration as stop:
        return stop.value
