"""One call of the application, for a request or a WebSocket: its task, what it waits for, and how it ends.

Owner: the worker's thread.
"""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NoReturn

from pounce.app.types import Message
from pounce.asgi.failures import path_in_log
from pounce.asgi.forwarded import Seen
from pounce.asgi.service import Service
from pounce.connections.interface import Peer, Transport
from pounce.errors import ClientDisconnected
from pounce.kernel.task import Driver, Task, Wait
from pounce.kernel.waits import sleep
from pounce.observe.observer import Outcome
from pounce.protocols.events import ApplicationError, Request
from pounce.protocols.fields import Field

MAX_BYTES_PER_TURN = 1 << 20
"""Bytes that an application may send without the loop having a turn, to clients that take them as fast as they come."""
MESSAGE_COST = 4096
"""Bytes that a message counts beside its content."""
DISCONNECT_TURNS = 32
"""Turns of the loop in which an application that has received the disconnect may end by itself where it sends. A
framework that listens cancels what it has running; an error from `send` before that would end its background tasks too.
Each HTTP middleware of Starlette's takes two turns."""

logger = logging.getLogger("pounce.error")


class ApplicationCall(ABC):
    # Attributes that most calls never change stand in the class: setting sixteen of them for every request took 0.2 us
    # on 3.14 and 0.6 on 3.13t.
    task: Driver | None = None
    """The application's task, once it has had to wait."""
    eof = False
    """The client sends no more; it may still be reading."""
    lost = False
    """The connection is gone."""
    queued = False
    """Does it wait for admission?"""
    has_deadline = True
    """Does `--timeout-request` hold for it?"""
    status = 0
    """Of the response; 0 as long as there is none."""
    seen: Seen | None = None
    """What proxies say of it, where that changes something."""
    bytes_sent = 0
    """As `Observed` has it, and so are the next six."""
    bytes_received = 0
    received = 0.0
    started = 0.0
    first_byte = 0.0
    request_id: str | None = None
    response_fields: Iterable[Field] = ()
    _outcome: Outcome | None = None
    _disconnect_received = False  # by the application
    _had_listener = False  # was the application waiting to receive, or had it received the disconnect, when that came?
    _ignored_logged = False  # is it in the log that messages are ignored?
    _returned_messages: list[Message] | None = None  # were received by a caller that was cancelled meanwhile
    _bytes_since_yield = 0  # sent since the loop last had a turn, a message counting MESSAGE_COST
    _cancelled = False
    _readers: list[Wait] | None = None
    _writers: list[Wait] | None = None

    def __init__(self, service: Service, transport: Transport, request: Request) -> None:
        self._service = service
        self.transport = transport
        self.request = request

    @property
    def peer(self) -> Peer:
        """Who has sent the request, as far as trusted proxies say so."""
        return self.transport.peer if self.seen is None else self.seen.peer

    @property
    def root_path(self) -> str:
        if self.seen is None or self.seen.prefix is None:
            return self._service.root_path
        return self.seen.prefix.decode("ascii")  # as the path after it, in the log

    @property
    @abstractmethod
    def answered(self) -> bool:
        """Has the whole response been sent?"""

    # What admission calls

    @abstractmethod
    def admit(self) -> None:
        """It has waited for its turn, which has come."""

    @abstractmethod
    def refuse(self, *fields: Field) -> None:
        """It will not run."""

    @abstractmethod
    def time_out(self) -> bool:
        """It has run too long. False when no client waits for it any more."""

    # What the transport calls

    def eof_received(self) -> None:
        self.eof = True
        wake(self._readers)
        if self._service.cancel_on_disconnect:
            self.cancel()

    def writable(self) -> None:
        wake(self._writers)

    def connection_lost(self) -> None:
        self._disconnected()
        if self._service.cancel_on_disconnect:
            self.cancel()

    def _disconnected(self) -> None:
        """The client cannot be answered any more: whatever waits for it goes on."""
        self.lost = True
        self._had_listener = self._disconnect_received or bool(self._readers)
        if self.queued:
            self._service.admission.dequeue(self)
        self._end(Outcome.DISCONNECTED)
        wake(self._readers)
        wake(self._writers)

    # Its task

    def task_started(self, task: Driver) -> None:
        """The application has to wait: from now on this task drives it."""
        self.task = task
        if self._cancelled:  # in its first step
            task.cancel()

    def cancel(self) -> None:
        """Ends the application where it waits."""
        self._cancelled = True
        if self.task is not None:
            self.task.cancel()

    def log_and_cancel(self, level: int) -> None:
        logger.log(level, "Cancelled: %s", self.describe())
        self.cancel()

    def _end(self, outcome: Outcome) -> None:
        """The exchange is over. The first outcome is the one that counts."""
        if self._outcome is None:
            self._outcome = outcome
            on_end = self._service.on_end
            if on_end is not None:
                on_end(self, outcome)

    # What it waits for

    async def _wait(self, waits: list[Wait]) -> None:
        wait = Wait()
        waits.append(wait)
        try:
            await wait
        finally:
            if wait in waits:
                waits.remove(wait)

    async def _wait_to_receive(self) -> None:
        if self._readers is None:
            self._readers = []
        await self._wait(self._readers)

    async def _wait_to_send(self) -> None:
        if self._writers is None:
            self._writers = []
        await self._wait(self._writers)

    def _return_message(self, message: Message) -> None:
        """A message was received for another thread, whose caller no longer waits for it."""
        self._returned_messages = [*(self._returned_messages or ()), message]
        wake(self._readers)

    async def _yield_turn(self) -> None:
        """Lets the loop take a turn now and then: an application that sends much, to a client that takes it at once or
        to none, must not keep all others waiting."""
        self._bytes_since_yield += MESSAGE_COST
        if self._bytes_since_yield >= MAX_BYTES_PER_TURN:
            self._bytes_since_yield = 0
            await sleep(0)

    # Messages that cannot be sent

    @property
    def _disconnect_known(self) -> bool:
        """Has the application received that the client is gone?"""
        return self._disconnect_received and self.eof

    def _unexpected(self, kind: str, expected: str) -> None:
        """A message that cannot be sent now. Raises ApplicationError while there is a client to be answered."""
        if not self._disconnect_known:
            raise ApplicationError(f"ASGI message {kind!r} cannot be sent now: {expected}")
        if not self._ignored_logged:
            logger.debug("ASGI app sent %r after the disconnect of %s; it is ignored.", kind, self.name)
        self._ignored_logged = True

    async def _raise_disconnected(self) -> NoReturn:
        """Raises ClientDisconnected, after an application that listens for the disconnect had its time to act."""
        if self._had_listener and type(self.task) is not Task:  # which has no other beside it that could listen
            self._had_listener = False
            for _ in range(DISCONNECT_TURNS):
                await sleep(0)
        await self._yield_turn()
        raise ClientDisconnected("the client has disconnected")

    # For the log

    def describe(self) -> str:
        """The request, and the innermost line of the application that waits."""
        places = self.task.stack() if self.task is not None else []
        own = [place for place in places if not place[0].startswith(_SERVER_PATHS)]
        where = " in {2} ({0}:{1})".format(*(own or places)[-1]) if places else ""
        return f"{self.name}{where}"

    @property
    def name(self) -> str:
        """The request, as a person calls it."""
        return f"{self.request.method} {path_in_log(self.request.path)}"


def wake(waits: list[Wait] | None) -> None:
    if waits:
        for wait in waits:
            wait.wake()
        waits.clear()


_SERVER_PATHS = (os.path.dirname(os.path.dirname(__file__)), os.path.join(os.path.dirname(os.__file__), "asyncio"))
"""Where the application's own code is not."""
