"""What a connection asks of the worker it belongs to. The worker's class is a room higher and fits by its shape."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pounce.app.types import Scope
from pounce.asgi.admission import Admission
from pounce.asgi.exchange import Exchange
from pounce.asgi.foreign import Calls
from pounce.config.config import Config
from pounce.connections.body_pace import BodyPace
from pounce.kernel.deadlines import DeadlineQueue
from pounce.kernel.loop import Loop
from pounce.net.listeners import Address
from pounce.net.progress import StreamBounds
from pounce.protocols.events import Request
from pounce.protocols.h1.reader import Limits
from pounce.protocols.h1.reader import Memory as RequestMemory
from pounce.protocols.h1.writer import Memory as ResponseMemory

if TYPE_CHECKING:
    from pounce.asgi.websocket import WebSockets
    from pounce.connections.http1 import HTTP1Connection
    from pounce.connections.websocket import WebSocketConnection

type Connection = HTTP1Connection | WebSocketConnection


class ConnectionWorker(Protocol):
    loop: Loop
    foreign: Calls
    limits: Limits
    request_memory: RequestMemory
    response_memory: ResponseMemory
    stream_bounds: StreamBounds
    head_deadline: DeadlineQueue["HTTP1Connection"]
    keep_alive_deadline: DeadlineQueue["HTTP1Connection"]
    body_pace: BodyPace
    last_call: DeadlineQueue["HTTP1Connection"]
    cancel_on_disconnect: bool
    root_path: str
    raw_root_path: bytes
    asgi_version: str
    state: dict[str, Any]
    extensions: dict[str, dict[str, object]]
    default_fields: Callable[[], bytes]
    logs_access: bool
    counts_requests: bool
    """Does `request_answered` have to know?"""
    limited: bool
    """Does a request have to ask for admission?"""
    admission: Admission
    draining: bool
    speaks_websocket: bool
    web_sockets: "WebSockets | None"
    """Made at the first handshake."""
    config: Config

    def run_exchange(self, exchange: Exchange, scope: Scope) -> None: ...
    def exchange_over(self, exchange: Exchange) -> None: ...
    def connection_over(self, connection: "Connection") -> None: ...
    def connection_replaced(self, old: "HTTP1Connection", new: "WebSocketConnection") -> None: ...
    def request_answered(self) -> None: ...
    def log_access(self, client: Address | None, request: Request, status: int) -> None: ...
