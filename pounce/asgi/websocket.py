"""A WebSocket as the application sees it: `scope`, `receive` and `send` (ASGI, "WebSocket").

    CONNECTING   the application has not answered the handshake; the transport is still one of HTTP
    refused      it has answered with 403 or a response of its own; HTTP goes on with the next request
    accepted     messages go over a `MessageTransport`, from the 101 to its end

So a refusal is an ordinary response, sent by the same means, and everything here before the 101 is an exchange like
any other. This module is loaded at the first handshake.

Owner: the worker's thread.
"""

import logging
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pounce.app.types import Message
from pounce.asgi.application_call import MAX_BYTES_PER_TURN, MESSAGE_COST, wake
from pounce.asgi.exchange import Exchange
from pounce.asgi.failures import is_disconnect, log_disconnect, log_failure, log_returned, path_in_log
from pounce.asgi.scope import scope_of
from pounce.asgi.stages import COMPLETE, HELD, START
from pounce.errors import ClientDisconnected
from pounce.kernel.task import Cancelled
from pounce.observe.observer import Outcome
from pounce.protocols.events import ApplicationError
from pounce.protocols.ws import frames
from pounce.protocols.ws.handshake import Handshake, HandshakeError

if TYPE_CHECKING:
    from pounce.connections.interface import MessageTransport

DENIAL_PREFIX = "websocket."
"""What the types of the messages of a refusal have before those of any response."""

DISORDERLY = (frames.ABNORMAL, 1002, 1007, 1009, 1011)
"""Codes of an end that is not in order: no Close, illegal frames, text that is none, too large, no pong."""

logger = logging.getLogger("pounce.error")


class WebSocketExchange(Exchange):
    """The handler of the handshake and, once that is accepted, of the messages."""

    has_deadline = False  # it may stay for as long as it likes
    connection: "MessageTransport | None" = None
    """Set once the handshake is accepted."""
    handling_message = False
    """Has the application taken a message, and not come for the next one yet?"""
    _connect_sent = False
    _handshake: Handshake | None = None

    # What the transport and admission call

    def start(self) -> None:
        service = self._service
        if self.request.forwarding:
            self.seen = service.seen(self.transport.peer, self.request)
        try:
            if self.request.content_length != 0:
                raise HandshakeError(400, "a WebSocket handshake has no content")
            self._handshake = Handshake(self.request)
        except HandshakeError as error:
            self._send_error(Outcome.REFUSED, error.status, error.reason, error.fields)
            return
        if service.refuses_late_websockets and service.draining.is_set():
            self.refuse()
        elif not service.limited or service.admission.admit(self):
            self.admit()

    def admit(self) -> None:
        handshake = self._handshake
        assert handshake is not None
        scope = scope_of(self._service, self.peer, self.request, self.seen)
        del scope["method"]
        extensions = {"websocket.http.response": {}, **self._service.base_extensions}
        if "proxy" in scope["extensions"]:
            extensions["proxy"] = scope["extensions"]["proxy"]
        scope |= {
            "type": "websocket",
            "scheme": "wss" if scope["scheme"] in ("https", "wss") else "ws",
            "subprotocols": handshake.subprotocols,
            "extensions": extensions,
        }
        self._service.run(self, scope)

    def message_received(self) -> None:
        wake(self._readers)

    def connection_lost(self) -> None:
        if self.connection is None:
            super().connection_lost()
        else:
            self._disconnected()  # not cancelled: the end of a WebSocket is a message, and it may be of its own making

    def _disconnected(self) -> None:
        disconnect = self.connection.disconnect if self.connection is not None else None
        if disconnect is not None and disconnect[0] not in DISORDERLY:
            self._end(Outcome.COMPLETED)
        super()._disconnected()

    # What the application calls

    async def receive(self) -> Message:
        """`websocket.connect`, then messages as they come, then `websocket.disconnect`. After that it waits for as long
        as the application runs."""
        if get_ident() != self._service.thread:
            return await self._service.cross_thread.call(self.receive, on_unused=self._return_message)
        while self._disconnect_received and not self._returned_messages:
            await self._wait_to_receive()
        self.handling_message = False
        if not self._connect_sent:
            self._connect_sent = True
            return {"type": "websocket.connect"}
        while True:
            connection = self.connection
            if self._returned_messages:
                return self._returned_messages.pop(0)
            if connection is not None:
                data = connection.next_message()
                if data is not None:
                    self.handling_message = True
                    if self._service.on_end is not None:
                        self.bytes_received += _size(data)
                    return {"type": "websocket.receive", "text" if data.__class__ is str else "bytes": data}
                if connection.disconnect is not None:
                    self._disconnect_received = True
                    code, reason = connection.disconnect
                    return {"type": "websocket.disconnect", "code": code, "reason": reason}
            elif self.lost or self.eof or self.stage not in (START, HELD):
                self._disconnect_received = True
                return {"type": "websocket.disconnect", "code": frames.ABNORMAL, "reason": ""}
            await self._wait_to_receive()

    async def send(self, message: Message) -> None:
        """Takes the next message for the client. Returns at once while the client keeps up.

        Raises ClientDisconnected when the connection is over, ApplicationError when the message is not one that
        can come now.
        """
        if get_ident() != self._service.thread:
            await self._service.cross_thread.call(self.send, message)
            return
        connection = self.connection
        try:
            kind = message["type"]
            if connection is None:
                await self._answer_handshake(kind, message)
                return
            self._send_message(connection, kind, message)
        except Exception:
            await self._yield_turn()  # also where an application sends what is wrong again and again
            raise
        self._bytes_since_yield += MESSAGE_COST
        if self._bytes_since_yield >= MAX_BYTES_PER_TURN:
            await self._yield_turn()
        while connection.congested and connection.disconnect is None:
            await self._wait_to_send()

    def _send_message(self, connection: "MessageTransport", kind: str, message: Message) -> None:
        """Takes a message when the handshake is over."""
        if connection.disconnect is not None:
            if not connection.closed_by_application:
                raise ClientDisconnected("the client has disconnected")
            self._unexpected(kind, "'websocket.close' has been sent")
        elif kind == "websocket.send":
            data = _data(message)
            self._bytes_since_yield += len(data)
            connection.send(data)
            if self._service.on_end is not None:
                self.bytes_sent += _size(data)
        elif kind == "websocket.close":
            code, reason = message.get("code", 1000), message.get("reason") or ""
            if not isinstance(code, int) or not frames.may_be_sent(code):
                raise ApplicationError(f"a WebSocket cannot be closed with the code {code!r}")
            if not isinstance(reason, str):
                raise ApplicationError(f"the reason for closing a WebSocket is a string, not {type(reason).__name__}")
            connection.close_by_application(code, reason)
        else:
            self._unexpected(kind, "the WebSocket has been accepted")

    async def _answer_handshake(self, kind: str, message: Message) -> None:
        if self.lost or (self.eof and self.stage is START):
            raise ClientDisconnected("the client has disconnected")
        if kind.startswith("websocket.http.response."):
            await super().send({**message, "type": kind.removeprefix(DENIAL_PREFIX)})
            if kind.endswith("start") and self._service.on_handshake is not None:
                self._service.on_handshake(self)
        elif self.stage is not START:
            self._unexpected(kind, "the WebSocket has been refused")
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._send_error(Outcome.COMPLETED, 403, "Forbidden")
            self.message_received()
        else:
            self._unexpected(kind, "the WebSocket has not been accepted")

    def _accept(self, message: Message) -> None:
        handshake = self._handshake
        assert handshake is not None
        fields = list(message.get("headers") or ())
        connection = self.transport.upgrade(self, handshake, message.get("subprotocol"), fields)
        self._handshake = None
        self.connection = connection
        self.status = 101
        self._response_started()
        connection.begin()

    def _response_started(self) -> None:
        on_handshake = self._service.on_handshake
        # Of a refusal of the application's it is called where that is sent.
        if on_handshake is not None and (self.stage is COMPLETE or self.connection is not None):
            on_handshake(self)
        super()._response_started()

    @property
    def _disconnect_known(self) -> bool:
        return self._disconnect_received and (self.eof or self.connection is not None)

    # When the application has ended

    def finished(self, value: object, error: BaseException | None) -> None:
        connection = self.connection
        if connection is None:
            if error is not None or value is not None or self.stage is not START or self.lost or self.eof:
                super().finished(value, error)
                return
            logger.error("ASGI callable returned without completing handshake: %s", self.name)
            if self.task is not None:
                self._service.exchange_ended(self)
            self._send_error(Outcome.FAILED, 500, "Internal Server Error")
            return
        if self.task is not None:
            self._service.exchange_ended(self)
        if error is None:
            if value is not None:
                log_returned(self.name, value)
            self._end(Outcome.COMPLETED)
            connection.application_ended(1000)
            return
        if connection.disconnect is not None and is_disconnect(error):
            log_disconnect(self.name, error)
        elif not (self._cancelled and issubclass(type(error), Cancelled)):
            log_failure(error, f"ASGI application: {self.name}")
        self._end(Outcome.CANCELLED if issubclass(type(error), Cancelled) else Outcome.FAILED)
        connection.application_ended(1011)

    @property
    def name(self) -> str:
        return f"WebSocket {path_in_log(self.request.path)}"


def _size(data: str | bytes) -> int:
    """Bytes of a message."""
    return len(data) if data.__class__ is bytes or data.isascii() else len(data.encode())  # type: ignore[union-attr]


def _data(message: Message) -> str | bytes:
    data: Any = message.get("bytes")
    if data is None:
        data = message.get("text")
        if not isinstance(data, str):
            raise ApplicationError("a 'websocket.send' has either bytes, or text that is a string")
    elif data.__class__ is not bytes:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ApplicationError(f"the bytes of a message are bytes, not {type(data).__name__}")
        data = bytes(data)
    return data  # type: ignore[no-any-return]
