"""The hand-over: a worker thread that retires gives the connections that wait for a request to its heir, which serves
their clients from the next request on. No client has to connect again, and none is answered by an old application.

    retiring worker    detach ─ append ─ post ─►  heir    continue the connection
                       take back, where the heir has closed

What has arrived and was not read stays in the kernel; a part of a head that was read, and content that the client has
not taken yet, go with the socket. So no byte is lost and none is read twice.

The order makes a lock unnecessary. The retiring worker appends first and then looks whether the heir has closed; the
heir closes first and then takes what is there. Both use the deque under its own lock, so one of the two finds the
connection, and only one can remove it.

Owner: the heir's thread; `give` may be called on any.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from pounce.connections.context import ConnectionContext, HandedOver
from pounce.kernel.loop import Loop

MAX_PER_TURN = 64
"""Connections that a worker goes on with in one turn, so that thousands do not hold up the clients it has already."""

type Continue = Callable[[HandedOver], object]


class Legacy:
    """What predecessors have given to one worker."""

    def __init__(self, loop: Loop, go_on: Continue) -> None:
        """`go_on` is called on the worker's thread with each connection."""
        self._loop = loop
        self.go_on = go_on
        self._given: deque[HandedOver] = deque()
        self._accepts = False  # from READY on, until there is nothing left to serve
        self._open = False  # does it go on with what it is given?
        self._taking = False  # will `_take_some` be called anyway?
        self.heir: Legacy | None = None
        """The worker's own heir, when it has retired: whoever has waited long for a response may find it ended."""

    def give(self, connection: HandedOver) -> Iterator[HandedOver]:
        """From any thread. Gives back what the caller has to serve itself, because the worker is not ready, or ends
        without an heir."""
        self._given.append(connection)
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self._loop.post(self._take)
        if not self._accepts:
            for left in self._remove_all():
                if self.heir is None:
                    yield left
                else:
                    yield from self.heir.give(left)

    @property
    def backlog(self) -> int:
        """How many it was given and has not gone on with. Any thread may ask."""
        return len(self._given)

    def _remove_all(self) -> Iterator[HandedOver]:
        while True:
            try:
                yield self._given.popleft()
            except IndexError:
                return

    def _take(self) -> None:
        if self._open and not self._taking:
            self._take_some()

    def _take_some(self) -> None:
        self._taking = False  # first: an error of one must not hold up the others
        for connection in islice(self._remove_all(), MAX_PER_TURN):
            self.go_on(connection)
        self._taking = bool(self._given)
        if self._taking:
            self._loop.call_soon(self._take_some)

    def accept(self) -> None:
        """The worker is ready: it keeps what it is given until `open` or `close`."""
        self._accepts = True

    def open(self) -> None:
        """The worker serves from now on, also what it was given before."""
        self._open = True
        self._take()

    def close(self) -> None:
        """The worker goes on with what it was given before, and takes nothing more."""
        self._accepts = False
        self._open = True
        for connection in self._remove_all():
            self.go_on(connection)


class ToHeir:
    """How a retiring worker hands over: a `HandOver`. Owner: its thread."""

    def __init__(self, legacy: Legacy, context: ConnectionContext, go_on: Continue) -> None:
        """`legacy` is the heir's; `context` and `go_on` are the retiring worker's, which serves what comes back."""
        self._legacy = legacy
        self._context = context
        self._go_on = go_on

    def __call__(self, connection: HandedOver) -> None:
        for returned in self._legacy.give(connection):
            self._context.hand_over = None  # it will not take the others either
            self._go_on(returned)

    @property
    def congested(self) -> bool:
        return self._legacy.backlog >= MAX_PER_TURN
