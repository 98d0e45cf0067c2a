"""Connections in the log, at level debug: each when it begins and when it is over.

A worker keeps its connections in a set; where the level is on, in one that tells what comes and goes.
"""

import logging
from typing import Any

from pounce.connections.context import Connection
from pounce.connections.http1 import HTTP1Connection

logger = logging.getLogger("pounce.error")


class LoggedConnections(set[Connection]):
    def __init__(self) -> None:
        super().__init__()
        self._names: dict[Connection, tuple[str, str]] = {}

    def add(self, connection: Connection) -> None:
        super().add(connection)
        if isinstance(connection, HTTP1Connection):
            kind, client = "HTTP", connection.client
        else:
            exchange = connection.exchange
            kind, client = "WebSocket", exchange.client if exchange is not None else None
        self._names[connection] = (f"{client[0]}:{client[1]} - " if client else "", kind)
        logger.debug("%s%s connection made", *self._names[connection])

    def discard(self, connection: Any) -> None:
        super().discard(connection)
        if (names := self._names.pop(connection, None)) is not None:
            logger.debug("%s%s connection lost", *names)


def connections() -> set[Connection]:
    """An empty set for a worker's connections."""
    return LoggedConnections() if logger.isEnabledFor(logging.DEBUG) else set()
