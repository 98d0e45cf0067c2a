"""The header of the PROXY protocol at the beginning of a connection (`--proxy-protocol`).

Until the header is complete, an `Opening` is the connection. It is one of the worker's like any other: it is counted,
and it ends when the worker drains. Then it leaves the stream, with a new `Peer`, to the connection of the client's
protocol. A connection without a valid header is closed, and never served: its client could be anyone.

    HEADER    the header is awaited or has come in part. Absolute deadline, from the accept or its first byte
    DRAINING  nothing of it has come, and the worker drains. Short deadline, as of a connection that is idle
    OPENED    the stream belongs to the client's protocol
    CLOSED    the stream is closed

Owner: the worker's thread.
"""

import logging
import socket
from collections.abc import Callable
from typing import Final, Literal

from pounce.connections.context import PROXY_HEADER_TIMEOUT, Connection, ConnectionContext, DeadlineOwner
from pounce.connections.http1 import HTTP1Connection
from pounce.connections.http1_state import DRAINING as DRAINING_DEADLINE
from pounce.kernel.deadlines import DeadlineQueue
from pounce.kernel.loop import Loop
from pounce.net.address import Address
from pounce.net.byte_stream import ByteStream, Peer
from pounce.net.stream import SocketStream
from pounce.protocols.proxy import ProxyHeader, ProxyHeaderError, read_header
from pounce.protocols.trusted import TrustedPeers

LOG_INTERVAL = 10.0
"""Seconds from a line about connections that were closed to the next of the same kind."""

type State = Literal["header", "draining", "opened", "closed"]
HEADER: Final = "header"
DRAINING: Final = "draining"
OPENED: Final = "opened"
CLOSED: Final = "closed"

TRANSITIONS: dict[State, tuple[State, ...]] = {
    HEADER: (DRAINING, OPENED, CLOSED),
    DRAINING: (HEADER, OPENED, CLOSED),
    OPENED: (),
    CLOSED: (),
}
"""From each state, the states that may follow."""

logger = logging.getLogger("pounce.error")

type Serve = Callable[[ByteStream], HTTP1Connection]
"""Gives a stream to the connection that speaks the client's protocol."""


class ProxyOpener:
    """What the openings of one worker share."""

    def __init__(self, context: ConnectionContext, serve: Serve) -> None:
        self.context = context
        self.serve = serve
        self.deadline: DeadlineQueue[DeadlineOwner] = context.loop.deadlines(
            PROXY_HEADER_TIMEOUT, lambda opening: opening.deadline_expired()
        )
        self._allowed = ",".join(context.config.proxy_protocol_allow_ips)
        self._proxies = TrustedPeers.parse(context.config.proxy_protocol_allow_ips)
        self._not_allowed = BoundedLog(context.loop)
        self._not_valid = BoundedLog(context.loop)

    def open(self, sock: socket.socket, client: Address | None, server: Address | None) -> Connection:
        """The connection is closed already where its client is not one of the proxies."""
        context = self.context
        opening = Opening(self, SocketStream(context.loop, sock, Peer(client, server), context.progress))
        context.connections.add(opening)
        if not self._proxies.trusts(client):
            self._not_allowed.warn(
                f"Closed a connection from {_name(client)}: it is not in --proxy-protocol-allow-ips ({self._allowed})."
            )
            opening.close()
        return opening

    def log_not_valid(self, peer: Peer, why: str) -> None:
        self._not_valid.warn(f"Closed a connection from {_name(peer.client)}: no valid PROXY protocol header, {why}.")


class Opening:
    """A connection whose PROXY header is not complete yet."""

    __slots__ = ("_deadline", "_opener", "_received", "state", "stream")

    protocol = "PROXY"
    handler = None

    def __init__(self, opener: ProxyOpener, stream: ByteStream) -> None:
        self._opener = opener
        self.stream = stream
        self._received: bytes | bytearray = b""
        self.state: State = HEADER
        self._deadline = opener.deadline
        self._deadline.arm(self)
        stream.set_owner(self)

    def _enter(self, state: State) -> None:
        """Changes the state, and starts its deadline from the beginning."""
        self.state = state
        self._deadline.disarm(self)
        if state is HEADER:
            self._deadline = self._opener.deadline
            self._deadline.arm(self)
        elif state is DRAINING:
            self._deadline = self._opener.context.deadlines[DRAINING_DEADLINE]
            self._deadline.arm(self)

    # What the stream calls

    def data_received(self, data: bytes) -> None:
        received: bytes | bytearray = data
        if self._received:
            self._received += data
            received = self._received
        try:
            header = read_header(received)
        except ProxyHeaderError as error:
            self._reject(str(error))
            return
        if header is not None:
            self._open(header, bytes(received[header.size :]))
            return
        if not self._received:
            self._received = bytearray(data)
        if self.state is DRAINING:
            self._enter(HEADER)

    def _open(self, header: ProxyHeader, rest: bytes) -> None:
        """Leaves the stream to the client's protocol. `rest` is what has come behind the header."""
        context, stream = self._opener.context, self.stream
        peer = stream.peer
        client, server = header.addresses or (peer.client, peer.server)
        scheme = "https" if header.encrypted else peer.scheme
        stream.peer = Peer(client, server, scheme, {**header.facts, "peer": peer.client})
        self._enter(OPENED)
        self._received = b""
        context.connections.discard(self)
        connection = self._opener.serve(stream)
        if rest:
            connection.data_received(rest)
        elif context.draining:
            connection.drain()

    def eof_received(self) -> None:
        if self._received:
            self._reject("it has ended within one")
        else:  # as load balancers do to see whether the port is open
            self.close()

    def write_resumed(self) -> None: ...

    def connection_lost(self, error: OSError | None) -> None:
        if self.state is not CLOSED:
            self._enter(CLOSED)
        self._opener.context.connection_lost(self)

    def deadline_expired(self) -> None:
        if self._received:
            self._reject(f"it was not complete within {PROXY_HEADER_TIMEOUT:g} seconds")
        elif self.state is HEADER or not self.stream.unread:  # a header on the way is read in the next turn
            self.close()

    # Ends

    def _reject(self, why: str) -> None:
        self._opener.log_not_valid(self.stream.peer, why)
        self.close()

    def close(self) -> None:
        if self.state is not CLOSED:
            self._enter(CLOSED)
        self.stream.close_now()

    def drain(self) -> None:
        if self.state in (HEADER, DRAINING):
            self.stream.poll()  # a header in the kernel's buffer has been accepted too
        if self.state in (HEADER, DRAINING) and not self._received:
            self._enter(DRAINING)


class BoundedLog:
    """Warnings of one kind, of which there may be thousands in a second: some of them, and how many there were."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._next = loop.now
        self._left_out = 0

    def warn(self, line: str) -> None:
        """Logs the line, or counts it for a later one."""
        if self._loop.now < self._next:
            self._left_out += 1
            return
        more = f" ({self._left_out} more such lines were left out.)" if self._left_out else ""
        self._next = self._loop.now + LOG_INTERVAL
        self._left_out = 0
        logger.warning("%s%s", line, more)


def _name(client: Address | None) -> str:
    return f"{client[0]}:{client[1]}" if client is not None else "a Unix socket"
