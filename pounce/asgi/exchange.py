"""One request and its response, as the application sees them: `scope`, `receive` and `send`.

An exchange checks the order of what the application says (ASGI HTTP) and translates it for the protocol; it
does not know how messages are framed.

Owner: the worker's thread.
"""

import logging
import os
from threading import get_ident
from typing import TYPE_CHECKING, NoReturn

from pounce.app.types import Message
from pounce.asgi.failures import is_departure, log_departure, log_failure, log_returned, path_in_log
from pounce.asgi.pathsend import open_file
from pounce.asgi.stages import BODY, COMPLETE, EXPECTED, HELD, START, STARTED, TRAILERS, Stage
from pounce.errors import ClientDisconnected
from pounce.kernel.task import Cancelled, Driver, Task, Wait
from pounce.kernel.waits import sleep
from pounce.net.listeners import Address
from pounce.net.stream import HIGH_WATER, JOIN_BELOW, LITTLE, Stream
from pounce.protocols.events import ApplicationError, Request
from pounce.protocols.fields import Field

if TYPE_CHECKING:
    from pounce.connections.http1 import HTTP1Connection

logger = logging.getLogger("pounce.error")

PER_TURN = 1 << 20
"""Bytes that an application may say without the loop having a turn, for clients that take them as fast as they come."""
MESSAGE = 4096
"""What a message counts beside its content."""
FAREWELL = 32
"""Turns of the loop in which whoever has received the disconnect may end the application where it sends. A framework
that listens cancels what it has running; an error from `send` before that would end its background tasks too. Each
HTTP middleware of Starlette's takes two turns."""


class Exchange:
    # Attributes that most exchanges never change stand in the class: setting sixteen of them for every request took
    # 0.2 us on 3.14 and 0.6 on 3.13t.
    stage: Stage = START
    task: Driver | None = None
    """The application's task, once it has had to wait."""
    body_waiting = 0
    """Bytes of content that have come and were not yet received."""
    body_complete = True
    """Has all of the content come?"""
    ended = False
    """The client sends no more; it may still be reading."""
    lost = False
    """The connection is gone."""
    queued = False
    """Does it wait to be admitted?"""
    expects_continue = False
    """Does the client still wait for a 100 (Continue)?"""
    _body: list[bytes] | None = None  # content that has come and was not yet received
    _body_given = False  # has the application received all of the content?
    _told = False  # has it received the disconnect?
    _farewell = False  # did somebody listen when the client left?
    _remarked = False  # is it in the log that messages are ignored?
    _unused: list[Message] | None = None  # messages that were received for nobody
    _said = 0  # bytes since it last gave way to others, a message counting MESSAGE
    _cancelled = False
    _readers: list[Wait] | None = None
    _writers: list[Wait] | None = None

    def __init__(self, connection: "HTTP1Connection", request: Request) -> None:
        self._connection = connection
        self.request = request

    @property
    def client(self) -> Address | None:
        return self._connection.client

    # What the connection tells

    def feed(self, data: bytes, complete: bool) -> None:
        """Content has come."""
        if data:
            if self._body is None:
                self._body = [data]
            elif len(data) < LITTLE and len(self._body[-1]) < JOIN_BELOW:
                self._body[-1] += data
            else:
                self._body.append(data)
            self.body_waiting += len(data)
        self.body_complete = complete
        if self._readers and (data or complete):
            wake(self._readers)

    def end(self) -> None:
        """The client has closed its side."""
        self.ended = True
        wake(self._readers)

    def lose(self) -> None:
        """The connection is gone: whoever waits learns of it."""
        self.lost = True
        self._farewell = self._told or bool(self._readers)
        if self.queued:
            self._connection.worker.admission.leave(self)
        wake(self._readers)
        wake(self._writers)

    def cancel(self) -> None:
        """Ends the application where it waits."""
        self._cancelled = True
        if self.task is not None:
            self.task.cancel()

    def runs_as(self, task: Driver) -> None:
        """The application has to wait: from now on this task goes on with it."""
        self.task = task
        if self.stage is HELD:
            self._connection.worker.loop.call_soon(self._let_head_leave)
        if self._cancelled:  # in its first step
            task.cancel()

    def admit(self) -> None:
        """It has waited for its turn, which has come."""
        self._connection.admitted(self)

    def refuse(self, *fields: Field) -> None:
        """It will not run."""
        self._connection.fail(503, "Service Unavailable", close=True, fields=fields)

    def time_out(self) -> bool:
        """It has run too long. False when nobody waits for it any more."""
        if self.stage is COMPLETE or self.lost:
            return False
        logger.error("Request timed out: %s", self.describe())
        if self.answerable:
            self.stage = COMPLETE
            self._connection.fail(504, "Gateway Timeout")
        else:
            self._connection.cut()
        self.lose()
        self.cancel()
        return True

    def drained(self) -> None:
        """The client has taken enough of what was sent."""
        wake(self._writers)

    @property
    def sends_on(self) -> Stream | None:
        """The stream, until the whole response has been handed to it."""
        return None if self.stage is COMPLETE else self._connection.stream

    @property
    def answerable(self) -> bool:
        """Is nothing of the response on its way yet, so that another can take its place?"""
        return self.stage in (START, HELD)

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

    # What the application calls

    async def receive(self) -> Message:
        """The next part of the content, then `http.disconnect` when the client is gone or the response is over
        (ASGI HTTP, "Request" and "Disconnect"). After that it waits for as long as the application runs."""
        if get_ident() != self._connection.thread:
            return await self._connection.worker.foreign.pass_on(self.receive, unused=self._give_back)
        while self._told and not self._unused:
            await self._wait_to_receive()
        while self.stage is not COMPLETE:
            if self._unused:
                break
            if not self._body_given:
                if self._body or self.body_complete:
                    return self._take_body()
                if self.expects_continue:
                    self.expects_continue = False
                    if self.answerable and not self.lost:  # a start that is held back does not tell the client
                        self._connection.send_continue()
                    self._connection.want_body()
            if self.lost or self.ended:
                break
            await self._wait_to_receive()
        if self._unused:
            return self._unused.pop(0)
        self._told = True
        return {"type": "http.disconnect"}

    def _give_back(self, message: Message) -> None:
        """Nobody waits any more for a message that was received on another thread's behalf."""
        self._unused = [*(self._unused or ()), message]
        wake(self._readers)

    def _take_body(self) -> Message:
        self.expects_continue = False
        parts, self._body = self._body or [b""], None
        self.body_waiting = 0
        if self.body_complete:
            self._body_given = True
        else:
            self._connection.want_body()
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return {"type": "http.request", "body": body, "more_body": not self.body_complete}

    async def send(self, message: Message) -> None:
        """Takes the next message of the response. Returns at once while the client keeps up with it.

        Raises ClientDisconnected when the client is gone, ApplicationError when the message is not one that can
        come now.
        """
        connection = self._connection
        if get_ident() != connection.thread:
            await connection.worker.foreign.pass_on(self.send, message)
            return
        if self.lost:
            await self._client_gone()
        try:
            kind = message["type"]
            stage = self.stage
            if kind == "http.response.start" and stage is START:
                trailers = "trailers" in message and message["trailers"]
                connection.writer.start(self.request, message["status"], message.get("headers", ()), trailers)
                self.stage = HELD
                if self.task is not None:
                    connection.worker.loop.call_soon(self._let_head_leave)
                return
            if kind == "http.response.body" and (stage is HELD or stage is BODY or stage is STARTED):
                body = message["body"] if "body" in message else b""  # noqa: SIM401  # on 3.13t `get` is a third slower
                if body.__class__ is not bytes:
                    body = _bytes(body)
                more = "more_body" in message and message["more_body"]
                connection.send_body(self, body, more)
                if not more and not connection.writer.awaits_trailers:
                    self._complete()
                    return
                self.stage = BODY if more else TRAILERS
                self._said += len(body)
            else:
                self._say(kind, message)
        except Exception:
            await self._give_way()  # to others, by whoever tries again and again
            raise
        self._said += MESSAGE
        if self._said >= PER_TURN:
            await self._give_way()
        while connection.stream.buffered > HIGH_WATER and not self.lost and self.stage is not COMPLETE:
            await self._wait_to_send()

    def _say(self, kind: str, message: Message) -> None:
        """Takes what is neither the start nor content, or comes when it cannot."""
        stage = self.stage
        connection = self._connection
        if kind == "http.response.pathsend" and (stage is HELD or stage is STARTED):
            self._send_path(message["path"])
        elif kind == "http.response.trailers" and stage is TRAILERS:
            more = message.get("more_trailers", False)
            connection.send_trailers(message.get("headers", ()), more=more)
            if not more:
                self._complete()
        elif kind == "http.response.early_hint" and stage is not COMPLETE:
            if self.answerable:  # else the head has left: "the server may decide to ignore" it
                connection.send_early_hint(self, message.get("links", ()))
        elif stage is COMPLETE and str(kind).startswith("http.response."):
            # ASGI HTTP, "Response Body": "any further messages on the channel will be ignored".
            if not self._remarked:
                logger.warning("ASGI app sent %r after the response was complete; it is ignored: %s", kind, self.name)
            self._remarked = True
        else:
            self._misplaced(kind, EXPECTED[stage])

    def _misplaced(self, kind: str, expected: str) -> None:
        """A message that cannot come now. Raises ApplicationError while there is a client to be answered."""
        if not self._gone:
            raise ApplicationError(f"ASGI message {kind!r} cannot be sent now: {expected}")
        if not self._remarked:
            logger.debug("ASGI app sent %r after the disconnect of %s; it is ignored.", kind, self.name)
        self._remarked = True

    @property
    def _gone(self) -> bool:
        """Has the application received that the client is gone?"""
        return self._told and self.ended

    async def _give_way(self) -> None:
        """Lets the loop take a turn now and then: an application that says much, to a client that takes it at once or
        to none, must not keep all others waiting."""
        self._said += MESSAGE
        if self._said >= PER_TURN:
            self._said = 0
            await sleep(0)

    async def _client_gone(self) -> NoReturn:
        """Raises ClientDisconnected, when whoever listens for the disconnect had its time to act."""
        if self._farewell and type(self.task) is not Task:  # which has no other beside it that could listen
            self._farewell = False
            for _ in range(FAREWELL):
                await sleep(0)
        await self._give_way()
        raise ClientDisconnected("the client has disconnected")

    def _let_head_leave(self) -> None:
        """The application has said how the response begins, and then waits: its client may wait for the head, as
        EventSource does, and proxies too."""
        if self.stage is HELD and not self.lost and not (self.task is not None and self.task.done):
            self._connection.send_head(self)
            self.stage = STARTED

    def _send_path(self, path: object) -> None:
        fd, size = open_file(path)
        try:
            self._connection.send_file(self, fd, size)
        except BaseException:
            os.close(fd)
            raise
        self._complete()

    def _complete(self) -> None:
        self.stage = COMPLETE
        if self._readers:
            wake(self._readers)
        self._connection.response_complete()

    # When the application has ended

    def finished(self, value: object, error: BaseException | None) -> None:
        """The application has returned `value` or raised `error`."""
        if self.task is not None:
            self._connection.worker.exchange_over(self)
        if error is None and value is None and self.stage is COMPLETE:
            return  # as it should be
        if error is not None:
            if self.lost and is_departure(error):
                log_departure(self.name, error)
            elif not (self._cancelled and issubclass(type(error), Cancelled)):
                log_failure(error, f"ASGI application: {self.name}")
        elif value is not None:
            log_returned(self.name, value)
        elif not self.lost and not self.ended:
            what = "starting" if self.stage is START else "completing"
            logger.error("ASGI callable returned without %s response: %s", what, self.name)
        if self.stage is not COMPLETE and not self.lost:
            answerable = self.answerable
            self.stage = COMPLETE
            if not answerable:
                self._connection.cut()
            elif issubclass(type(error), Cancelled):
                self._connection.fail(503, "Service Unavailable")
            else:
                self._connection.fail(500, "Internal Server Error")

    def describe(self) -> str:
        """The exchange for the log: the request, and the innermost line of the application that waits."""
        places = self.task.stack() if self.task is not None else []
        own = [place for place in places if not place[0].startswith(_NOT_THEIRS)]
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


def _bytes(body: object) -> bytes:
    if not isinstance(body, bytes | bytearray | memoryview):
        raise ApplicationError(f"the body of a response is bytes, not {type(body).__name__}")
    return bytes(body)


_NOT_THEIRS = (os.path.dirname(os.path.dirname(__file__)), os.path.join(os.path.dirname(os.__file__), "asyncio"))
"""Where the application's own code is not."""
