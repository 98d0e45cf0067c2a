"""What `python -m stress` has found, each made small."""

import math
import os
import resource
import socket
import time

import pytest

from pounce.testing import TestServer
from pounce.worker.balance import Board, ProcessInbox
from pounce.worker.intake import Reception
from tests.support.harness import Rig, skipping_loop


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system has no bound to set")
def test_the_kernel_does_not_hold_megabytes_for_a_client_that_takes_nothing(monkeypatch):
    # Found by `slow`: 2.8 MB for each slow reader, so a thousand of them held all the memory Linux gives to TCP, and
    # filling their buffers took seconds in which nobody else was served.
    monkeypatch.setattr("pounce.net.progress.LOANS", 0)  # a few may have more
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


def test_what_a_sibling_rescues_is_watched_by_nobody_else():
    # Found by `races`: a worker that was stopped by the machine between "it is in my lobby" and "I watch it" watched
    # a socket that was a sibling's by then, and failed later when that number was given to another connection.
    loop, selector = skipping_loop()
    board = Board(2, processes=False)
    reception = Reception(loop, 0, [], board, (), lambda _since: 0, math.inf, lambda *_: None)
    reception.open()
    ours, theirs = socket.socketpair()
    taken = []

    def watch(*arguments):
        taken.extend(board.rescue(0))  # the other thread is as quick as it can be
        type(loop).watch(loop, *arguments)
        taken.extend(board.rescue(0))

    loop.watch = watch
    with ours, theirs:
        reception._admit((ours, None, ("", None)))
        watched = ours.fileno() in selector.get_map()
        assert watched != bool(taken)
        taken.extend(board.rescue(0))
        assert [parcel[0] for parcel in taken] == [ours]
        assert ours.fileno() not in selector.get_map()


def test_a_connection_from_another_process_waits_while_no_descriptor_is_free():
    # Found by `chaos`: with process workers, a connection that was handed to a sibling without a free descriptor was
    # lost, though the client had been accepted.
    loop, _ = skipping_loop()
    inbox, arrived, spent = ProcessInbox(), [], []
    inbox.open(loop, lambda: arrived.append(inbox.take()))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    ours, theirs = socket.socketpair()
    assert inbox.put((ours, None, ("", None)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                spent.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(5):
            loop.turn(0)
        assert arrived == [None]  # and does not try again and again
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in spent:
            os.close(fd)
    parcel = inbox.take()
    assert parcel is not None
    with parcel[0] as sock, theirs:
        sock.sendall(b"still there")
        assert theirs.recv(100) == b"still there"
    inbox.shut()


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize("draining", [False, True])
def test_a_request_that_came_while_the_loop_was_busy_is_not_late(draining):
    # Found by `races`: a request that arrived between the loop's look at the sockets and its look at the deadlines
    # was answered with a reset, because its connection had been idle for long enough. Under load that is a long time.
    rig = Rig(hello)
    client = rig.connect()
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert client.ask(request).endswith(b"hello")
    if draining:
        rig.worker.stop()
    select = rig.selector.select

    def busy(timeout=None):
        ready = select(timeout)
        if rig.clock.now > began + 0.1:
            client.sock.send(request)  # now that nothing was readable
            rig.selector.select = select
        return ready

    began = rig.clock.now
    rig.selector.select = busy
    rig.skip(6.0)
    assert client.read().endswith(b"hello")


def test_an_idle_connection_still_ends_at_its_deadline():
    rig = Rig(hello)
    client = rig.connect()
    assert client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b"hello")
    rig.wait(5.1)
    assert client.closed
