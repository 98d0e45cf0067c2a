"""What hostile readers of the code have found, each as a test that failed before it was mended."""

import contextlib
import enum
import errno
import gc
import http.client
import importlib.machinery
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import Counter, deque

import pytest

import pounce
from pounce.aio.import_hook import Watch
from pounce.aio.scheduler import Scheduler
from pounce.config.bind import Bind
from pounce.config.config import Config
from pounce.errors import ConfigError
from pounce.kernel.loop import Loop
from pounce.kernel.task import Cancelled
from pounce.net.acceptor import Acceptor
from pounce.net.listeners import Listener
from pounce.net.progress import LOOKS, SETTLE
from pounce.protocols.events import ApplicationError
from pounce.supervisor.pool import ATTEMPTS, Crew
from pounce.testing import TestServer
from pounce.worker.balance import Board
from pounce.worker.control import Report
from pounce.worker.worker import LINGER
from tests.net.test_net import Refusing, opened
from tests.support.answers import content_of, status_of
from tests.support.harness import Rig, skipping_loop
from tests.support.server import Running, ask, get
from tests.worker.test_workers import Crowd, Siblings, pair

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
BIG = 4_000_000


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def big(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(BIG)})


async def count(scope, receive, send):
    """Answers with the size of the content."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})


def post(length, more=b""):
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%b\r\n" % (length, more)


# Ends of connections


def over_tcp(rig):
    """A client whose kernel takes little before it reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.connect(listener.getsockname())
        theirs, _ = listener.accept()
    theirs.setblocking(False)
    rig.worker.connect(theirs, ("192.0.2.1", 1), ("192.0.2.2", 80))
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


@pytest.mark.parametrize(
    ("pieces", "half_closed"),
    [
        ([LAST_GET], True),
        ([LAST_GET + b"\r\n"], True),
        ([LAST_GET, b"\r\n"], False),
        ([LAST_GET, GET], False),
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


def waits_behind(size, events):
    """An application that says so much and then waits, as for the next event; it notes how it ends."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size), "more_body": True})
        await receive()
        events.append(await receive())

    return app


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells what a client has acknowledged")
@pytest.mark.parametrize(
    ("a_second", "timeout", "lives"),
    [(0, 30, False), (1_000_000, 30, True), (2_500, 30, True), (0, None, True), (0, 60, True)],
)
def test_a_client_that_takes_nothing_of_what_the_kernel_holds_for_it_is_ended(a_second, timeout, lives):
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


# Content


def test_who_waits_for_a_100_is_not_late_until_it_has_been_sent():
    async def app(scope, receive, send):
        await pounce.sleep(25)
        await count(scope, receive, send)

    rig = Rig(app)
    patient, silent = rig.connect(), rig.connect()
    for client in (patient, silent):
        client.send(post(5, b"Expect: 100-continue\r\n"))
        rig.wait(1)
    rig.wait(24)
    assert patient.read() == silent.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
    rig.wait(8)
    assert patient.ask(b"12345").endswith(b"5")
    assert silent.read() == b""
    rig.wait(3)
    assert status_of(silent.read()) == 408


def test_nothing_is_asked_of_a_client_within_the_grace():
    rig = Rig(count)
    client = rig.connect()
    client.send(post(5000))
    rig.wait(8.5)
    client.send(bytes(1000))
    for _ in range(4):
        rig.wait(2)
        client.send(bytes(1000))
    assert client.read().endswith(b"5000")


@pytest.mark.parametrize(
    ("sends", "lives"),
    [
        (lambda second: 0, 10),
        (lambda second: 1, 11),  # what has come in the grace pays for less than a second
        (lambda second: 239, 300),  # a little too slow for long enough is too slow
        (lambda second: 10_000 if second < 15 else 0, 24),  # what has come pays for ten seconds more, and for no longer
    ],
)
def test_how_long_a_slow_client_lives(sends, lives):
    rig = Rig(count)
    client = rig.connect()
    client.send(post(10_000_000))
    second = 0
    while not client.closed and second < 3000:
        client.sock.send(bytes(sends(second)))
        rig.wait(1)
        second += 1
        if answer := client.read():
            assert status_of(answer) == 408
    assert lives <= second <= (lives + 2 if lives < 100 else 3000)


@pytest.mark.parametrize("grace", [0.5, 1, 2])
def test_a_short_grace_refuses_nobody_who_sends(grace):
    rig = Rig(count, timeout_request_body=grace)
    client = rig.connect()
    client.send(post(120_000))
    for _ in range(300):
        client.send(bytes(400))
        rig.wait(0.3)
    assert client.read().endswith(b"120000")


def test_who_is_never_told_to_continue_has_no_more_time_than_others():
    async def app(scope, receive, send):
        await pounce.sleep(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await receive()  # too late for a 100

    rig = Rig(app)
    client = rig.connect()
    client.send(post(5, b"Expect: 100-continue\r\n"))
    rig.wait(12)
    client.read()
    assert client.closed
    rig.wait(LINGER)
    assert not rig.worker.connections


def test_a_client_at_the_least_rate_is_never_late():
    rig = Rig(count)
    client = rig.connect()
    client.send(post(120_000))
    for _ in range(500):
        client.send(bytes(240))
        rig.wait(1)
    assert client.read().endswith(b"120000")


def test_content_in_tiny_pieces_costs_little_more_than_its_bytes():
    async def idle(scope, receive, send):
        await pounce.sleep(1e6)

    rig = Rig(idle)
    client = rig.connect()
    client.send(post(100_000))
    for _ in range(5000):
        client.sock.send(b"ab")
        rig.loop.turn(0)
    (exchange,) = rig.worker.exchanges
    assert sum(map(len, exchange._body)) == 10_000
    assert len(exchange._body) < 20


# Responses


def test_a_205_has_no_content():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 205, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * (scope["path"] == "/x")})

    rig = Rig(app)
    client = rig.connect()
    answer = client.ask(GET)
    assert status_of(answer) == 205
    assert b"\r\ncontent-length: 0\r\n" in answer
    assert content_of(answer) == b""
    assert client.ask(GET.replace(b"/ ", b"/x ", 1)) == answer


def test_a_status_may_be_of_an_enumeration():
    class Status(int, enum.Enum):
        FINE = 200

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": Status.FINE, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert Rig(app).connect().ask(GET).startswith(b"HTTP/1.1 200 OK\r\n")


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: %d\r\n%b\r\n"
)


def test_a_426_says_to_what_to_upgrade():
    answer = Rig(hello).connect().ask(HANDSHAKE % (12, b"")).lower()
    assert status_of(answer) == 426
    for line in (b"upgrade: websocket", b"connection: upgrade", b"sec-websocket-version: 13"):
        assert b"\r\n" + line + b"\r\n" in answer


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_handshake_with_content_is_refused_however_it_comes(pieces):
    client = Rig(hello).connect()
    head = HANDSHAKE % (13, b"Content-Length: 1\r\n")
    for piece in [head + b"x"] if pieces == 1 else [head, b"x"]:
        client.send(piece)
    assert status_of(client.read()) == 400


# What is over


def ours():
    """How many objects there are of each of the server's types that the collector knows."""
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one).__module__.startswith("pounce."))


@pytest.mark.parametrize("ends", ["client", "server", "half", "reset"])
@pytest.mark.parametrize("waits", [False, True])
def test_what_is_over_is_freed_without_the_collector(waits, ends):
    async def app(scope, receive, send):
        if waits:
            await pounce.sleep(1)
        await hello(scope, receive, send)

    def one():
        client = rig.connect()
        client.send(LAST_GET if ends == "server" else GET)
        if ends == "half":
            client.sock.shutdown(socket.SHUT_WR)
        if ends == "reset":
            client.close()
        rig.wait(2)
        client.close()
        rig.wait(10)

    rig = Rig(app)
    one()
    gc.collect()
    gc.disable()
    try:
        before = ours()
        for _ in range(5):
            one()
        assert ours() == before
    finally:
        gc.enable()


# Cancelling


def test_an_application_whose_client_goes_in_its_first_step_is_cancelled():
    ended = []

    async def app(scope, receive, send):
        client.sock.close()
        with pytest.raises(OSError, match="disconnected"):
            await big(scope, receive, send)
            await send({"type": "http.response.body", "body": b""})
        try:
            await pounce.sleep(1000)
        finally:
            ended.append(rig.clock.now)

    rig = Rig(app, cancel_on_disconnect=True)
    client = rig.connect()
    client.sock.sendall(GET)
    rig.wait(1)
    assert ended
    assert not rig.worker.exchanges


def test_what_is_waited_for_after_being_cancelled_lasts_as_long_as_it_says():
    times = []

    async def app(scope, receive, send):
        await pounce.sleep(1)
        (exchange,) = rig.worker.exchanges
        exchange.cancel()  # as the connection does when it is lost in `send`
        try:
            await pounce.sleep(5)
        except Cancelled:
            times.append(rig.clock.now)
            await pounce.sleep(60)
            times.append(rig.clock.now)

    rig = Rig(app)
    rig.connect().send(GET)
    rig.wait(100)
    assert times[1] - times[0] >= 60


# Workers and their ends


def test_a_lost_worker_that_turns_again_leaves_its_successors_place_alone():
    with Siblings(2) as siblings:
        old = siblings.rigs[0]
        successor = Rig(hello, place=(0, [siblings.listener], siblings.board))
        before = siblings.connect(0, GET)
        old.turn(2)  # it turns again, and serves
        assert siblings.board.loads[0] == 0  # which is the successor's
        old.worker.retire()
        ours, parcel = pair()
        assert list(siblings.board.give(0, parcel)) == []  # the inbox is open
        successor.turn()
        ours.sendall(GET)
        successor.turn()
        assert ours.recv(1000).endswith(b"hello")
        before.close()
        ours.close()


def test_a_place_changes_hands_once_however_many_threads_try():
    board = Board(1, processes=False)
    loops = [skipping_loop()[0] for _ in range(3)]
    for loop in loops:
        board.open(0, loop, int)
    assert [board.shut(0, loop) for loop in loops] == [False, False, True]
    assert not board.shut(0, loops[2])


def test_what_is_given_while_a_place_changes_hands_is_taken():
    board = Board(1, processes=False)
    loops = [skipping_loop()[0] for _ in range(2)]
    taken = []

    class Parcels(deque):
        def append(self, parcel):  # the successor opens at the worst time
            board.open(0, loops[1], lambda: taken.extend(board.empty(0)))
            taken.extend(board.empty(0))
            super().append(parcel)

    board.open(0, loops[0], int)
    board.loads[0] = 0
    board.inboxes[0]._parcels = Parcels()
    ours, parcel = pair()
    assert list(board.give(0, parcel)) == []
    for loop in loops:
        loop.turn(0)
        loop.turn(0)
    assert taken == [parcel]
    ours.close()
    parcel[0].close()


def test_workers_that_are_lost_are_no_deaths(caplog):
    crowd = Crowd(2, patience=1.0)
    for _ in range(ATTEMPTS + 3):
        crowd.crew.places[0].worker.waited = 1.2
        crowd.look(2)
        crowd.crew.places[0].worker.told(Report.READY)
    assert caplog.text.count("is lost") == ATTEMPTS + 3
    assert crowd.owner.failures == []


def test_silence_in_the_lobby_of_a_worker_that_was_blocked():
    with Siblings(2, timeout_request_head=4.0) as siblings:
        one, two = siblings.rigs
        silent = siblings.connect(0)
        one.turn()
        two.worker.reception.stand_in(0)  # it is blocked
        silent.sendall(LAST_GET)
        two.turn()
        assert silent.recv(1000).endswith(b"hello")
        silent.close()
        two.turn()
        one.wait(5)
        assert one.reports == [Report.READY]


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")]
)
def test_a_worker_that_cannot_be_started_is_tried_again(error, caplog):
    crowd = Crowd(2)
    hire = crowd.owner.hire

    def fail(number, told):
        crowd.owner.hire = hire
        raise error

    crowd.owner.hire = fail
    before = crowd.crew.places[1].worker
    before.told(Report.RETIRING)
    assert "Worker 2 cannot be started: " in caplog.text
    assert crowd.crew.places[1].worker is before  # better than nobody
    assert ("retire",) not in before.said
    crowd.look(60)
    assert crowd.crew.places[1].worker is not before
    assert ("retire",) in before.said
    assert crowd.owner.failures == []


def test_a_worker_that_has_died_and_cannot_be_replaced_is_tried_again():
    crowd = Crowd(2)
    hire = crowd.owner.hire

    def fail(number, told):
        crowd.owner.hire = hire
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    crowd.owner.hire = fail
    crowd.crew.places[1].worker.told(Report.ENDED)
    crowd.look(2)
    assert crowd.crew.places[1].worker is None
    crowd.look(60)
    assert crowd.crew.places[1].worker is not None


def test_nobody_is_hired_by_a_crew_that_stops():
    crowd = Crowd(1)
    owner, crew = crowd.owner, None

    def fail_second(number, told):
        if number == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return hire(number, told)

    def failed(code):
        crew.stop(None)

    hire, owner.hire, owner.failed = owner.hire, fail_second, failed
    owner.hired.clear()
    crew = Crew(owner, crowd.loop, 4)
    crew.start()
    owner.hired[0].told(Report.READY)
    assert len(owner.hired) == 1
    assert ("stop",) in owner.hired[0].said


def test_a_first_worker_that_cannot_be_started_ends_the_server():
    crowd = Crowd(1)

    def fail(number, told):
        raise OSError(errno.EMFILE, "Too many open files")

    crowd.owner.hire = fail
    crew = Crew(crowd.owner, crowd.loop, 1)
    crew.start()
    assert crowd.owner.failures == [3]


def test_a_worker_at_its_request_limit_serves_until_it_is_told_to_go():
    rig = Rig(hello, limit_max_requests=1)
    client = rig.connect()
    for _ in range(3):
        assert b"connection: close" not in client.ask(GET)
    assert rig.reports.count(Report.RETIRING) == 1
    rig.worker.retire()
    assert b"connection: close" in client.ask(GET)


@pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")
def test_nobody_gets_in_while_an_only_worker_at_its_request_limit_shuts_down():
    closing, enough = threading.Event(), threading.Event()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            closing.set()
            while not enough.is_set():
                await pounce.sleep(0.01)
            await send({"type": "lifespan.shutdown.complete"})
            return
        await hello(scope, receive, send)

    with TestServer(app, lifespan="on", limit_max_requests=1) as server:
        address = (server.host, server.port)
        assert ask(address, LAST_GET).endswith(b"hello")
        assert closing.wait(10)
        try:
            with pytest.raises(OSError, match=r"timed out|refused"):  # and not reset, with a request on the way
                socket.create_connection(address, timeout=0.3)
        finally:
            enough.set()


def test_lifespan_ends_after_what_an_application_does_behind_its_answer():
    happened = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            happened.append("lifespan")
            await send({"type": "lifespan.shutdown.complete"})
            return
        await hello(scope, receive, send)
        await pounce.sleep(3)
        happened.append("behind")

    rig = Rig(app, lifespan="on")
    rig.turn()
    rig.worker.serve()
    client = rig.connect()
    client.send(GET[:10])
    rig.worker.stop()
    rig.wait(0.2)
    assert b"connection: close" in client.ask(GET[10:])
    rig.wait(5)
    assert happened == ["behind", "lifespan"]


def test_who_is_still_starting_is_not_waited_for_when_the_server_ends():
    crowd = Crowd(2)
    crowd.crew.places[0].worker.told(Report.RETIRING)
    starting = crowd.crew.places[0].worker
    crowd.crew.stop(30.0)
    crowd.look(200)  # ticks: its start has the graceful time-out as well
    assert ("kill",) in starting.said


def test_who_has_started_meanwhile_may_shut_down_in_order():
    crowd = Crowd(2)
    crowd.crew.places[0].worker.told(Report.RETIRING)
    late = crowd.crew.places[0].worker
    crowd.crew.stop(30.0)
    late.told(Report.READY)
    crowd.look(15)
    assert ("kill",) not in late.said
    assert ("kill",) not in crowd.crew.places[1].worker.said


def test_what_a_worker_is_told_when_it_does_not_end_and_when():
    crowd = Crowd(2)
    crowd.forget()
    began, told = crowd.loop.clock(), {}
    crowd.crew.stop(30.0)
    while not crowd.crew.left_behind and crowd.loop.clock() < began + 100:
        for name, *_ in crowd.handles[0].said:
            told.setdefault(name, crowd.loop.clock() - began)
        crowd.handles[0].kill = lambda: told.setdefault("kill", crowd.loop.clock() - began) < 0  # a thread: it cannot
        crowd.look()
    assert list(told) == ["stop", "cancel", "abandon", "kill"]
    assert told["stop"] == 0
    assert told["cancel"] == pytest.approx(30, abs=1)
    assert told["abandon"] == pytest.approx(62, abs=1)  # exchanges, then lifespan had their time
    assert told["kill"] == pytest.approx(63, abs=1)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no file descriptors of processes")
def test_a_killed_worker_is_noticed_though_its_child_lives_on(tmp_path):
    (tmp_path / "forking.py").write_text(
        "import os, time\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': return\n"
        "    if scope['path'] == '/fork':\n"
        "        child = os.fork()\n"
        "        if not child:\n"
        "            time.sleep(60)\n"
        "            os._exit(0)\n"
        "        body = b'%d %d' % (os.getpid(), child)\n"
        "    else:\n"
        "        body = b'%d' % os.getpid()\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': body})\n"
    )
    arguments = ("--workers", "2", "--worker-kind", "process", "--lifespan", "off", "--app-dir", str(tmp_path))
    with Running("forking:app", "--port", "0", *arguments) as server:
        # By the length of the answer, not by the end of the connection, which the child has as well.
        connection = http.client.HTTPConnection(*server.address)
        connection.request("GET", "/fork")
        worker, child = map(int, connection.getresponse().read().split())
        connection.close()
        try:
            os.kill(worker, signal.SIGKILL)
            server.wait_for(f"(process {worker}) died")
            for _ in range(20):
                assert int(get(server.address)[1]) != worker
            server.process.terminate()
            assert server.process.wait(30) == 0
        finally:
            os.kill(child, signal.SIGKILL)


# Sockets, options, the loop, imports


@pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")
def test_an_inherited_socket_is_left_as_it_was_found():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        listener = Listener([sock], sock.getsockname()[:2], inherited=True)
        rig = Rig(hello, place=(0, [listener], None))
        rig.worker.stop()
        rig.wait(1)
        assert rig.worker.phase.value == "ended"
        socket.create_connection(sock.getsockname(), timeout=5).close()  # the next server's client


def test_a_header_that_cannot_be_written_is_the_operators_mistake():
    with pytest.raises(ConfigError, match="not a field that HTTP allows: X-A: €"):
        Config("app:app", headers=[("X-A", "€")])


def test_the_loop_waits_for_what_is_far_away():
    loop = Loop()
    loop.call_later(1e9, int)
    loop.post(int)
    loop.turn()
    loop.turn(0)
    loop.post(int)
    loop.turn()
    loop.close()


def test_who_goes_through_the_finders_is_not_disturbed():
    finders = sys.meta_path
    before = list(finders)
    watch = Watch("a_module_that_nobody_imports", "x", int)
    watch.begin()
    assert sys.meta_path[1:] == before
    during = sys.meta_path
    watch.end()
    assert list(finders) == before
    assert during[0] is watch
    assert sys.meta_path == before
    assert importlib.machinery.PathFinder in sys.meta_path


# What an application, a log or a client may be like


class BadWords(Exception):
    def __str__(self):
        raise ZeroDivisionError("in __str__")


class DeepWords(Exception):
    def __str__(self):
        return str(self)


class NoLooking(Exception):
    def __getattribute__(self, name):
        raise RuntimeError(f"nobody asks for {name}")


@pytest.mark.parametrize("kind", [BadWords, DeepWords, NoLooking])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("websocket", [False, True])
def test_an_exception_that_cannot_be_looked_at_costs_its_own_request_only(kind, waits, websocket, caplog):
    async def app(scope, receive, send):
        if scope["path"] == "/":
            await hello(scope, receive, send)
            return
        if waits:
            await pounce.sleep(0.1)
        raise kind

    rig = Rig(app)
    client, other = rig.connect(), rig.connect()
    client.send(GET.replace(b"/ ", b"/bad ") if not websocket else BAD_HANDSHAKE)
    rig.wait(1)
    assert status_of(client.read()) == 500
    assert other.ask(GET).endswith(b"hello")
    assert sum("Exception in ASGI application" in record.message for record in caplog.records) >= 1
    assert rig.reports == [Report.READY]


BAD_HANDSHAKE = (
    b"GET /bad HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class BrokenHandler(logging.Handler):
    def emit(self, record):
        raise RecursionError("in a handler")


@pytest.mark.parametrize("name", ["pounce", "pounce.error", "pounce.access"])
def test_a_log_that_is_broken_breaks_no_request(name, monkeypatch, caplog, capsys):
    caplog.set_level(logging.INFO, logger=name)
    monkeypatch.setattr(logging.getLogger(name), "handlers", [BrokenHandler()])
    monkeypatch.setattr(logging.getLogger("pounce"), "propagate", False)

    async def app(scope, receive, send):
        await hello(scope, receive, send)
        raise ZeroDivisionError

    rig = Rig(app, access_log=True)
    assert rig.connect().ask(GET).endswith(b"hello")
    assert status_of(rig.connect().ask(b"BAD\r\n\r\n")) == 400
    assert rig.reports == [Report.READY]
    assert "pounce: RecursionError in logging, of " in capsys.readouterr().err


def test_a_pipe_is_not_sent_as_a_file(tmp_path):
    """To open it would wait for somebody who writes, and everybody else with it."""
    os.mkfifo(tmp_path / "fifo")

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": str(tmp_path / "fifo")})

    assert status_of(Rig(app).connect().ask(GET)) == 500


def says(size):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size)})

    return app


@pytest.mark.parametrize("late", [b"\r\n", GET, b"x" * 1000])
@pytest.mark.parametrize("asked", [LAST_GET, b"GET / HTTP/1.0\r\n\r\n"])
@pytest.mark.parametrize("size", [5_000, 60_000, 200_000])
def test_a_response_arrives_whole_though_the_client_sends_something_after_the_last_byte(size, asked, late):
    """When the kernel has taken all of it and the client not."""
    rig = Rig(says(size))
    with over_tcp(rig) as client:
        client.sendall(asked)
        rig.turn()
        client.sendall(late)
        assert len(content_of(read_to_the_end(rig, client))) == size


def test_who_takes_the_last_of_a_response_slowly_is_not_cut_off_by_the_end_of_the_connection():
    rig = Rig(says(200_000))
    with over_tcp(rig) as client:
        client.sendall(LAST_GET)
        rig.turn()
        got = b""
        while len(got) < 100_000:
            rig.wait(1)
            with contextlib.suppress(BlockingIOError):
                got += client.recv(5_000)
        assert rig.clock.now > 1000 + 2 * LINGER
        got += read_to_the_end(rig, client)
        assert len(content_of(got)) == 200_000
    rig.turn()
    assert not rig.worker.connections


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells what a client has acknowledged")
@pytest.mark.parametrize("size", [100, 200_000])
def test_who_takes_nothing_of_the_last_response_is_ended(size):
    rig = Rig(says(size))
    with over_tcp(rig) as client:
        client.sendall(LAST_GET)
        rig.turn()
        rig.wait(30 * (1 + 1 / LOOKS) + LINGER)
        assert not rig.worker.connections


def fill(sock):
    """Gives the kernel as much as it takes, until it takes nothing for a while."""
    took = True
    while took:
        took = False
        time.sleep(0.05)
        with contextlib.suppress(BlockingIOError):
            while sock.send(b"x"):
                took = True


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells what a client has acknowledged")
def test_a_client_whose_kernel_is_full_to_the_byte_is_ended_as_well():
    """The look has ended, and what is written next is taken by nobody."""

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
        rig.wait(30 * (1 + 2 / LOOKS))
        assert not rig.worker.connections


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells what a client has acknowledged")
def test_a_look_that_fails_is_not_the_last(monkeypatch):
    rig = Rig(waits_behind(100_000, []))
    with over_tcp(rig) as client:
        client.sendall(GET)
        rig.turn()
        with monkeypatch.context() as patch:
            patch.setattr("pounce.net.progress.acknowledged", lambda _sock: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                rig.wait(30)
        rig.wait(30 * (1 + 2 / LOOKS))
        assert not rig.worker.connections


class NoClass:
    @property
    def __class__(self):
        raise RuntimeError("nobody asks for __class__")

    def __str__(self):
        raise RuntimeError("nor for words")


def test_a_value_that_cannot_be_looked_at_is_told_of_and_nothing_else(caplog):
    async def app(scope, receive, send):
        await hello(scope, receive, send)
        return NoClass()

    rig = Rig(app)
    assert rig.connect().ask(GET).endswith(b"hello")
    assert "should return None, but returned '<class" in caplog.text


def test_a_queue_that_a_sibling_has_emptied_is_empty():
    """Though there was no descriptor when this worker last looked."""
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        acceptor = Acceptor(Loop(), Refusing(listener.sockets[0], errno.EMFILE), lambda _sock, _name: None)
        assert not acceptor.drain()
        assert acceptor.drain()


def test_asyncio_imported_at_the_very_end_holds_up_no_worker():
    """Another thread has imported it, and that is told when the worker is over."""
    scheduler = Scheduler(Loop(), list)
    scheduler.end(1.0)
    scheduler._put_on_face()
    assert not scheduler.busy


def test_a_connection_whose_end_has_arrived_is_closed_though_the_client_keeps_its_side_open():
    rig = Rig(hello)
    with over_tcp(rig) as client:
        client.sendall(LAST_GET)
        rig.turn()
        assert read_to_the_end(rig, client).endswith(b"hello")
        rig.wait(2 * SETTLE)
        assert not rig.worker.connections


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells what a client has acknowledged")
def test_a_slow_reader_of_a_large_response_is_not_cut_off():
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
        rig.wait(30 * (1 + 2 / LOOKS))  # and then takes nothing any more
        assert not rig.worker.connections


def test_who_stands_in_the_queue_when_there_is_no_descriptor_is_served_when_there_is_one():
    """The server ends, and shuts no socket before that."""
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        events = []
        rig = Rig(waits_behind(0, events), place=(0, [listener], None))
        rig.turn()
        busy = socket.create_connection(listener.address)
        busy.sendall(GET)
        rig.turn()
        waiting = socket.create_connection(listener.address)
        waiting.sendall(GET)
        (sock,) = listener.sockets
        listener.sockets[0] = refusing = Refusing(sock, *[errno.EMFILE] * 3)
        rig.worker.reception.stop()  # nor does it accept before its end
        rig.worker.stop()
        rig.wait(1)
        assert refusing.calls == 3 + 2
        assert len(rig.worker.connections) == 2
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x07"  # CLOSE
        for client in (busy, waiting):
            client.close()


@pytest.mark.parametrize("reason", [b"bye", 5, ["bye"]])
def test_a_reason_that_is_no_string_closes_no_websocket(reason):
    seen = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(ApplicationError, match="the reason for closing a WebSocket is a string"):
            await send({"type": "websocket.close", "reason": reason})
        await send({"type": "websocket.close", "reason": "bye"})
        seen.append(await receive())

    client = Rig(app).connect()
    assert client.ask(BAD_HANDSHAKE).endswith(b"\x88\x05\x03\xe8bye")
    client.close()
    assert seen == [{"type": "websocket.disconnect", "code": 1000, "reason": "bye"}]
