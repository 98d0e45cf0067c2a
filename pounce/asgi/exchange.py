"""One request and its response, as the application sees them: `scope`, `receive` and `send`.

An exchange checks the order of what the application says (ASGI HTTP 2.5) and translates it for the protocol; it
does not know how messages are framed. Its stages:

    START     nothing has been said
    HELD      the start is known and held back until the first part of the content
    BODY      content is flowing
    TRAILERS  the content is over, trailers were promised
    COMPLETE  everything has been said; the application may still be running

Owner: the worker's thread.
"""

import logging
import os
import stat
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Literal

from pounce.errors import ClientDisconnected
from pounce.fields import Field
from pounce.kernel.task import Cancelled, Driver, Interrupted, Wait
from pounce.net.stream import HIGH_WATER, JOIN_BELOW, LITTLE, Stream
from pounce.protocols.events import ApplicationError, Request

if TYPE_CHECKING:
    from pounce.asgi.http1 import HTTP1Connection

type Message = dict[str, Any]
type Scope = dict[str, Any]
type Receive = Callable[[], Coroutine[Any, Any, Message]]
type Send = Callable[[Message], Coroutine[Any, Any, None]]
type Application = Callable[[Scope, Receive, Send], Coroutine[Any, Any, object]]

logger = logging.getLogger("pounce.error")


type Stage = Literal["start", "held", "body", "trailers", "complete"]
# Names of the module, because an enumeration's members cost a lookup more, six times for every request.
START: Final = "start"
HELD: Final = "held"
BODY: Final = "body"
TRAILERS: Final = "trailers"
COMPLETE: Final = "complete"


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
    _cancelled = False
    _readers: list[Wait] | None = None
    _writers: list[Wait] | None = None

    def __init__(self, connection: "HTTP1Connection", request: Request) -> None:
        self._connection = connection
        self.request = request

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
        (ASGI HTTP, "Request" and "Disconnect")."""
        while self.stage is not COMPLETE:
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
        return {"type": "http.disconnect"}

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
        if self.lost:
            raise ClientDisconnected("the client has disconnected")
        kind = message["type"]
        stage = self.stage
        connection = self._connection
        if kind == "http.response.start" and stage is START:
            trailers = "trailers" in message and message["trailers"]
            connection.writer.start(self.request, message["status"], message.get("headers", ()), trailers)
            self.stage = HELD
            return
        if kind == "http.response.body" and (stage is HELD or stage is BODY):
            body = message["body"] if "body" in message else b""  # noqa: SIM401  # on 3.13t `get` is a third slower
            if body.__class__ is not bytes:
                body = _bytes(body)
            more = "more_body" in message and message["more_body"]
            connection.send_body(self, body, more)
            if more:
                self.stage = BODY
            elif connection.writer.awaits_trailers:
                self.stage = TRAILERS
            else:
                self._complete()
                return
        elif kind == "http.response.pathsend" and stage is HELD:
            self._send_path(message["path"])
        elif kind == "http.response.trailers" and stage is TRAILERS:
            more = message.get("more_trailers", False)
            connection.send_trailers(message.get("headers", ()), more=more)
            if not more:
                self._complete()
        elif kind == "http.response.early_hint" and stage is START:
            connection.send_early_hint(self, message.get("links", ()))
        elif stage is COMPLETE and str(kind).startswith("http.response."):
            # ASGI HTTP, "Response Body": "any further messages on the channel will be ignored".
            logger.warning("ASGI app sent %r after the response was complete; it is ignored.", kind)
        else:
            raise ApplicationError(f"ASGI message {kind!r} cannot be sent now: {_EXPECTED[stage]}")
        while connection.stream.buffered > HIGH_WATER and not self.lost and self.stage is not COMPLETE:
            await self._wait_to_send()

    def _send_path(self, path: object) -> None:
        if not isinstance(path, str | os.PathLike):
            raise ApplicationError(f"the path of http.response.pathsend is a string, not {type(path).__name__}")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # to open a FIFO would wait for a writer
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise ApplicationError(f"{os.fspath(path)!r} is not a regular file")
            self._connection.send_file(self, fd, found.st_size)
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
        if error is not None:
            # Of its type, because a class of the application's may do anything when an instance is asked.
            gone = self.lost and issubclass(type(error), ClientDisconnected)
            if not gone and not (self._cancelled and issubclass(type(error), Cancelled)):
                log_failure(error)
        elif value is not None:
            log_returned(value)
        elif self.stage is not COMPLETE and not self.lost and not self.ended:
            what = "starting" if self.stage is START else "completing"
            logger.error("ASGI callable returned without %s response.", what)
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
        return f"{self.request.method} {self.request.path.decode('ascii')}"


# Whatever an object of the application's does when it is looked at, it ends nothing else.


def where_it_was(error: BaseException) -> str:
    """The innermost line that the error has passed, but for what the signal itself has called."""
    place = "?"
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] != "pounce":
            place = f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place


def log_failure(error: BaseException, where: str = "ASGI application") -> None:
    """The application has raised `error`."""
    if issubclass(type(error), Interrupted):
        logger.error("Interrupted: %s", where_it_was(error))
        return
    try:
        logger.error(f"Exception in {where}\n", exc_info=error)
        _hint(error)
    except BaseException as another:
        logger.error("Exception in %s: %s, and %s on looking at it", where, type(error), type(another))


def log_returned(value: object) -> None:
    """The application has returned `value`."""
    try:
        text = str(value)
    except BaseException as another:
        text = f"{type(value)}, and {type(another)} on looking at it"
    logger.error("ASGI callable should return None, but returned '%s'.", text)


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

_OTHER_LOOP = ("bound to a different event loop", "attached to a different loop")
_hinted = threading.Event()  # once per process: set by the first worker that has seen it


def _hint(error: BaseException) -> None:
    """Says what to do about an object of another worker's loop, once."""
    if any(words in str(error) for words in _OTHER_LOOP) and not _hinted.is_set():
        _hinted.set()
        logger.error(
            "An object that belongs to one worker's event loop was used in another's. Give each worker thread its own: "
            "--app-copies worker, or pounce.per_worker; or use --worker-kind process."
        )


_EXPECTED = {
    START: "the response has not been started with 'http.response.start'",
    HELD: "'http.response.body' must follow 'http.response.start'",
    BODY: "'http.response.body' must follow until more_body is false",
    TRAILERS: "'http.response.trailers' was promised",
    COMPLETE: "the response is complete",
}
