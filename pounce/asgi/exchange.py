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

import enum
import logging
import os
import stat
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from pounce.errors import ClientDisconnected
from pounce.kernel.task import Cancelled, Driver, Wait
from pounce.protocols.events import ApplicationError, Request

if TYPE_CHECKING:
    from pounce.asgi.http1 import HTTP1Connection

type Message = dict[str, Any]
type Scope = dict[str, Any]
type Receive = Callable[[], Coroutine[Any, Any, Message]]
type Send = Callable[[Message], Coroutine[Any, Any, None]]
type Application = Callable[[Scope, Receive, Send], Coroutine[Any, Any, object]]

logger = logging.getLogger("pounce.error")


class Stage(enum.Enum):
    START = "start"
    HELD = "held"
    BODY = "body"
    TRAILERS = "trailers"
    COMPLETE = "complete"


class Exchange:
    __slots__ = ("_body", "_body_given", "_cancelled", "_connection", "_expects_continue", "_readers", "_writers",
                 "body_complete", "body_waiting", "ended", "lost", "request", "stage", "task")  # fmt: skip

    def __init__(self, connection: "HTTP1Connection", request: Request) -> None:
        self._connection = connection
        self.request = request
        self.stage = Stage.START
        self.task: Driver | None = None
        """The application's task, once it has had to wait."""
        self._body: list[bytes] = []
        self.body_waiting = 0
        """Bytes of content that have come and were not yet received."""
        self.body_complete = False
        self._body_given = False
        self._cancelled = False
        self._expects_continue = request.expects_continue
        self.ended = False
        """The client sends no more; it may still be reading."""
        self.lost = False
        """The connection is gone."""
        self._readers: list[Wait] = []
        self._writers: list[Wait] = []

    # What the connection tells

    def feed(self, data: bytes, *, complete: bool) -> None:
        """Content has come."""
        if data:
            self._body.append(data)
            self.body_waiting += len(data)
        self.body_complete = complete
        if data or complete:
            self._wake(self._readers)

    def end(self) -> None:
        """The client has closed its side."""
        self.ended = True
        self._wake(self._readers)

    def lose(self) -> None:
        """The connection is gone: whoever waits learns of it."""
        self.lost = True
        self._wake(self._readers)
        self._wake(self._writers)

    def cancel(self) -> None:
        """Ends the application where it waits."""
        self._cancelled = True
        if self.task is not None:
            self.task.cancel()

    def drained(self) -> None:
        """The client has taken enough of what was sent."""
        self._wake(self._writers)

    @property
    def expects_continue(self) -> bool:
        """Does the client still wait for a 100 (Continue)?"""
        return self._expects_continue

    @property
    def answerable(self) -> bool:
        """Is nothing of the response on its way yet, so that another can take its place?"""
        return self.stage in (Stage.START, Stage.HELD)

    def _wake(self, waits: list[Wait]) -> None:
        for wait in waits:
            wait.wake()
        waits.clear()

    async def _wait(self, waits: list[Wait]) -> None:
        wait = Wait()
        waits.append(wait)
        try:
            await wait
        finally:
            if wait in waits:
                waits.remove(wait)

    # What the application calls

    async def receive(self) -> Message:
        """The next part of the content, then `http.disconnect` when the client is gone or the response is over
        (ASGI HTTP, "Request" and "Disconnect")."""
        while self.stage is not Stage.COMPLETE:
            if not self._body_given:
                if self._body or self.body_complete:
                    return self._take_body()
                if self._expects_continue:
                    self._expects_continue = False
                    if self.stage is Stage.START and not self.lost:
                        self._connection.send_continue()
            if self.lost or self.ended:
                break
            await self._wait(self._readers)
        return {"type": "http.disconnect"}

    def _take_body(self) -> Message:
        self._expects_continue = False
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self.body_waiting = 0
        if self.body_complete:
            self._body_given = True
        else:
            self._connection.want_body()
        return {"type": "http.request", "body": body, "more_body": not self.body_complete}

    async def send(self, message: Message) -> None:
        """Takes the next message of the response. Returns at once while the client keeps up with it.

        Raises ClientDisconnected when the client is gone, ApplicationError when the message is not one that can
        come now.
        """
        if self.lost:
            raise ClientDisconnected("the client has disconnected")
        kind = message["type"]
        if kind == "http.response.body" and self.stage in (Stage.HELD, Stage.BODY):
            self._send_body(message.get("body", b""), more=bool(message.get("more_body", False)))
        elif kind == "http.response.start" and self.stage is Stage.START:
            self._send_start(message)
        elif kind == "http.response.pathsend" and self.stage is Stage.HELD:
            self._send_path(message["path"])
        elif kind == "http.response.trailers" and self.stage is Stage.TRAILERS:
            more = bool(message.get("more_trailers", False))
            self._connection.send_trailers(message.get("headers", ()), more=more)
            if not more:
                self._complete()
        elif kind == "http.response.early_hint" and self.stage is Stage.START:
            self._connection.send_early_hint(self, message.get("links", ()))
        elif self.stage is Stage.COMPLETE and str(kind).startswith("http.response."):
            # ASGI HTTP, "Response Body": "any further messages on the channel will be ignored".
            logger.warning("ASGI app sent %r after the response was complete; it is ignored.", kind)
        else:
            raise ApplicationError(f"ASGI message {kind!r} cannot be sent now: {_EXPECTED[self.stage]}")
        while self._connection.stream.full and not self.lost and self.stage is not Stage.COMPLETE:
            await self._wait(self._writers)

    def _send_start(self, message: Message) -> None:
        self._connection.send_start(
            message["status"], message.get("headers", ()), trailers=bool(message.get("trailers", False))
        )
        self.stage = Stage.HELD

    def _send_body(self, body: object, *, more: bool) -> None:
        if not isinstance(body, bytes):
            if not isinstance(body, bytearray | memoryview):
                raise ApplicationError(f"the body of a response is bytes, not {type(body).__name__}")
            body = bytes(body)
        whole = self._connection.send_body(self, body, more=more, first=self.stage is Stage.HELD)
        if more:
            self.stage = Stage.BODY
        elif whole:
            self._complete()
        else:
            self.stage = Stage.TRAILERS

    def _send_path(self, path: object) -> None:
        if not isinstance(path, str | os.PathLike):
            raise ApplicationError(f"the path of http.response.pathsend is a string, not {type(path).__name__}")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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
        self.stage = Stage.COMPLETE
        self._wake(self._readers)
        self._connection.response_complete()

    # When the application has ended

    def finished(self, value: object, error: BaseException | None) -> None:
        """The application has returned `value` or raised `error`."""
        self._connection.worker.exchange_over(self)
        if error is not None:
            gone = self.lost and isinstance(error, ClientDisconnected)
            if not gone and not (self._cancelled and isinstance(error, Cancelled)):
                logger.error("Exception in ASGI application\n", exc_info=error)
                _hint(error)
        elif value is not None:
            logger.error("ASGI callable should return None, but returned '%s'.", value)
        elif self.stage is not Stage.COMPLETE and not self.lost and not self.ended:
            what = "starting" if self.stage is Stage.START else "completing"
            logger.error("ASGI callable returned without %s response.", what)
        if self.stage is not Stage.COMPLETE and not self.lost:
            answerable = self.answerable
            self.stage = Stage.COMPLETE
            if not answerable:
                self._connection.cut()
            elif isinstance(error, Cancelled):
                self._connection.fail(503, "Service Unavailable")
            else:
                self._connection.fail(500, "Internal Server Error")

    def describe(self) -> str:
        """The exchange for the log: the request, and the innermost line of the application that waits."""
        places = self.task.stack() if self.task is not None else []
        own = [place for place in places if not place[0].startswith(_PACKAGE)]
        where = " in {2} ({0}:{1})".format(*(own or places)[-1]) if places else ""
        return f"{self.request.method} {self.request.path.decode('ascii')}{where}"


_PACKAGE = os.path.dirname(os.path.dirname(__file__))

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
    Stage.START: "the response has not been started with 'http.response.start'",
    Stage.HELD: "'http.response.body' must follow 'http.response.start'",
    Stage.BODY: "'http.response.body' must follow until more_body is false",
    Stage.TRAILERS: "'http.response.trailers' was promised",
    Stage.COMPLETE: "the response is complete",
}
