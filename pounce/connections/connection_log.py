"""Connections in the log, at level debug: each when it begins and when it is over.

A worker keeps its connections in a set; where the level is on, in this one.

Owner: the worker's thread.
"""

import logging
from typing import Any, Protocol

from pounce.net.byte_stream import ByteStream

logger = logging.getLogger("pounce.error")


class LoggedConnection(Protocol):
    protocol: str

    @property
    def stream(self) -> ByteStream: ...


class LoggedConnections[Connection: LoggedConnection](set[Connection]):
    def __init__(self) -> None:
        super().__init__()
        self._names: dict[Connection, tuple[str, str]] = {}

    def add(self, connection: Connection) -> None:
        super().add(connection)
        client = connection.stream.peer.client
        name = self._names[connection] = (f"{client[0]}:{client[1]} - " if client else "", connection.protocol)
        logger.debug("%s%s connection made", *name)

    def discard(self, connection: Any) -> None:
        super().discard(connection)
        if (name := self._names.pop(connection, None)) is not None:
            logger.debug("%s%s connection lost", *name)


def connection_set[Connection: LoggedConnection]() -> set[Connection]:
    """An empty set for a worker's connections."""
    return LoggedConnections() if logger.isEnabledFor(logging.DEBUG) else set()
