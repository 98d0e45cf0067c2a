"""Implementations of `Transport`, each with a client that reads what it sends. `test_transport` runs on all of them.

A new implementation adds an entry to IMPLEMENTATIONS, with its own way to ask and its own parser.
"""

from collections.abc import Callable
from typing import Any

import h11
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import TextMessage

from pounce.config.config import Config
from pounce.connections.context import ConnectionContext
from pounce.connections.http1 import HTTP1Connection
from pounce.connections.interface import Transport
from pounce.protocols.events import Request
from pounce.protocols.ws.handshake import Handshake
from tests.contracts.byte_stream import Ends, over_tcp

HANDSHAKE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
             "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "chat"}  # fmt: skip


async def _unused(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no application runs here")


class RecordingHandler:
    """A `Handler`, and a `MessageHandler`, that runs no application and keeps what it is told."""

    eof = False
    handling_message = False

    def __init__(self, transport: Transport, request: Request, on_start: Callable[[Any], None] | None) -> None:
        self.transport = transport
        self.request = request
        self.answerable = True
        self.events: list[Any] = []
        self._on_start = on_start

    def _note(self, event: Any) -> None:
        self.events.append("after the loss" if "lost" in self.events else event)

    def start(self) -> None:
        self._note("start")
        if self._on_start is not None:
            self._on_start(self)

    def body_received(self, data: bytes, complete: bool) -> None:
        self._note((data, complete))

    def eof_received(self) -> None:
        self._note("eof")

    def writable(self) -> None:
        self._note("writable")

    def message_received(self) -> None:
        self._note("message")

    def connection_lost(self) -> None:
        self._note("lost")

    @property
    def content(self) -> bytes:
        return b"".join(event[0] for event in self.events if isinstance(event, tuple))

    @property
    def content_complete(self) -> bool:
        return any(event[1] for event in self.events if isinstance(event, tuple))


class HTTP1Ends:
    """A connection over TCP, its context made directly, and a client that reads with h11."""

    accepted_status = 101
    """Of the answer to a handshake."""

    def __init__(self) -> None:
        self.ends: Ends = over_tcp()
        self.handlers: list[RecordingHandler] = []
        self.on_start: Callable[[Any], None] | None = None
        """What the next handlers do in `start`."""
        config = Config(_unused, access_log=False)
        self.context = ConnectionContext(
            self.ends.loop, config, self._handle, self._handle, set(), (), lambda: None,
        )  # fmt: skip
        self.connection = HTTP1Connection(self.context, self.ends.stream)
        self.context.connections.add(self.connection)
        self.parser = h11.Connection(h11.CLIENT)

    def _handle(self, transport: Transport, request: Request) -> RecordingHandler:
        handler = RecordingHandler(transport, request, self.on_start)
        self.handlers.append(handler)
        return handler

    def ask(self, method: str = "GET", *, fields: tuple[tuple[str, str], ...] = (), body: bytes = b"") -> Any:
        """Sends a request; its handler. `body` may be a part of what a Content-Length in `fields` announces."""
        head = h11.Request(method=method, target="/", headers=[("host", "a"), *fields])
        data = self.parser.send(head)
        assert data is not None
        count = len(self.handlers)
        self.ends.client.sendall(data + body)
        self.ends.until(lambda: len(self.handlers) > count)
        return self.handlers[-1]

    def read(self) -> list[Any]:
        """The events of one response, to its end; h11.ConnectionClosed or the error where it has none."""
        if self.parser.our_state is h11.SEND_BODY:
            self.parser.send(h11.EndOfMessage())
        events: list[Any] = []
        while not events or type(events[-1]) not in (h11.EndOfMessage, h11.ConnectionClosed):
            try:
                event = self.parser.next_event()
            except h11.RemoteProtocolError as error:
                return [*events, error]
            if event is h11.PAUSED:  # another protocol has begun
                return events
            if event is not h11.NEED_DATA:
                events.append(event)
                continue
            data, failure = self.ends.read(all_of_it=False)
            if failure is not None:
                return [*events, failure]
            self.parser.receive_data(data)
        return events

    @property
    def goes_on(self) -> bool:
        """Can another request follow on the connection, after the response that was read?"""
        return self.parser.our_state is h11.DONE

    # A WebSocket

    def ask_for_websocket(self, *early: str) -> tuple[Any, Handshake]:
        """Asks, with these messages behind the handshake; the handler, and the handshake to accept."""
        self.frames = Connection(ConnectionType.CLIENT)
        body = b"".join(self.frames.send(TextMessage(text)) for text in early)
        handler = self.ask(fields=tuple(HANDSHAKE.items()), body=body)
        return handler, Handshake(handler.request)

    def read_accepted(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Status and fields of the answer to a handshake that is accepted."""
        [answer] = self.read()
        data, _ = self.parser.trailing_data
        self.frames.receive_data(data)
        return answer.status_code, list(answer.headers)

    def say(self, event: Any) -> None:
        """A frame from the client."""
        self.ends.client.sendall(self.frames.send(event))

    def read_frame(self) -> Any:
        """The next event of the WebSocket."""
        while True:
            for event in self.frames.events():
                return event
            data, failure = self.ends.read(all_of_it=False)
            assert failure is None
            self.frames.receive_data(data or None)

    def close(self) -> None:
        self.ends.close()


IMPLEMENTATIONS: dict[str, Callable[[], HTTP1Ends]] = {"http1": HTTP1Ends}
