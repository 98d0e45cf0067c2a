"""What becomes of a fresh socket: a stream of bytes, and the connection that speaks the client's protocol over it.

Owner: the worker's thread.
"""

import socket

from pounce.connections.context import ConnectionContext, HandedOver
from pounce.connections.http1 import HTTP1Connection
from pounce.connections.http1_state import HEAD, IDLE
from pounce.net.address import Address
from pounce.net.byte_stream import Peer
from pounce.net.stream import SocketStream


def open_connection(
    context: ConnectionContext, sock: socket.socket, client: Address | None, server: Address | None
) -> HTTP1Connection:
    """Takes over an accepted, non-blocking socket: plain HTTP/1."""
    connection = HTTP1Connection(context, SocketStream(context.loop, sock, Peer(client, server), context.progress))
    context.connections.add(connection)
    return connection


def continue_connection(context: ConnectionContext, handed_over: HandedOver) -> HTTP1Connection:
    """Goes on with a connection that another worker has served."""
    (sock, unsent), peer, received, served = handed_over
    # A peer of this thread's own: counting the references of another thread's objects takes longer.
    stream = SocketStream(context.loop, sock, Peer(peer.client, peer.server, peer.scheme), context.progress, unsent)
    connection = HTTP1Connection(context, stream, IDLE if served else HEAD)
    context.connections.add(connection)
    if received:
        connection.data_received(received)
    return connection
