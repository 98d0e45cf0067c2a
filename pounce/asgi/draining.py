"""How an application learns that its worker drains: `scope["extensions"]["pounce.draining"]`, of HTTP and WebSocket.

    draining = scope["extensions"]["pounce.draining"]
    draining.is_set()         drains the worker?
    await draining.wait()     returns when it does

A worker drains when the server ends, or when another worker replaces it. What an application then does is its own: tell
the clients of its WebSockets to connect again, end a stream between two events, finish a job early. It has to do
nothing: what runs may go on as the options for the end of a worker say.

Owner: the worker's thread. `is_set` may be asked by any, and `wait` be awaited on any, as `receive`.
"""

from threading import get_ident

from pounce.asgi.cross_thread import CrossThreadCalls
from pounce.kernel.task import Wait


class Draining:
    """One for each worker."""

    __slots__ = ("_cross_thread", "_set", "_waits")

    def __init__(self, cross_thread: CrossThreadCalls) -> None:
        self._cross_thread = cross_thread
        self._set = False
        self._waits: set[Wait] = set()

    def is_set(self) -> bool:
        """Does the worker drain? Once true, it stays true."""
        return self._set

    async def wait(self) -> None:
        """Returns when the worker drains. Raises ClientDisconnected where another thread waits and the worker ends
        without draining."""
        if get_ident() != self._cross_thread.thread:
            await self._cross_thread.call(self.wait)
            return
        if self._set:
            return
        wait = Wait()
        self._waits.add(wait)
        try:
            await wait
        finally:
            self._waits.discard(wait)

    def __deepcopy__(self, _copied: object) -> "Draining":
        """Some middleware copies the scope, however deep it is (hypercorn's ProxyFixMiddleware)."""
        return self

    def set(self) -> None:
        """The worker drains from now on."""
        self._set = True
        for wait in list(self._waits):
            wait.wake()
