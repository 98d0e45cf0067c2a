"""A stream of bytes over a socket: buffers, order, files, how it ends."""

import os
import socket
import struct
import tempfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pounce.net.byte_stream import HIGH_WATER, LOW_WATER
from pounce.net.progress import TCP_NOTSENT_LOWAT
from pounce.net.stream import CLOSED, MAX_UNSENT_LARGE, OPEN
from pounce.testing import TestServer
from tests.support.stream_pair import Pair, read_all


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system has no bound to set")
def test_the_kernel_buffers_little_for_a_client_that_reads_nothing(monkeypatch):
    # Found by `slow`: 2.8 MB for each slow reader, so a thousand of them held all the memory Linux gives to TCP, and
    # filling their buffers took seconds in which nobody else was served.
    monkeypatch.setattr("pounce.net.progress.LARGE_BUFFERS", 0)  # a few may have more
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


def test_small_pieces_that_wait_are_joined_into_few_objects(pair):
    pair.stream.write(bytes(1 << 22))  # more than the kernel takes
    expected = bytearray(1 << 22)
    for number in range(5000):
        piece = b"%d" % number * (number % 5)
        (pair.stream.write if number % 2 else lambda data: pair.stream.write_soon((data,)))(piece)
        expected += piece
    pair.stream.write(b"x" * 1000)
    assert len(pair.stream._buffer) < 20
    assert read_all(pair, len(expected) + 1000) == expected + b"x" * 1000


@pytest.mark.skipif(not TCP_NOTSENT_LOWAT, reason="this system has no bound to lend from")
def test_the_kernel_may_buffer_more_for_the_few_clients_that_are_sent_much():
    pairs = [Pair() for _ in range(3)]
    bounds = pairs[0].bounds
    bounds.large_buffers = 2
    for pair in pairs:
        pair.stream._progress = bounds
        pair.stream.write(b"little")
    assert bounds.large_buffers == 2

    def unsent():
        return [pair.stream.sock.getsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT) for pair in pairs]

    before = unsent()
    for pair in pairs:
        for _ in range(3):
            pair.stream.write(bytes(1 << 20))  # more than any buffer takes
    assert bounds.large_buffers == 0
    assert unsent() == [MAX_UNSENT_LARGE, MAX_UNSENT_LARGE, before[2]]
    for pair in pairs:
        pair.close()
    assert bounds.large_buffers == 2


def test_received_data_and_eof_are_passed_to_the_owner(pair):
    pair.client.sendall(b"hello")
    pair.turn()
    pair.client.shutdown(socket.SHUT_WR)
    pair.turn()
    assert pair.owner.events == [b"hello", "ended"]
    assert pair.stream.state is OPEN  # the client may still be reading
    pair.stream.write(b"bye")
    assert pair.client.recv(10) == b"bye"


def test_eof_does_not_spin_the_loop(pair):
    pair.client.shutdown(socket.SHUT_WR)
    pair.turn()
    assert pair.owner.events == ["ended"]
    events = pair.loop.selector.select(0)
    assert events == []


def test_a_paused_stream_reads_nothing_until_it_is_resumed(pair):
    pair.stream.pause_reading()
    pair.client.sendall(b"hello")
    pair.turn()
    assert pair.owner.events == []
    pair.stream.resume_reading()
    pair.turn()
    assert pair.owner.events == [b"hello"]


def test_writes_above_what_the_kernel_takes_are_buffered_in_order(pair):
    data = bytes(range(256)) * 8192
    pair.stream.write(data)
    assert pair.stream.buffered > HIGH_WATER
    pair.stream.write(b"tail")
    assert read_all(pair, len(data) + 4) == data + b"tail"
    assert pair.stream.buffered == 0
    assert pair.owner.events == ["drained"]


def test_write_parts_leaves_together_and_keeps_large_parts_in_order(pair):
    pair.stream.write_parts([b"a", b"b", b"c"])
    assert pair.client.recv(10) == b"abc"
    parts = [b"x" * 300_000, b"y" * 10, b"z" * 300_000]
    pair.stream.write_parts(parts)
    assert read_all(pair, 600_010) == b"".join(parts)


def test_write_soon_leaves_at_the_end_of_the_turn_in_one_piece(pair):
    pair.client.setblocking(False)
    pair.stream.write_soon([b"a", b"b"])
    pair.stream.write_soon([b"c"])
    with pytest.raises(BlockingIOError):
        pair.client.recv(10)
    pair.turn(1)
    assert pair.client.recv(10) == b"abc"
    assert pair.stream.buffered == 0
    assert len(pair.bounds.write) == 0
    assert pair.owner.events == []


@pytest.mark.parametrize(
    "then",
    [
        lambda stream: stream.write(b"z"),
        lambda stream: stream.write_parts([b"y", b"z"]),
        lambda stream: stream.write_file(b"head", os.open(__file__, os.O_RDONLY), 0, 5),
        lambda stream: stream.close(),
        lambda stream: stream.close(linger=True),
        lambda stream: stream.write_soon([b"x" * HIGH_WATER]),
    ],
)
def test_write_soon_is_written_before_a_later_write(pair, then):
    pair.stream.write_soon([b"a"])
    then(pair.stream)
    assert pair.client.recv(1) == b"a"
    pair.turn()
    assert pair.owner.events in ([], [("lost", None)])


def test_write_soon_to_a_client_that_has_gone_ends_the_stream(pair):
    pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pair.client.close()
    pair.stream.write_soon([b"a"])
    pair.turn()
    assert pair.stream.state is CLOSED
    pair.stream.write_soon([b"b"])
    pair.turn()
    assert [event[0] for event in pair.owner.events] == ["lost"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(("write", "parts", "soon", "file", "turn")), st.integers(0, 90_000)), max_size=9)
)
def test_any_mix_of_writes_arrives_in_order(steps):
    pair = Pair()
    said = bytearray()
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(90_000))
        file.flush()
        for place, (step, size) in enumerate(steps):
            data = bytes([place]) * size
            if step == "write":
                pair.stream.write(data)
            elif step == "parts":
                pair.stream.write_parts([data[:7], data[7:]])
            elif step == "soon":
                pair.stream.write_soon([data[:9], data[9:]])
            elif step == "file":
                pair.stream.write_file(b"head", os.dup(file.fileno()), 0, size)
                data = b"head" + os.pread(file.fileno(), size, 0)
            else:
                pair.turn(1)
                continue
            said += data
    assert read_all(pair, len(said)) == said
    pair.turn(1)
    assert pair.stream.buffered == 0
    assert len(pair.bounds.write) == 0
    pair.close()


def test_write_file_is_sent_between_earlier_and_later_writes(pair, tmp_path):
    path = tmp_path / "file"
    content = os.urandom(500_000)
    path.write_bytes(content)
    pair.stream.write(b"head")
    fd = os.open(path, os.O_RDONLY)
    pair.stream.write_file(b"", fd, 100, 400_000)
    pair.stream.write(b"tail")
    assert read_all(pair, 400_008) == b"head" + content[100:400_100] + b"tail"
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_write_file_that_shrinks_meanwhile_aborts_the_stream(pair, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    pair.stream.write_file(b"", os.open(path, os.O_RDONLY), 0, 2000)
    pair.turn()
    assert pair.stream.state is CLOSED
    assert len(read_all(pair, 2000)) == 1000


def test_low_water_mark_is_below_the_high_one():
    assert 0 < LOW_WATER < HIGH_WATER


def test_write_file_that_was_never_sent_is_closed(pair, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000_000)
    first, second = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    pair.stream.write_file(b"", first, 0, 10_000_000)
    pair.stream.write_file(b"", second, 0, 10_000_000)
    pair.stream.abort()
    for fd in (first, second):
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
