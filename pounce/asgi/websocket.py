"""A WebSocket as the application sees it: `scope`, `receive` and `send` (ASGI, "WebSocket").

    CONNECTING   the application has not answered the handshake; the connection is still one of HTTP
    refused      it has answered with 403 or a response of its own; HTTP goes on with the next request
    accepted     the stream belongs to a `WebSocketConnection`, from the 101 to its end

So a refusal is an ordinary response, sent by the same means, and everything here before the 101 is an exchange like
any other. This module is loaded at the first handshake.

Owner: the worker's thread.
"""

import logging
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pounce.app.types import Message, Scope
from pounce.asgi.exchange import MESSAGE, PER_TURN, Exchange, wake
from pounce.asgi.failures import is_departure, log_departure, log_failure, log_returned, path_in_log
from pounce.asgi.stages import COMPLETE, HELD, START
from pounce.connections.context import ConnectionWorker
from pounce.connections.websocket import WebSocketConnection
from pounce.errors import ClientDisconnected
from pounce.kernel.task import Cancelled
from pounce.net.stream import HIGH_WATER
from pounce.protocols.events import ApplicationError, Request
from pounce.protocols.h1.writer import write_fields
from pounce.protocols.ws import wire
from pounce.protocols.ws.deflate import negotiate
from pounce.protocols.ws.handshake import OWN, Handshake, HandshakeError
from pounce.protocols.ws.masks import Unmasker

if TYPE_CHECKING:
    from pounce.connections.http1 import HTTP1Connection

CLOSE_TIMEOUT = 10.0
"""Seconds a client has to answer our Close with its own."""
LAST_WORDS = 2.0
"""Seconds the application has to answer what came before the end, until the end is carried out."""
DENIAL = "websocket."
"""What the messages of a refusal have before those of any response."""

logger = logging.getLogger("pounce.error")


class WebSockets:
    """What all WebSockets of one worker share."""

    def __init__(self, worker: ConnectionWorker) -> None:
        config, loop, socket = worker.config, worker.loop, WebSocketConnection
        self.max_size = config.ws_max_size
        self.max_queue = config.ws_max_queue
        self.deflate = config.ws_per_message_deflate
        self.unmask = Unmasker()
        self.ping_interval = config.ws_ping_interval
        self.ping_timeout = config.ws_ping_timeout
        self.pong_window = config.limit_request_body_rate * (config.ws_ping_timeout or 0)
        """Bytes in the time for a pong that excuse a client from sending one: it may be busy with a long frame."""
        self.ping = loop.deadlines(config.ws_ping_interval or None, socket.ping)
        self.pong = loop.deadlines(config.ws_ping_timeout or None, socket.pong_missed)
        self.close = loop.deadlines(CLOSE_TIMEOUT, socket.close)
        self.last_words = loop.deadlines(LAST_WORDS, socket.carry_out_end)


def serve(connection: "HTTP1Connection", request: Request, scope: Scope, *, ended: bool) -> None:
    """Answers a handshake, or lets the application do so. `scope` is that of the request, `ended` tells whether the
    client has closed its side."""
    worker = connection.worker
    try:
        if request.content_length != 0:
            raise HandshakeError(400, "a WebSocket handshake has no content")
        handshake = Handshake(request)
    except HandshakeError as error:
        connection.fail(error.status, error.reason, fields=error.fields)
        return
    if worker.web_sockets is None:
        worker.web_sockets = WebSockets(worker)
    exchange = connection.exchange = WebSocketExchange(connection, request, handshake, scope)
    exchange.ended = ended
    if not worker.limited or worker.admission.admit(exchange):
        exchange.admit()


class WebSocketExchange(Exchange):
    body_complete = True
    socket: WebSocketConnection | None = None
    """Set once the handshake is accepted."""
    _said_connect = False
    answering = False
    """Has the application taken a message, and not come for the next one yet?"""

    def __init__(self, connection: "HTTP1Connection", request: Request, handshake: Handshake, scope: Scope) -> None:
        super().__init__(connection, request)
        self._handshake: Handshake | None = handshake
        self._scope: Scope | None = scope  # of the request, until the application runs

    def admit(self) -> None:
        """Runs the application, with the scope of a WebSocket."""
        handshake, scope = self._handshake, self._scope
        assert handshake is not None
        assert scope is not None
        self._scope = None
        del scope["method"]
        scope |= {
            "type": "websocket",
            "scheme": "wss" if scope["scheme"] == "https" else "ws",
            "subprotocols": handshake.subprotocols,
            "extensions": {"websocket.http.response": {}},
        }
        self._connection.worker.run_exchange(self, scope)

    # What the connection tells

    def message_came(self) -> None:
        wake(self._readers)

    # What the application calls

    async def receive(self) -> Message:
        """`websocket.connect`, then messages as they come, then `websocket.disconnect`. After that it waits for as long
        as the application runs."""
        if get_ident() != self._connection.thread:
            return await self._connection.worker.foreign.pass_on(self.receive, unused=self._give_back)
        while self._told and not self._unused:
            await self._wait_to_receive()
        self.answering = False
        if not self._said_connect:
            self._said_connect = True
            return {"type": "websocket.connect"}
        while True:
            socket = self.socket
            if self._unused:
                return self._unused.pop(0)
            if socket is not None:
                data = socket.take()
                if data is not None:
                    self.answering = True
                    return {"type": "websocket.receive", "text" if data.__class__ is str else "bytes": data}
                if socket.disconnect is not None:
                    self._told = True
                    code, reason = socket.disconnect
                    return {"type": "websocket.disconnect", "code": code, "reason": reason}
            elif self.lost or self.ended or self.stage not in (START, HELD):
                self._told = True
                return {"type": "websocket.disconnect", "code": wire.ABNORMAL, "reason": ""}
            await self._wait_to_receive()

    async def send(self, message: Message) -> None:
        """Takes the next message for the client. Returns at once while the client keeps up.

        Raises ClientDisconnected when the connection is over, ApplicationError when the message is not one that
        can come now.
        """
        if get_ident() != self._connection.thread:
            await self._connection.worker.foreign.pass_on(self.send, message)
            return
        socket = self.socket
        try:
            kind = message["type"]
            if socket is None:
                await self._answer(kind, message)
                return
            self._say_to(socket, kind, message)
        except Exception:
            await self._give_way()  # to others, by whoever tries again and again
            raise
        self._said += MESSAGE
        if self._said >= PER_TURN:
            await self._give_way()
        while socket.stream.buffered > HIGH_WATER and socket.disconnect is None:
            await self._wait_to_send()

    def _say_to(self, socket: WebSocketConnection, kind: str, message: Message) -> None:
        """Takes a message when the handshake is over."""
        if socket.disconnect is not None:
            if not socket.closed_by_application:
                raise ClientDisconnected("the client has disconnected")
            self._misplaced(kind, "'websocket.close' has been sent")
        elif kind == "websocket.send":
            data = _data(message)
            self._said += len(data)
            socket.send(data)
        elif kind == "websocket.close":
            code, reason = message.get("code", 1000), message.get("reason") or ""
            if not isinstance(code, int) or not wire.may_be_sent(code):
                raise ApplicationError(f"a WebSocket cannot be closed with the code {code!r}")
            if not isinstance(reason, str):
                raise ApplicationError(f"the reason for closing a WebSocket is a string, not {type(reason).__name__}")
            socket.close_by_application(code, reason)
        else:
            self._misplaced(kind, "the WebSocket has been accepted")

    async def _answer(self, kind: str, message: Message) -> None:
        """Answers the handshake."""
        if self.lost or (self.ended and self.stage is START):
            raise ClientDisconnected("the client has disconnected")
        if kind.startswith("websocket.http.response."):
            await super().send({**message, "type": kind.removeprefix(DENIAL)})
            if kind.endswith("start") and not self._connection.worker.logs_access:  # else it comes with the content
                self._connection.worker.log_access(self._connection.client, self.request, message["status"])
        elif self.stage is not START:
            self._misplaced(kind, "the WebSocket has been refused")
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._connection.fail(403, "Forbidden")
            self.stage = COMPLETE
            self.message_came()
        else:
            self._misplaced(kind, "the WebSocket has not been accepted")

    def _accept(self, message: Message) -> None:
        connection, handshake = self._connection, self._handshake
        assert handshake is not None
        worker = connection.worker
        shared = worker.web_sockets
        assert shared is not None
        own = list(message.get("headers") or ())
        fields = handshake.chosen(message.get("subprotocol"), own)
        fields += [(name, value) for name, value in own if name.lower() not in OWN]
        lines = write_fields(fields)
        deflate = negotiate(handshake.offers, shared.max_size) if shared.deflate else None
        head = handshake.answer(fields, lines, worker.default_fields(), deflate.answer() if deflate else None)
        self._handshake = None
        frames = wire.Wire(shared.max_size, deflate, shared.unmask)
        self.socket = WebSocketConnection(worker, shared, self, frames, connection.stream)
        worker.log_access(connection.client, self.request, 101)
        self.socket.begin(head, connection.hand_over(self.socket))

    @property
    def _gone(self) -> bool:
        return self._told and (self.ended or self.socket is not None)

    # When the application has ended

    def finished(self, value: object, error: BaseException | None) -> None:
        socket = self.socket
        if socket is None:
            if error is not None or value is not None or self.stage is not START or self.lost or self.ended:
                super().finished(value, error)
                return
            logger.error("ASGI callable returned without completing handshake: %s", self.name)
            self.stage = COMPLETE
            if self.task is not None:
                self._connection.worker.exchange_over(self)
            self._connection.fail(500, "Internal Server Error")
            return
        if self.task is not None:
            socket.worker.exchange_over(self)
        if error is None:
            if value is not None:
                log_returned(self.name, value)
            socket.application_over(1000)
            return
        if socket.disconnect is not None and is_departure(error):
            log_departure(self.name, error)
        elif not (self._cancelled and issubclass(type(error), Cancelled)):
            log_failure(error, f"ASGI application: {self.name}")
        socket.application_over(1011)

    @property
    def name(self) -> str:
        return f"WebSocket {path_in_log(self.request.path)}"


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
