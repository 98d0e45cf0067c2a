"""A client of a proxy, with an address of its own: nothing else on this machine is 127.0.0.9."""

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from wsproto import ConnectionType, events
from wsproto.connection import Connection

from tests.support.websockets import handshake

ADDRESS = "127.0.0.9"
Fields = tuple[tuple[str, str], ...]


def connect(port: int, tls: bool = True) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(ADDRESS, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a request is sent in two parts
    if not tls:
        return sock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock, server_hostname="example.com")


@contextlib.contextmanager
def answered(
    port: int, path: str, *fields: tuple[str, str], method: str = "GET", content: bytes = b"", tls: bool = True
) -> Iterator[http.client.HTTPResponse]:
    """The response, whose content is read by the caller."""
    connection = http.client.HTTPConnection("example.com", port, timeout=30)
    connection.sock = connect(port, tls)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in (("Host", "example.com"), ("Content-Length", str(len(content))), *fields):
            connection.putheader(name, value)
        connection.endheaders(content)
        with connection.getresponse() as response:
            yield response


def seen(port: int, path: str = "/", *fields: tuple[str, str], **more: Any) -> dict[str, Any]:
    """What the application says it has seen."""
    with answered(port, path, *fields, **more) as response:
        content = response.read()
        assert response.status == 200, content
    return json.loads(content)


class WebSocket:
    def __init__(self, sock: socket.socket, path: str, *fields: str) -> None:
        self.sock = sock
        self.protocol = Connection(ConnectionType.CLIENT)
        sock.sendall(handshake(*fields, path=path, Host="example.com"))
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        self.head, _, rest = data.partition(b"\r\n\r\n")
        assert self.head.startswith(b"HTTP/1.1 101 "), data
        self.protocol.receive_data(rest)

    def _more(self) -> bytes:
        data = self.sock.recv(65536)
        assert data, "the connection has ended"
        return data

    def receive(self) -> str:
        parts = []
        while True:
            for event in self.protocol.events():
                if isinstance(event, events.TextMessage):
                    parts.append(event.data)
                    if event.message_finished:
                        return "".join(parts)
            self.protocol.receive_data(self._more())

    def send(self, text: str) -> None:
        self.sock.sendall(self.protocol.send(events.TextMessage(text)))


@contextlib.contextmanager
def websocket(port: int, path: str, *fields: str, tls: bool = True) -> Iterator[WebSocket]:
    with connect(port, tls) as sock:
        yield WebSocket(sock, path, *fields)
