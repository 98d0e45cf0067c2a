"""What exchanges keep that an observer asks for: parts of a class, put before `Exchange` or `WebSocketExchange`.

They are used only where the access log's format needs them, because every line here costs every request.

Owner: the worker's thread.
"""

from pounce.app.types import Message
from pounce.asgi.exchange import Exchange
from pounce.asgi.service import Service
from pounce.connections.interface import Transport
from pounce.protocols.events import Request


class Timed(Exchange):
    """Keeps its times, and the size of the content that it has received."""

    def __init__(self, service: Service, transport: Transport, request: Request) -> None:
        self._service = service  # as that of the base class, a call less
        self.transport = transport
        self.request = request
        self.received = service.loop.now
        self.started = service.loop.clock()  # it starts at once, if it is not `Queued`

    def body_received(self, data: bytes, complete: bool) -> None:
        self.bytes_received += len(data)
        super().body_received(data, complete)

    def _part_sent(self, size: int) -> None:
        if not self.first_byte:
            self.first_byte = self._service.loop.clock()
        super()._part_sent(size)

    def _response_started(self) -> None:
        self.first_byte = self._service.loop.clock()
        super()._response_started()


class Queued(Timed):
    """Where a request may have to wait for its turn."""

    def start(self) -> None:
        super().start()
        if self.queued:
            self.started = 0.0

    def admit(self) -> None:
        self.started = self._service.loop.clock()
        super().admit()


class FieldKeeping(Exchange):
    """Keeps the fields of the response."""

    async def send(self, message: Message) -> None:
        if "headers" in message and message.get("type") != "http.response.trailers":
            self.response_fields = [*message["headers"]]
            message = {**message, "headers": self.response_fields}
        await super().send(message)
