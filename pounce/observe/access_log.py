"""The access log: a line for each request. In uvicorn's format it is written as the head of the response is sent, and
WebSockets are logged beside what the server itself logs, as uvicorn does. In every other format it is written when the
exchange is over, and a WebSocket is an exchange like any other.

Owner: the worker's thread.
"""

import logging
from typing import TYPE_CHECKING

from pounce.config.config import Config
from pounce.kernel.loop import Loop
from pounce.logging import AccessLog
from pounce.net.byte_stream import Peer
from pounce.observe.observer import Observed, Observer, OnEnd, OnResponse, Outcome
from pounce.protocols.events import Request

if TYPE_CHECKING:
    from pounce.observe.access_format import Format

logger = logging.getLogger("pounce.error")


class RequestLog:
    """One worker's. Lines that leave in one turn of the loop are written together."""

    def __init__(self, loop: Loop, config: Config, worker: int, root_path: str) -> None:
        """`worker`: its number, from 1 on. `root_path`: the service's."""
        self._loop = loop
        self._root = root_path
        self._format: Format | None = None
        if config.access_format != "uvicorn":
            from pounce.observe.access_format import access_format  # most servers do not need it

            self._format = access_format(config, worker, root_path, loop.clock)
        self._line = self._format.line if self._format is not None else _no_line
        self._leaves_out_websockets = config.ws != "none"
        self._excluded = frozenset(path for path in config.access_log_exclude if not path.endswith("*"))
        self._excluded_beginnings = tuple(path[:-1] for path in config.access_log_exclude if path.endswith("*"))
        self._excludes = bool(config.access_log_exclude)
        self._log = AccessLog(whole_lines=self._format is not None)
        self.enabled = self._log.enabled

    def observer(self, on_response: list[OnResponse], on_end: list[OnEnd]) -> Observer:
        """What hears of the worker's exchanges: this log and the hooks."""
        format = self._format
        if format is None or not self.enabled:
            if self.enabled:
                on_response = [self._filtered if self._excludes else self.on_response, *on_response]
            return Observer(on_response, on_end, self.on_handshake)
        return Observer(
            on_response, [self.on_end, *on_end], needs_times=format.needs_times,
            needs_response_fields=format.needs_response_fields,
        )  # fmt: skip

    def on_response(self, exchange: Observed) -> None:
        """Uvicorn's format."""
        request = exchange.request
        if request.asks_for_websocket and self._leaves_out_websockets:
            return
        if exchange.seen is None:
            peer, root = exchange.transport.peer, self._root
        else:
            peer, root = exchange.peer, exchange.root_path
        path = _path(root, request)
        if self._log.record(peer.text or _client(peer), request.method, path, request.version, exchange.status):
            self._loop.call_soon(self._log.flush)

    def _filtered(self, exchange: Observed) -> None:
        if not self._is_excluded(exchange):
            self.on_response(exchange)

    def _is_excluded(self, exchange: Observed) -> bool:
        path = exchange.root_path + exchange.request.path.decode("ascii")
        return path in self._excluded or path.startswith(self._excluded_beginnings)

    def on_handshake(self, exchange: Observed) -> None:
        """The answer to a WebSocket's handshake, in uvicorn's format."""
        if self._excludes and self._is_excluded(exchange):
            return
        client, path = _client(exchange.peer), _path(exchange.root_path, exchange.request)
        if exchange.status == 101:
            logger.info('%s - "WebSocket %s" [accepted]', client, path)
        else:
            logger.info('%s - "WebSocket %s" %d', client, path, exchange.status)

    def on_end(self, exchange: Observed, outcome: Outcome) -> None:
        """Every other format."""
        if self._excludes and self._is_excluded(exchange):
            return
        log = self._log
        line = self._line(exchange, outcome)
        if log.handler is not None:
            lines = log.lines
            if not lines:
                self._loop.call_soon(log.flush)
            lines.append(line)
        else:
            request = exchange.request
            path = _path(exchange.root_path, request)
            arguments = (_client(exchange.peer), request.method, path, request.version, exchange.status)
            log.emit(line, arguments, exchange.request_id)

    def flush(self) -> None:
        self._log.flush()


def _no_line(exchange: Observed, outcome: Outcome) -> str:
    raise NotImplementedError  # uvicorn's format has no line at the end


def _client(peer: Peer) -> str:
    text = peer.text
    if text is None:
        client = peer.client
        text = f"{client[0]}:{client[1]}" if client is not None else ""
        if not text.isascii() or not text.isprintable() or '"' in text:  # a proxy may have given anything
            from pounce.observe.access_texts import escaped

            text = escaped(text)
        peer.text = text
    return text


def _path(root_path: str, request: Request) -> str:
    path = root_path + request.path.decode("ascii")
    return path + "?" + request.query.decode("ascii") if request.query else path
