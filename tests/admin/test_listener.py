"""The admin listener on a loop that the test turns: its answers, its bounds and its end."""

import json
import socket
from typing import NamedTuple

import pytest

from pounce.admin.listener import MAX_CONNECTIONS, AdminListener
from pounce.admin.probes import routes
from pounce.config import Config
from pounce.net.listeners import open_listeners
from tests.support.answers import read_answers
from tests.support.harness import skipping_loop


class Worker(NamedTuple):
    number: int
    name: str
    state: str
    blocked_for: float


class Server:
    live = ready = True
    phase = "serving"

    def workers(self):
        return [Worker(1, "thread pounce-worker-1", "serving", 0.0), Worker(2, "process 7", "blocked", 3.14159)]


class AdminRig:
    def __init__(self, **options):
        self.loop, self.selector = skipping_loop()
        self.listeners = open_listeners(Config("", admin="127.0.0.1:0").admin_binds(), 4)
        self.server = Server()
        self.listener = AdminListener(self.loop, self.listeners, Config("", **options), routes(self.server))
        self.listener.start()
        self.clients = []

    @property
    def address(self):
        return self.listeners[0].address

    def turn(self, seconds=0.0):
        if seconds:
            self.selector.skip = seconds
        for _ in range(6):
            self.loop.turn(0)

    def connect(self):
        client = socket.create_connection(self.address)
        self.clients.append(client)
        self.turn()
        client.settimeout(5)
        return client

    def ask(self, target, method="GET"):
        client = self.connect()
        client.sendall(f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        self.turn()
        [found] = read_answers(b"".join(iter(lambda: client.recv(65536), b"")), heads=[0] if method == "HEAD" else ())
        return found

    def closed(self, client):
        """Does the client see the end of the connection?"""
        client.setblocking(False)
        try:
            while client.recv(65536):
                pass
        except BlockingIOError:
            return False
        except ConnectionResetError:
            pass
        return True

    def close(self):
        self.listener.close()
        for client in self.clients:
            client.close()
        for listener in self.listeners:
            listener.close()
        self.loop.close()


@pytest.fixture
def rig():
    rig = AdminRig()
    yield rig
    rig.close()


def test_livez_says_whether_the_server_is_live(rig):
    found = rig.ask("/livez")
    assert (found.status, found.content) == (200, b"ok\n")
    rig.server.live = False
    found = rig.ask("/livez?verbose")
    assert (found.status, found.content) == (503, b"no worker's loop turns\n")


def test_readyz_says_whether_the_server_is_ready_and_how_each_worker_is(rig):
    found = rig.ask("/readyz")
    assert found.status == 200
    assert found.get(b"content-type") == b"application/json"
    assert json.loads(found.content) == {
        "ready": True,
        "state": "serving",
        "workers": [
            {"number": 1, "name": "thread pounce-worker-1", "state": "serving", "blocked_for": 0.0},
            {"number": 2, "name": "process 7", "state": "blocked", "blocked_for": 3.1},
        ],
    }
    rig.server.ready, rig.server.phase = False, "leaving"
    found = rig.ask("/readyz")
    assert found.status == 503
    assert json.loads(found.content)["state"] == "leaving"


def test_head_is_answered_without_content(rig):
    found = rig.ask("/readyz", "HEAD")
    assert (found.status, found.content) == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE"])
def test_other_methods_are_answered_405(rig, method):
    found = rig.ask("/livez", method)
    assert found.status == 405
    assert found.get(b"allow") == b"GET, HEAD"


@pytest.mark.parametrize("target", ["/", "/livez/", "/metrics", "/%00", "http://a/livezz"])
def test_other_paths_are_answered_404(rig, target):
    assert rig.ask(target).status == 404


def test_a_connection_carries_several_requests(rig):
    client = rig.connect()
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
    rig.turn()
    assert [each.status for each in read_answers(client.recv(65536))] == [200] * 3


def test_the_servers_own_fields_follow_its_options_and_the_applications_do_not():
    rig = AdminRig(server_header=False, headers=[("x-frame-options", "deny")])
    found = rig.ask("/livez")
    assert found.get(b"server") is None
    assert found.get(b"x-frame-options") is None
    assert found.get(b"date") is not None
    rig.close()


def test_a_variable_that_an_option_of_the_server_overrides_is_not_read(monkeypatch):
    config = Config("", forwarded_allow_ips="127.0.0.1", workers=1)
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.300")
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    AdminListener(skipping_loop()[0], (), config, routes(Server()))


def test_a_client_that_asks_nothing_is_closed_and_one_that_is_idle_too(rig):
    silent, idle = rig.connect(), rig.connect()
    idle.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    rig.turn()
    rig.turn(5.1)
    assert rig.closed(idle)
    assert not rig.closed(silent)
    rig.turn(5)
    assert rig.closed(silent)


def test_clients_that_hold_every_connection_do_not_keep_a_probe_out(rig):
    holding = [rig.connect() for _ in range(MAX_CONNECTIONS)]
    holding[3].sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    rig.turn()
    assert rig.ask("/livez").status == 200
    assert [number for number, client in enumerate(holding) if rig.closed(client)] == [3]  # the idle one first
    assert rig.ask("/livez").status == 200  # in the place that the first probe has left
    rig.connect()
    rig.connect()
    assert [number for number, client in enumerate(holding) if rig.closed(client)] == [0, 3]  # then the oldest


@pytest.mark.parametrize("length", [20_000, 1_000_000])
def test_clients_that_hold_every_connection_with_content_do_not_keep_a_probe_out(rig, length):
    for _ in range(MAX_CONNECTIONS):
        rig.connect().sendall(b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length + b"x" * 10000)
        rig.turn()
    assert rig.ask("/livez").status == 200
    assert rig.ask("/livez").status == 200


def test_connections_that_linger_are_counted_and_do_not_keep_a_probe_out(rig):
    holding = [rig.connect() for _ in range(MAX_CONNECTIONS)]
    for client in holding:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nrest")
        rig.turn()  # what it sends behind its last request is read and thrown away
    assert len(list(rig.listener.sockets())) == MAX_CONNECTIONS + 1
    last = rig.connect()
    assert len(list(rig.listener.sockets())) == MAX_CONNECTIONS + 1
    last.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    rig.turn()
    assert last.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_close_ends_clients_that_hang(rig):
    silent, partial, idle, reading = (rig.connect() for _ in range(4))
    partial.sendall(b"GET /livez HTT")
    idle.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    reading.sendall(b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
    rig.turn()
    rig.listener.close()
    assert all(map(rig.closed, (silent, partial, idle, reading)))


def test_stop_goes_on_answering_until_close(rig):
    client = rig.connect()
    rig.listener.stop()
    assert rig.ask("/livez").status == 200
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    rig.turn()
    assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_stop_leaves_clients_to_another_process_that_has_the_socket(rig):
    idle = rig.connect()
    for listener in rig.listeners:
        listener.hand_on()
    rig.listener.stop()
    waiting = rig.connect()
    waiting.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    rig.turn()
    rig.turn(1)
    assert rig.closed(idle)
    assert not rig.closed(waiting)  # it is in the queue
    taken, _ = rig.listeners[0].sockets[0].accept()
    taken.close()


def test_start_waits_where_another_process_has_the_socket():
    loop, _ = skipping_loop()
    [listener] = open_listeners(Config("", admin="127.0.0.1:0").admin_binds(), 1)
    listener.hand_on()
    admin = AdminListener(loop, [listener], Config(""), routes(Server()))
    admin.start()
    with socket.socket() as client:
        assert client.connect_ex(listener.address)
    listener.take_over()
    admin.start()
    with socket.create_connection(listener.address):
        pass
    admin.close()
    listener.close()
    loop.close()


def test_sockets_are_those_of_the_listener_and_its_clients(rig):
    rig.connect()
    rig.connect()
    assert len(list(rig.listener.sockets())) == 3
