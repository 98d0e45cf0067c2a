"""How many requests run, how long they wait for that, and how long they may take; and what a worker does when the
machine has no room, or its clients no manners. Time is the test's own, where time matters."""

import contextlib
import errno
import os
import resource
import socket
import struct
import threading
import time

import pytest

import pounce
from pounce.config.config import DEFAULTS, OPTIONS, Config
from pounce.kernel.task import Cancelled, Wait
from pounce.net.acceptor import Acceptor
from tests.support.answers import content_of, status_of
from tests.support.harness import Rig, skipping_loop
from tests.support.server import Running, get

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def named(path):
    return f"GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


class Gate:
    """An application whose requests end when the test says so."""

    def __init__(self):
        self.inside = {}
        self.contents = []
        self.left = []

    async def __call__(self, scope, receive, send):
        path = scope["path"].removeprefix("/")
        wait = self.inside[path] = Wait()
        try:
            message = await receive()
            self.contents.append(message["body"])
            await wait
        finally:
            del self.inside[path]
            self.left.append(path)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": path.encode()})


def crowd(**options):
    app = Gate()
    return app, Rig(app, limit_concurrency=2, limit_queue=2, **options)


# The queue


def test_a_request_too_many_waits_for_its_turn(caplog):
    app, rig = crowd()
    clients = {name: rig.connect() for name in "abcd"}
    for name, client in clients.items():
        client.send(named(name))
    assert sorted(app.inside) == ["a", "b"]
    assert caplog.text.count("Exceeded concurrency limit; requests are waiting.") == 1
    app.inside["b"].wake()
    assert content_of(clients["b"].read()) == b"b"
    assert sorted(app.inside) == ["a", "c"]  # in order of arrival
    for name in "acd":
        app.inside[name].wake()
        assert content_of(clients[name].read()) == name.encode()
    assert content_of(clients["a"].ask(named("a2"))) == b""
    app.inside["a2"].wake()
    assert content_of(clients["a"].read()) == b"a2"  # the connections go on
    assert rig.worker.exchanges == set()


def test_who_finds_the_queue_full_is_told_when_to_come_again():
    _, rig = crowd()
    for name in "ab":
        rig.connect().send(named(name))
    rig.connect().send(named("c"))
    rig.wait(2.5)
    rig.connect().send(named("d"))
    client = rig.connect()
    answer = client.ask(named("e"))
    assert status_of(answer) == 503
    assert b"\r\nretry-after: 3\r\n" in answer  # the first in the queue has waited so long, and a bit
    assert b"\r\nconnection: close\r\n" in answer
    assert client.closed


def test_who_waits_too_long_is_told_so_and_his_place_is_free():
    app, rig = crowd(queue_timeout=4.0)
    clients = {name: rig.connect() for name in "abcd"}
    for name in "abc":
        clients[name].send(named(name))
    rig.wait(1.0)
    clients["d"].send(named("d"))
    rig.wait(2.9)
    assert clients["c"].read() == b""
    rig.wait(0.2)
    answer = clients["c"].read()
    assert status_of(answer) == 503
    assert b"\r\nretry-after: 5\r\n" in answer or b"\r\nretry-after: 4\r\n" in answer
    assert clients["c"].closed
    rig.connect().send(named("e"))
    rig.wait(0.9)
    assert status_of(clients["d"].read()) == 503
    app.inside["a"].wake()
    rig.turn()
    assert sorted(app.inside) == ["b", "e"]


def test_the_way_through_the_queue_is_measured(caplog):
    caplog.set_level("INFO", "pounce.error")
    app, rig = crowd(queue_timeout=4.0)
    for name in "abcd":
        rig.connect().send(named(name))
    rig.connect().send(named("e"))
    rig.wait(1.5)
    app.inside["a"].wake()
    rig.turn()
    assert "No more requests" not in caplog.text
    rig.wait(2.5)
    assert "1 were admitted, 2 turned away; the longest wait was 4.00 s." in caplog.text
    admission = rig.worker.admission
    assert (admission.admitted, admission.turned_away, admission.longest) == (0, 0, 0.0)


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_a_client_that_leaves_the_queue_leaves_room(how):
    app, rig = crowd()
    clients = {name: rig.connect() for name in "abcd"}
    for name, client in clients.items():
        client.send(named(name))
    if how == "half":  # it sends no more, but still waits for its answer
        clients["c"].sock.shutdown(socket.SHUT_WR)
        rig.turn()
        app.inside["a"].wake()
        app.inside["b"].wake()
        rig.turn()
        app.inside["c"].wake()
        assert content_of(clients["c"].read()) == b"c"
        return
    if how == "reset":
        rig.worker.connections.copy()
        for connection in rig.worker.connections:
            if connection.exchange.request.path == b"/c":
                connection.stream.abort()
                break
    clients["c"].close()
    # A closed socket is the end of the input at first: only a write tells that nobody reads any more.
    app.inside["a"].wake()
    app.inside["b"].wake()
    rig.turn()
    if "c" in app.inside:
        app.inside["c"].wake()
        rig.turn()
    app.inside["d"].wake()
    assert content_of(clients["d"].read()) == b"d"
    assert not app.inside
    assert not rig.worker.exchanges


def test_content_that_comes_while_its_request_waits_is_there_when_it_runs():
    app, rig = crowd()
    for name in "ab":
        rig.connect().send(named(name))
    client = rig.connect()
    client.send(b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nfour")
    client.send(b"more")
    app.inside["a"].wake()
    rig.turn()
    assert app.contents[-1] == b"fourmore"
    app.inside["c"].wake()
    assert content_of(client.read()) == b"c"


def test_content_of_a_waiting_request_is_bounded_and_its_deadline_runs():
    _, rig = crowd(timeout_request_body=3.0, queue_timeout=60.0)
    for name in "ab":
        rig.connect().send(named(name))
    slow, fast = rig.connect(), rig.connect()
    slow.send(b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nfour")
    fast.send(b"POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
    with contextlib.suppress(BlockingIOError):
        while True:
            fast.send(bytes(65536))
    (reading,) = [c for c in rig.worker.connections if c.exchange.request.path == b"/d"]
    assert reading.exchange.body_waiting < 300_000
    rig.wait(3.1)
    assert status_of(slow.read()) == 408
    assert fast.read() == b""
    assert len(rig.worker.admission._waiting) == 1


def test_pipelined_requests_wait_behind_the_one_that_waits():
    app, rig = crowd()
    for name in "ab":
        rig.connect().send(named(name))
    client = rig.connect()
    client.send(named("c") + named("d"))
    app.inside["a"].wake()
    rig.turn()
    assert sorted(app.inside) == ["b", "c"]
    app.inside["c"].wake()
    rig.turn()
    app.inside["d"].wake()
    answers = client.read()
    assert 0 < answers.index(b"\r\n\r\nc") < answers.index(b"\r\n\r\nd")


def test_requests_that_never_wait_do_not_hold_up_the_loop():
    app = Gate()

    async def gate(scope, receive, send):
        if scope["path"] == "/a":
            await app(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"quick"})

    rig = Rig(gate, limit_concurrency=1, limit_queue=100)
    rig.connect().send(named("a"))
    clients = [rig.connect() for _ in range(100)]
    for client in clients:
        client.send(named("b"))
    assert all(client.read() == b"" for client in clients)
    app.inside["a"].wake()
    rig.loop.turn(0)
    rig.loop.turn(0)
    rig.loop.turn(0)
    assert 0 < len(rig.worker.admission._waiting) < 100
    assert all(content_of(client.read()) == b"quick" for client in clients)


def test_who_waits_is_served_before_the_end_or_told_that_he_is_not():
    app, rig = crowd(queue_timeout=60.0)
    clients = {name: rig.connect() for name in "abcd"}
    for name, client in clients.items():
        client.send(named(name))
    rig.worker.stop()
    app.inside["a"].wake()
    rig.turn()
    app.inside["c"].wake()
    answer = clients["c"].read()
    assert content_of(answer) == b"c"
    assert b"connection: close" in answer
    rig.worker.cancel()
    assert status_of(clients["d"].read()) == 503
    assert status_of(clients["b"].read()) == 503
    rig.wait(2.0)
    assert rig.worker.phase.name == "ENDED"


def test_idle_connections_do_not_count_where_there_is_a_queue():
    app, rig = crowd()
    for _ in range(10):
        rig.connect()
    client = rig.connect()
    client.send(named("a"))
    app.inside["a"].wake()
    assert content_of(client.read()) == b"a"


def test_a_queue_needs_a_limit():
    with pytest.raises(pounce.ConfigError, match="limit_queue needs limit_concurrency"):
        Config("app", limit_queue=5)


# The deadline of a request


def test_without_a_deadline_nothing_is_armed():
    app, rig = Gate(), None
    rig = Rig(app)
    rig.connect().send(named("a"))
    assert rig.worker.admission.watches is False
    rig.wait(1000.0)
    assert list(app.inside) == ["a"]


def test_a_request_that_takes_too_long_is_cancelled_and_answered_504(caplog):
    app = Gate()
    rig = Rig(app, timeout_request=7.0)
    client = rig.connect()
    client.send(named("a"))
    rig.wait(6.9)
    assert client.read() == b""
    rig.wait(0.2)
    assert status_of(client.read()) == 504
    assert app.left == ["a"]
    assert "Request timed out: GET /a in Gate.__call__ (" in caplog.text
    assert f"{__file__}:" in caplog.text
    assert not rig.worker.exchanges
    client.send(named("b"))  # the connection goes on
    app.inside["b"].wake()
    assert content_of(client.read()) == b"b"
    assert caplog.text.count("\n") == 1
    rig.wait(20.0)
    assert caplog.text.count("\n") == 1


@pytest.mark.parametrize("started", ["not", "head", "streaming"])
def test_what_was_sent_decides_between_504_and_the_end_of_the_connection(started, caplog):
    async def app(scope, receive, send):
        if started != "not":
            await send({"type": "http.response.start", "status": 200})
        if started == "streaming":
            await send({"type": "http.response.body", "body": b"some", "more_body": True})
        await pounce.sleep(100)

    rig = Rig(app, timeout_request=7.0)
    client = rig.connect()
    client.send(GET)
    rig.wait(7.1)
    answer = client.read()
    if started != "not":
        assert (b"some" in answer) == (started == "streaming")
        assert not answer.endswith(b"0\r\n\r\n")  # nobody takes it for the whole
        assert client.closed
    else:
        assert status_of(answer) == 504
        assert not client.closed
    assert caplog.text.count("Request timed out: GET / in ") == 1


def test_a_streaming_response_to_a_client_that_does_not_read_has_the_same_deadline():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        while True:
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})

    rig = Rig(app, timeout_request=7.0)
    client = rig.connect()
    client.send(GET)
    rig.wait(7.1)
    assert not rig.worker.exchanges
    with contextlib.suppress(ConnectionResetError):
        client.read()
        assert client.closed


def test_what_runs_on_after_its_response_is_left_alone(caplog):
    done = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})
        await pounce.sleep(20)
        done.append(True)

    rig = Rig(app, timeout_request=7.0)
    assert content_of(rig.connect().ask(GET)) == b"hello"
    rig.wait(21.0)
    assert done == [True]
    assert caplog.text == ""


def test_an_application_that_ignores_its_cancellation_keeps_nobody_waiting_and_is_named_once(caplog):
    class Stubborn:
        tries = 0

        async def __call__(self, scope, receive, send):
            while self.tries < 2:
                try:
                    await pounce.sleep(30)
                    break
                except Cancelled:
                    self.tries += 1
            with pytest.raises(OSError, match="disconnected"):
                await send({"type": "http.response.start", "status": 200})

    app = Stubborn()
    rig = Rig(app, timeout_request=7.0)
    client = rig.connect()
    client.send(GET)
    rig.wait(7.1)
    assert status_of(client.read()) == 504
    rig.wait(5.0)
    assert caplog.text.count("ignores its cancellation; it is abandoned.") == 1
    rig.wait(40.0)
    assert app.tries == 1
    assert not rig.worker.exchanges
    assert caplog.text.count("\n") == 2


def test_the_deadline_begins_when_the_request_is_admitted():
    app, rig = crowd(timeout_request=7.0, queue_timeout=60.0)
    clients = {name: rig.connect() for name in "abc"}
    for name, client in clients.items():
        client.send(named(name))
    rig.wait(7.1)
    assert status_of(clients["a"].read()) == 504
    assert list(app.inside) == ["c"]
    rig.wait(6.8)
    assert list(app.inside) == ["c"]
    rig.wait(0.3)
    assert status_of(clients["c"].read()) == 504


def test_the_deadline_under_asyncio(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        try:\n"
        "            await asyncio.sleep(60)\n"
        "        except asyncio.CancelledError:\n"
        "            print('cleaned up', flush=True)\n"
        "            raise\n"
    )
    with Running("slow:app", "--port", "0", "--timeout-request", "0.3", cwd=tmp_path) as server:
        assert get(server.address, "/x") == (504, b"Gateway Timeout")
        server.wait_for("cleaned up")
        assert "Request timed out: GET /x in app (" in server.wait_for("timed out")
        server.stop()
        assert "Traceback" not in server.log


# The table of DESIGN.md, section 8


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("timeout_request_head", 10.0),
        ("timeout_request_body", 10.0),
        ("limit_request_body_rate", 240),
        ("timeout_keep_alive", 5.0),
        ("timeout_write", 30.0),
        ("timeout_request", None),
        ("timeout_graceful_shutdown", 30.0),
        ("limit_request_head", 65536),
        ("limit_request_fields", 100),
        ("limit_request_target", 8192),
        ("limit_request_body", None),
        ("limit_concurrency", None),
        ("limit_queue", 0),
        ("queue_timeout", 10.0),
        ("timeout_worker_stuck", None),
    ],
)
def test_every_deadline_and_bound_is_a_field_and_a_flag(name, default):
    assert DEFAULTS[name] == default
    assert "--" + name.replace("_", "-") in OPTIONS[name].flags


# No room


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_whatever_room_is_missing_accepting_pauses_and_resumes(error, caplog):
    class Full:
        accepts = 0

        def __init__(self, sock):
            self.sock = sock

        def fileno(self):
            return self.sock.fileno()

        def accept(self):
            self.accepts += 1
            if self.accepts < 4:
                raise OSError(error, os.strerror(error))
            return self.sock.accept()

    loop, selector = skipping_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        full, accepted = Full(listening), []
        acceptor = Acceptor(loop, full, lambda sock, _peer: accepted.append(sock))
        acceptor.start()
        with socket.create_connection(listening.getsockname()):
            for second in range(1, 4):
                for _ in range(10):
                    loop.turn(0)
                assert full.accepts == second
                selector.skip = 1.01
            loop.turn(0)
            loop.turn(0)
            assert len(accepted) == 1
            assert caplog.text.count("Cannot accept connections") == 1
            accepted[0].close()


def test_without_descriptors_a_server_waits_says_so_once_and_goes_on():
    with Running("plain:app", "--port", "0", "--no-access-log", "--timeout-request-head", "60") as server:
        get(server.address)
        limit = descriptors(server) + 50
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        crowd = [socket.create_connection(server.address, timeout=30) for _ in range(100)]
        server.wait_for("Cannot accept connections: too many open files")
        used = cpu_of(server.process.pid)
        time.sleep(0.5)
        assert cpu_of(server.process.pid) - used < 0.25  # it does not spin
        for client in crowd[:60]:
            client.close()
        for client in crowd[60:]:
            client.sendall(GET)
            assert client.recv(1000).endswith(b"hello")
            client.close()
        assert get(server.address) == (200, b"hello")
        assert server.log.count("Cannot accept connections") <= 2
        assert server.stop() == 143


def cpu_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


# No manners

RESET = struct.pack("ii", 1, 0)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


SCRIPTS = {
    "nothing": [],
    "a part of the head": [b"GET / HTTP/1.1\r\nHo"],
    "a head": [GET],
    "a part of the content": [b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc"],
    "a part of a chunk": [b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"],
    "in the response": [b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", 100],
    "while it waits": [b"GET /sleep?0.05 HTTP/1.1\r\nHost: a\r\n\r\n"],
    "in a pipeline": [GET * 50, 10],
    "between requests": [GET, 1000],
    "an error": [b"\x16\x03\x01\x00", 10],
}


@pytest.mark.parametrize("workers", ["1", "3"])
def test_clients_that_go_at_any_point_leave_nothing_behind(workers):
    with Running("plain:app", "--port", "0", "--workers", workers, "--no-access-log") as server:
        address = server.address
        get(address)
        before = descriptors(server)

        def play(parts, end):
            with contextlib.suppress(OSError):
                sock = socket.create_connection(address, timeout=10)
                for part in parts:
                    if isinstance(part, bytes):
                        sock.sendall(part)
                    else:
                        sock.recv(part)
                end(sock)

        def half(sock):
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
            sock.close()

        def storm():
            for parts in SCRIPTS.values():
                for end in (reset, socket.socket.close, half):
                    play(parts, end)

        threads = [threading.Thread(target=storm) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert get(address) == (200, b"hello")
        end = time.monotonic() + 15
        while descriptors(server) > before and time.monotonic() < end:
            time.sleep(0.05)
        assert descriptors(server) <= before
        server.stop()
        for words in ("Traceback", "failed", "died", "ERROR", "CRITICAL"):
            assert words not in server.log


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_storm_of_connections_that_are_opened_and_dropped(workers):
    with Running("plain:app", "--port", "0", "--workers", workers, "--no-access-log") as server:
        address = server.address
        get(address)
        before = descriptors(server)
        end = [reset, socket.socket.close]
        for round_ in range(15):
            crowd = []
            for _ in range(200):
                sock = socket.socket()
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.connect(address)
                crowd.append(sock)
            for sock in crowd:
                end[round_ % 2](sock)
        begun = time.monotonic()
        assert get(address) == (200, b"hello")
        assert time.monotonic() - begun < 5
        while descriptors(server) > before and time.monotonic() < begun + 15:
            time.sleep(0.05)
        assert descriptors(server) <= before
        server.stop()
        for words in ("Traceback", "failed", "died", "ERROR", "CRITICAL"):
            assert words not in server.log
