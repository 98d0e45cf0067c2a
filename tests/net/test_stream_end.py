"""How a stream ends: close, linger, abort, reset, and the write deadline."""

import errno
import socket
import time

import pytest

from pounce.net.progress import FIN_WAIT, SCANS
from pounce.net.stream import CLOSED, CLOSING, LINGERING, MAX_LINGER, OPEN
from tests.support.stream_pair import pass_time, read_all


def wait_for_fin(pair):
    """Lets the stream check again and again whether the client has acknowledged all, which its kernel does when it
    likes."""
    until = time.monotonic() + 10
    while not pair.owner.events and time.monotonic() < until:
        pair.selector.skip = 2 * FIN_WAIT
        pair.turn(timeout=0)


def test_close_writes_what_is_buffered_first(pair):
    pair.stream.write(b"x" * 1_000_000)
    pair.stream.close()
    assert pair.stream.state is CLOSING
    pair.stream.write(b"too late")
    assert read_all(pair, 2_000_000) == b"x" * 1_000_000
    wait_for_fin(pair)
    assert pair.owner.events == [("lost", None)]


@pytest.mark.parametrize("takes", [0, 12_000])
def test_timeout_write_aborts_a_client_that_takes_nothing(pair, takes):
    """Not before it, if it has taken something meanwhile; where the kernel tells that, an eighth later."""
    pair.stream.write(b"x" * 10_000_000)
    if takes:
        pass_time(pair, 6)
        pair.client.recv(takes)
    pass_time(pair, 29)
    assert pair.stream.state is OPEN
    pass_time(pair, 30 / SCANS + 2)
    assert pair.owner.events == [("lost", None)]
    with pytest.raises(ConnectionResetError):
        while pair.client.recv(65536):
            pass


def test_timeout_write_spares_a_slow_client_that_takes_something(pair):
    pair.stream.write(b"x" * 10_000_000)
    for _ in range(5):
        pair.selector.skip = 20
        got = 0
        while got < 1_000_000:
            got += len(pair.client.recv(65536))
            pair.turn(1, timeout=0)
        pair.turn(timeout=0)
    assert pair.stream.state is OPEN


def test_linger_lets_the_last_bytes_arrive_although_the_client_still_sends(pair):
    pair.client.sendall(b"x" * 1000)
    pair.turn()
    pair.client.sendall(b"unread" * 1000)
    pair.stream.write(b"last words")
    pair.stream.close(linger=True)
    pair.client.sendall(b"more" * 1000)
    pair.turn()
    assert pair.client.recv(100) == b"last words"
    assert pair.client.recv(100) == b""
    assert pair.stream.state is LINGERING
    pair.client.close()
    pair.turn()
    assert pair.owner.events[-1] == ("lost", None)


def test_linger_has_an_end_for_a_client_that_goes_on_sending(pair):
    """A client that goes on sending has longer than a silent one, but not without end."""
    pair.stream.close(linger=True)
    for turn in range(60):
        pair.client.sendall(b"x")
        pair.selector.skip = 0.6
        pair.turn(timeout=0)
        if pair.stream.state is CLOSED:
            assert 25 < turn * 0.6 <= MAX_LINGER
            return
    pytest.fail("a client that never stops sending is held for ever")


def test_linger_is_shorter_for_a_silent_client(pair):
    pair.stream.close(linger=True)
    pair.client.sendall(b"x")
    pair.turn(timeout=0)
    pair.selector.skip = 5.1
    pair.turn(2, timeout=0)
    assert pair.stream.state is CLOSED


def test_reset_by_the_client_is_reported_once(pair):
    pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.client.close()
    pair.turn()
    pair.stream.write(b"x")
    pair.stream.close()
    pair.stream.abort()
    assert pair.owner.events == [("lost", errno.ECONNRESET)]


def test_write_to_a_client_that_has_gone_is_reported(pair):
    pair.client.close()
    pair.turn()
    for _ in range(10):
        pair.stream.write(b"x" * 1000)
        pair.turn()
    assert pair.owner.events[0] == "ended"
    assert pair.owner.events[1] in [("lost", errno.EPIPE), ("lost", errno.ECONNRESET)]
    assert len(pair.owner.events) == 2
