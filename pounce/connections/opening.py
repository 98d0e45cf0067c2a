"""What becomes of a fresh socket: a stream of bytes, and the connection that speaks the client's protocol over it.

Owner: the worker's thread.
"""

import socket

from pounce.connections.context import ConnectionContext
from pounce.connections.http1 import HTTP1Connection
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
