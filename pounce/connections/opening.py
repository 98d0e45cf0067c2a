"""What becomes of a fresh socket: a stream of bytes, and the connection that speaks the client's protocol over it.

With `--proxy-protocol` the proxy sends a header first (`proxy_opening`).

Owner: the worker's thread.
"""

import socket
from collections.abc import Callable
from functools import partial

from pounce.connections.context import Connection, ConnectionContext, HandedOver
from pounce.connections.http1 import HTTP1Connection
from pounce.connections.http1_state import HEAD, IDLE, State
from pounce.net.address import Address
from pounce.net.byte_stream import ByteStream, Peer
from pounce.net.stream import SocketStream

type Open = Callable[[socket.socket, Address | None, Address | None], Connection]


def opener(context: ConnectionContext) -> Open:
    """What takes over the accepted, non-blocking sockets of a worker, each with its client and the address it came
    to."""
    if context.config.proxy_protocol:
        from pounce.connections.proxy_opening import ProxyOpener  # most servers never need it

        return ProxyOpener(context, partial(_serve, context)).open
    return partial(open_connection, context)


def open_connection(
    context: ConnectionContext, sock: socket.socket, client: Address | None, server: Address | None
) -> HTTP1Connection:
    """Takes over an accepted, non-blocking socket: plain HTTP/1."""
    return _serve(context, SocketStream(context.loop, sock, Peer(client, server), context.progress))


def continue_connection(context: ConnectionContext, handed_over: HandedOver) -> HTTP1Connection:
    """Goes on with a connection that another worker has served."""
    (sock, unsent), peer, received, served = handed_over
    # A peer of this thread's own: counting the references of another thread's objects takes longer.
    own = Peer(peer.client, peer.server, peer.scheme, peer.proxy and peer.proxy.copy())
    connection = _serve(
        context, SocketStream(context.loop, sock, own, context.progress, unsent), IDLE if served else HEAD
    )
    if received:
        connection.data_received(received)
    return connection


def _serve(context: ConnectionContext, stream: ByteStream, state: State = HEAD) -> HTTP1Connection:
    connection = HTTP1Connection(context, stream, state)
    context.connections.add(connection)
    return connection
