"""Large responses to slow or silent readers, over TCP: timeout_write, lingering, and content that arrives whole."""

import contextlib
import select
import socket
import time

import pytest

from pounce.connections.context import LINGER_TIMEOUT
from pounce.net.progress import FIN_WAIT, SCANS
from tests.support.answers import content_of
from tests.support.applications import BIG, big, hello, says, waits_behind
from tests.support.harness import Rig
from tests.support.requests import CLOSE, GET, post


def over_tcp(rig):
    """A client whose kernel takes little before it reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.connect(listener.getsockname())
        theirs, _ = listener.accept()
    rig.accept(theirs)
    client.setblocking(False)
    return client


def read_to_the_end(rig, client):
    got = b""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        rig.turn(2)
        if select.select([client], [], [], 0.001)[0]:
            if not (part := client.recv(1 << 20)):
                return got
            got += part
    raise AssertionError("the response does not end")


# Found by reading the code.
@pytest.mark.parametrize(
    ("pieces", "half_closed"),
    [
        ([CLOSE], True),
        ([CLOSE + b"\r\n"], True),
        ([CLOSE, b"\r\n"], False),
        ([CLOSE, GET], False),
        ([post(70_000), bytes(70_000)], True),
    ],
)
def test_a_large_response_arrives_whole_whatever_else_the_client_has_sent(pieces, half_closed):
    rig = Rig(big)
    with over_tcp(rig) as client:
        for piece in pieces:
            client.sendall(piece)
            rig.turn()
        if half_closed:
            client.shutdown(socket.SHUT_WR)
        assert len(content_of(read_to_the_end(rig, client))) == BIG


# Found by reading the code.
@pytest.mark.parametrize("before", [b"", GET])
def test_a_request_behind_a_large_response_waits_for_a_slow_reader(before):
    async def app(scope, receive, send):
        await (big if scope["path"] == "/big" else hello)(scope, receive, send)

    rig = Rig(app)
    client = rig.connect()
    if before:
        assert client.ask(before).endswith(b"hello")
    client.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    got = b""
    while not got.endswith(b"hello"):
        rig.wait(3)  # within the write deadline; longer than the others, taken together
        part = client.sock.recv(400_000)
        assert part, f"closed after {len(got)} bytes"
        got += part
    assert rig.clock.now > 1015


# Found by reading the code.
@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells what a client has acknowledged")
@pytest.mark.parametrize(
    ("a_second", "timeout", "lives"),
    [(0, 30, False), (1_000_000, 30, True), (2_500, 30, True), (0, None, True), (0, 60, True)],
)
def test_timeout_write_ends_a_client_that_takes_nothing_of_what_the_kernel_holds(a_second, timeout, lives):
    """It may have vanished. The stream has nothing to wait for, and TCP goes on for a quarter of an hour."""
    events = []
    rig = Rig(waits_behind(100_000, events), timeout_write=timeout)
    with over_tcp(rig) as client:
        client.sendall(GET)
        rig.turn()
        (connection,) = rig.worker.connections
        assert connection.stream.buffered == 0
        for _ in range(40):
            rig.wait(1)
            if a_second:
                with contextlib.suppress(BlockingIOError):
                    client.recv(a_second)
        assert events == ([] if lives else [{"type": "http.disconnect"}])
        assert bool(rig.worker.connections) is lives


# Found by reading the code.
@pytest.mark.parametrize("late", [b"\r\n", GET, b"x" * 1000])
@pytest.mark.parametrize("asked", [CLOSE, b"GET / HTTP/1.0\r\n\r\n"])
@pytest.mark.parametrize("size", [5_000, 60_000, 200_000])
def test_a_last_response_arrives_whole_though_the_client_sends_more_after_it(size, asked, late):
    """When the kernel has taken all of it and the client not."""
    rig = Rig(says(size))
    with over_tcp(rig) as client:
        client.sendall(asked)
        rig.turn()
        client.sendall(late)
        assert len(content_of(read_to_the_end(rig, client))) == size


# Found by reading the code.
def test_a_last_response_arrives_whole_at_a_client_that_reads_slowly():
    rig = Rig(says(200_000))
    with over_tcp(rig) as client:
        client.sendall(CLOSE)
        rig.turn()
        got = b""
        while len(got) < 100_000:
            rig.wait(1)
            with contextlib.suppress(BlockingIOError):
                got += client.recv(5_000)
        assert rig.clock.now > 1000 + 2 * LINGER_TIMEOUT
        got += read_to_the_end(rig, client)
        assert len(content_of(got)) == 200_000
    rig.turn()
    assert not rig.worker.connections


# Found by reading the code.
@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells what a client has acknowledged")
@pytest.mark.parametrize("size", [100, 200_000])
def test_timeout_write_ends_a_client_that_takes_nothing_of_the_last_response(size):
    rig = Rig(says(size))
    with over_tcp(rig) as client:
        client.sendall(CLOSE)
        rig.turn()
        rig.wait(30 * (1 + 1 / SCANS) + LINGER_TIMEOUT)
        assert not rig.worker.connections


def fill(sock):
    """Gives the kernel as much as it takes, until it takes nothing for a while."""
    took = True
    while took:
        took = False
        time.sleep(0.05)
        for size in (65536, 1024, 1):  # a call for each byte would take seconds
            with contextlib.suppress(BlockingIOError):
                while sock.send(bytes(size)):
                    took = True


# Found by reading the code.
@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells what a client has acknowledged")
def test_timeout_write_ends_a_client_whose_kernel_buffer_is_exactly_full():
    """The scan has ended, and what is written next is taken by nobody."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in parts:
            await send({"type": "http.response.body", "body": bytes(part), "more_body": True})
        await send({"type": "http.response.body"})

    rig, parts = Rig(app), [100, 100]
    with over_tcp(rig) as client:
        (connection,) = rig.worker.connections
        client.sendall(GET)
        fill(connection.stream.sock)
        rig.turn()
        assert connection.stream.buffered
        rig.wait(30 * (1 + 2 / SCANS))
        assert not rig.worker.connections


# Found by reading the code.
@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells what a client has acknowledged")
def test_timeout_write_still_ends_a_client_after_a_scan_has_failed(monkeypatch):
    rig = Rig(waits_behind(100_000, []))
    with over_tcp(rig) as client:
        client.sendall(GET)
        rig.turn()
        with monkeypatch.context() as patch:
            patch.setattr("pounce.net.progress.acknowledged", lambda _sock: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                rig.wait(30)
        rig.wait(30 * (1 + 2 / SCANS))
        assert not rig.worker.connections


# Found by reading the code.
def test_a_finished_connection_is_closed_though_the_client_keeps_its_side_open():
    rig = Rig(hello)
    with over_tcp(rig) as client:
        client.sendall(CLOSE)
        rig.turn()
        assert read_to_the_end(rig, client).endswith(b"hello")
        rig.wait(2 * FIN_WAIT)
        assert not rig.worker.connections


# Found by reading the code.
@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells what a client has acknowledged")
def test_timeout_write_spares_a_slow_reader_of_a_large_response():
    """The kernel takes more in large pieces only, and this client needs minutes for one."""
    rig = Rig(big)
    with over_tcp(rig) as client:
        client.sendall(GET)
        rig.turn()
        for _ in range(120):
            rig.wait(1)
            with contextlib.suppress(BlockingIOError):
                client.recv(10_000)
        assert rig.worker.connections
        rig.wait(30 * (1 + 2 / SCANS))  # and then takes nothing any more
        assert not rig.worker.connections
