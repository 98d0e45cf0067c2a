"""What `python -m stress` has found, each made small."""

import socket
import time

import pytest

from pounce.testing import TestServer


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system has no bound to set")
def test_the_kernel_does_not_hold_megabytes_for_a_client_that_takes_nothing():
    # Found by `slow`: 2.8 MB for each slow reader, so a thousand of them held all the memory Linux gives to TCP, and
    # filling their buffers took seconds in which nobody else was served.
    given = [0]

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000000")]})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            given[0] += 65536

    with TestServer(app, lifespan="off", timeout_graceful_shutdown=0) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((server.host, server.port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        before = -1
        while given[0] != before or not before:
            before = given[0]
            time.sleep(0.3)
        assert given[0] < 1_000_000
