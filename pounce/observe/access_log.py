"""The access log: a line for each response, as its head is sent. WebSockets are logged beside what the server itself
logs, as uvicorn does.

Owner: the worker's thread.
"""

import logging

from pounce.kernel.loop import Loop
from pounce.logging import AccessLog
from pounce.net.byte_stream import Peer
from pounce.observe.observer import Observed
from pounce.protocols.events import Request

logger = logging.getLogger("pounce.error")


class RequestLog:
    """One worker's. Lines that leave in one turn of the loop are written together."""

    def __init__(self, loop: Loop, *, speaks_websocket: bool) -> None:
        """Requests for a WebSocket are left out where `speaks_websocket`."""
        self._loop = loop
        self._leaves_out_websockets = speaks_websocket
        self._log = AccessLog()
        self.enabled = self._log.enabled

    def on_response(self, exchange: Observed) -> None:
        request = exchange.request
        if request.asks_for_websocket and self._leaves_out_websockets:
            return
        path = _path(exchange.root_path, request)
        if self._log.record(_client(exchange.peer), request.method, path, request.version, exchange.status):
            self._loop.call_soon(self._log.flush)

    def flush(self) -> None:
        self._log.flush()


def log_websocket(exchange: Observed, status: int) -> None:
    """The answer to a handshake."""
    client, path = _client(exchange.peer), _path(exchange.root_path, exchange.request)
    if status == 101:
        logger.info('%s - "WebSocket %s" [accepted]', client, path)
    else:
        logger.info('%s - "WebSocket %s" %d', client, path, status)


def _client(peer: Peer) -> str:
    client = peer.client
    return f"{client[0]}:{client[1]}" if client is not None else ""


def _path(root_path: str, request: Request) -> str:
    path = root_path + request.path.decode("ascii")
    return path + "?" + request.query.decode("ascii") if request.query else path
