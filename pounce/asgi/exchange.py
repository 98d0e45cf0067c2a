"""One request and its response, as the application sees them: `scope`, `receive` and `send`.

An exchange checks the order of the messages that the application sends (ASGI HTTP) and translates them for the
transport; it does not know how they are framed. It is the `Handler` of its request.

Owner: the worker's thread.
"""

import logging
import os
from collections.abc import Iterable
from threading import get_ident
from typing import TYPE_CHECKING

from pounce.app.types import Message
from pounce.asgi.application_call import MAX_BYTES_PER_TURN, MESSAGE_COST, ApplicationCall, wake
from pounce.asgi.failures import is_disconnect, log_disconnect, log_failure, log_returned
from pounce.asgi.pathsend import open_file
from pounce.asgi.scope import http_scope, scope_of
from pounce.asgi.stages import BODY, COMPLETE, EXPECTED, HELD, START, STARTED, TRAILERS, Stage
from pounce.kernel.task import Cancelled, Driver
from pounce.observe.observer import Outcome
from pounce.protocols.events import ApplicationError
from pounce.protocols.fields import Field

if TYPE_CHECKING:
    from pounce.connections.interface import ByteStream

JOIN_BELOW = 8192  # bytes of content that has been received
SMALL = 512
"""Content that waits in parts of fewer bytes is joined: an object for every few bytes would cost many times the
bytes."""

COMPLETED = Outcome.COMPLETED  # an enumeration's members cost a lookup more

logger = logging.getLogger("pounce.error")


class Exchange(ApplicationCall):
    stage: Stage = START
    body_complete = True
    """Has all of the content come?"""
    _body: list[bytes] | None = None  # content that has come and was not yet received
    _body_taken = False  # has the application received all of the content?
    _asked = False  # has a client that waits for a 100 (Continue) been told to go on?
    _trailers = False  # are trailers promised?

    @property
    def answerable(self) -> bool:
        return self.stage in (START, HELD)

    @property
    def answered(self) -> bool:
        return self.stage is COMPLETE

    @property
    def sending_stream(self) -> "ByteStream | None":
        """The stream, until the whole response has been handed to it."""
        return None if self.stage is COMPLETE else self.transport.stream

    # What the transport and admission call

    def start(self) -> None:
        service = self._service
        if self.request.forwarding:
            self.seen = service.seen(self.transport.peer, self.request)
            if not service.limited or service.admission.admit(self):
                self.admit()
        elif not service.limited or service.admission.admit(self):
            service.run(self, http_scope(service, self.transport.peer, self.request))

    def admit(self) -> None:
        self._service.run(self, scope_of(self._service, self.peer, self.request, self.seen))

    def refuse(self, *fields: Field) -> None:
        self._send_error(Outcome.REFUSED, 503, "Service Unavailable", fields, close=True)

    def body_received(self, data: bytes, complete: bool) -> None:
        if data:
            if self._body is None:
                self._body = [data]
            elif len(data) < SMALL and len(self._body[-1]) < JOIN_BELOW:
                self._body[-1] += data
            else:
                self._body.append(data)
        self.body_complete = complete
        if self._readers and (data or complete):
            wake(self._readers)

    def task_started(self, task: Driver) -> None:
        if self.stage is HELD:
            self._service.loop.call_soon(self._send_held_head)
        super().task_started(task)

    def time_out(self) -> bool:
        if self.stage is COMPLETE or self.lost:
            return False
        logger.error("Request timed out: %s", self.describe())
        if self.answerable:
            self._send_error(Outcome.TIMED_OUT, 504, "Gateway Timeout")
        else:
            self._end(Outcome.TIMED_OUT)
            self.transport.abort()
        self._disconnected()
        self.cancel()
        return True

    # What the application calls

    async def receive(self) -> Message:
        """The next part of the content, then `http.disconnect` when the client is gone or the response is over
        (ASGI HTTP, "Request" and "Disconnect"). After that it waits for as long as the application runs."""
        if get_ident() != self._service.thread:
            return await self._service.cross_thread.call(self.receive, on_unused=self._return_message)
        while self._disconnect_received and not self._returned_messages:
            await self._wait_to_receive()
        while self.stage is not COMPLETE:
            if self._returned_messages:
                break
            if not self._body_taken:
                if self._body or self.body_complete:
                    return self._take_body()
                if self.request.expects_continue and not self._asked:
                    self._asked = True
                    if not self.lost:
                        self.transport.read_more(0)
            if self.lost or self.eof:
                break
            await self._wait_to_receive()
        if self._returned_messages:
            return self._returned_messages.pop(0)
        self._disconnect_received = True
        return {"type": "http.disconnect"}

    def _take_body(self) -> Message:
        self._asked = True
        parts, self._body = self._body or [b""], None
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        if self.body_complete:
            self._body_taken = True
        elif not self.lost:
            self.transport.read_more(len(body))
        return {"type": "http.request", "body": body, "more_body": not self.body_complete}

    async def send(self, message: Message) -> None:
        """Takes the next message of the response. Returns at once while the client keeps up with it.

        Raises ClientDisconnected when the client is gone, ApplicationError when the message is not one that can
        come now.
        """
        service = self._service
        if get_ident() != service.thread:
            await service.cross_thread.call(self.send, message)
            return
        if self.lost:
            await self._raise_disconnected()
        transport = self.transport
        try:
            kind = message["type"]
            stage = self.stage
            if kind == "http.response.start" and stage is START:
                status = message["status"]
                trailers = "trailers" in message and bool(message["trailers"])
                transport.send_head(status, message.get("headers", ()), trailers)
                self.status = status
                if trailers:
                    self._trailers = True
                self.stage = HELD
                if self.task is not None:
                    service.loop.call_soon(self._send_held_head)
                return
            if kind == "http.response.body" and (stage is HELD or stage is BODY or stage is STARTED):
                body = message["body"] if "body" in message else b""  # noqa: SIM401  # on 3.13t `get` is a third slower
                if body.__class__ is not bytes:
                    body = _bytes(body)
                more = "more_body" in message and message["more_body"]
                congested = transport.send_body(body, more)
                if stage is HELD and service.on_response is not None:
                    service.on_response(self)
                if not more and not self._trailers:
                    on_end = service.on_end
                    if self._readers is not None:
                        self.bytes_sent += len(body)
                        self._complete()
                        return
                    self.stage = COMPLETE  # as `_complete`
                    if on_end is not None and self._outcome is None:
                        self.bytes_sent += len(body)
                        self._outcome = COMPLETED
                        on_end(self, COMPLETED)
                    return
                self.stage = BODY if more else TRAILERS
                self._bytes_since_yield += len(body)
                if service.on_end is not None:
                    self._part_sent(len(body))
            else:
                self._send_other(kind, message)
                congested = transport.congested
        except Exception:
            await self._yield_turn()  # also where an application sends what is wrong again and again
            raise
        self._bytes_since_yield += MESSAGE_COST
        if self._bytes_since_yield >= MAX_BYTES_PER_TURN:
            await self._yield_turn()
        while congested and not self.lost and self.stage is not COMPLETE:
            await self._wait_to_send()
            congested = transport.congested

    def _part_sent(self, size: int) -> None:
        """A part of the content has been sent that is not the last. Called where an observer counts."""
        self.bytes_sent += size

    def _send_other(self, kind: str, message: Message) -> None:
        """Takes what is neither the start nor content, or comes when it cannot."""
        stage = self.stage
        if kind == "http.response.pathsend" and (stage is HELD or stage is STARTED):
            self._send_path(message["path"])
        elif kind == "http.response.trailers" and stage is TRAILERS:
            more = message.get("more_trailers", False)
            self.transport.send_trailers(message.get("headers", ()), more)
            if not more:
                self._complete()
        elif kind == "http.response.early_hint" and stage is not COMPLETE:
            if self.answerable:  # else the head has left: "the server may decide to ignore" it
                self.transport.send_early_hints(message.get("links", ()))
        elif stage is COMPLETE and str(kind).startswith("http.response."):
            # ASGI HTTP, "Response Body": "any further messages on the channel will be ignored".
            if not self._ignored_logged:
                logger.warning("ASGI app sent %r after the response was complete; it is ignored: %s", kind, self.name)
            self._ignored_logged = True
        else:
            self._unexpected(kind, EXPECTED[stage])

    def _send_held_head(self) -> None:
        """The application has said how the response begins, and then waits: its client may wait for the head, as
        EventSource does, and proxies too."""
        if self.stage is HELD and not self.lost and not (self.task is not None and self.task.done):
            self.transport.flush_head()
            self.stage = STARTED
            self._response_started()

    def _send_path(self, path: object) -> None:
        fd, size = open_file(path)
        held = self.stage is HELD
        try:
            self.bytes_sent += self.transport.send_file(fd, size)
        except BaseException:
            os.close(fd)
            raise
        if held:
            self._response_started()
        self._complete()

    def _response_started(self) -> None:
        """The head of the response has been sent."""
        if self._service.on_response is not None:
            self._service.on_response(self)

    def _complete(self) -> None:
        self.stage = COMPLETE
        if self._readers:
            wake(self._readers)
        self._end(COMPLETED)

    def _send_error(
        self, outcome: Outcome, status: int, reason: str, fields: Iterable[Field] = (), *, close: bool = False
    ) -> None:
        """Answers in place of the application."""
        self.stage = COMPLETE
        self.status = status
        self.bytes_sent = len(reason)
        self._response_started()
        self.transport.send_error(status, reason, fields, close=close)
        self._end(outcome)

    # When the application has ended

    def finished(self, value: object, error: BaseException | None) -> None:
        """The application has returned `value` or raised `error`."""
        if self.task is not None:
            self._service.exchange_ended(self)
        if error is None and value is None and self.stage is COMPLETE:
            return  # as it should be
        if error is not None:
            if self.lost and is_disconnect(error):
                log_disconnect(self.name, error)
            elif not (self._cancelled and issubclass(type(error), Cancelled)):
                log_failure(error, f"ASGI application: {self.name}")
        elif value is not None:
            log_returned(self.name, value)
        elif not self.lost and not self.eof:
            what = "starting" if self.stage is START else "completing"
            logger.error("ASGI callable returned without %s response: %s", what, self.name)
        if self.stage is not COMPLETE and not self.lost:
            self._fail(Outcome.CANCELLED if issubclass(type(error), Cancelled) else Outcome.FAILED)

    def _fail(self, outcome: Outcome) -> None:
        """The application will not complete its response."""
        if not self.answerable:
            self.transport.abort()
            self._end(outcome)
            self.stage = COMPLETE  # last: it was not answered
        elif outcome is Outcome.CANCELLED:
            # A worker that drains ends within a second then: the client must not use the connection again meanwhile.
            self._send_error(outcome, 503, "Service Unavailable", close=self._service.draining.is_set())
        else:
            self._send_error(outcome, 500, "Internal Server Error")


def _bytes(body: object) -> bytes:
    if not isinstance(body, bytes | bytearray | memoryview):
        raise ApplicationError(f"the body of a response is bytes, not {type(body).__name__}")
    return bytes(body)
