"""--proxy-protocol, from the accept to the first request: the header whole, in pieces, wrong, late or missing."""

import logging

import pytest

import pounce
from pounce.connections.context import DRAIN_IDLE, PROXY_HEADER_TIMEOUT, RETIRE_IDLE
from pounce.connections.proxy_opening import LOG_INTERVAL
from pounce.protocols.proxy import MAX_V2
from pounce.worker.worker import WorkerState
from tests.support import proxy_headers as encode
from tests.support.answers import content_of, read_answers, status_of
from tests.support.applications import body, hello, start
from tests.support.harness import Rig
from tests.support.requests import CLOSE, GET
from tests.support.websockets import handshake

# The rig's clients are at this address.
OPTIONS = {"proxy_protocol": True, "proxy_protocol_allow_ips": "192.0.2.1", "timeout_keep_alive": 60}
PROXY_PEER, RIG_SERVER = ("192.0.2.1", 4711), ("192.0.2.2", 80)
CLIENT, SERVER = ("203.0.113.9", 51234), ("198.51.100.1", 443)
V1, V2 = encode.v1(CLIENT, SERVER), encode.v2(CLIENT, SERVER, [(encode.UNIQUE_ID, b"\x001")])
HEADERS = pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])


class Application:
    """Notes its scopes."""

    def __init__(self):
        self.scopes = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        if scope["path"] == "/slow":
            await pounce.sleep(1)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            return
        await send(start())
        await send(body(b"hello"))


def proxied(app=hello, **options):
    return Rig(app, **OPTIONS | options)


def served(scope):
    return scope["client"], scope["server"], scope["scheme"]


# The facts


@HEADERS
def test_the_application_sees_the_client_of_the_header_for_every_request_of_the_connection(header):
    app = Application()
    client = proxied(app).connect()
    assert status_of(client.ask(header + GET)) == 200
    assert status_of(client.ask(GET)) == 200
    assert [served(scope) for scope in app.scopes] == [(CLIENT, SERVER, "http")] * 2
    proxy = app.scopes[0]["extensions"]["proxy"]
    assert (proxy["client"], proxy["server"], proxy["peer"], proxy["command"]) == (CLIENT, SERVER, PROXY_PEER, "PROXY")
    assert proxy.get("unique_id") == (b"\x001" if header is V2 else None)


@HEADERS
def test_a_websocket_has_the_client_of_the_header(header):
    app = Application()
    client = proxied(app).connect()
    assert status_of(client.ask(header + handshake())) == 101
    (scope,) = app.scopes
    assert served(scope) == (CLIENT, SERVER, "ws")
    assert scope["extensions"]["proxy"]["client"] == CLIENT
    assert "websocket.http.response" in scope["extensions"]


@pytest.mark.parametrize(
    ("header", "command"),
    [
        (b"PROXY UNKNOWN\r\n", "PROXY"),
        (encode.raw(encode.PROXY, encode.UNSPEC), "PROXY"),
        (encode.raw(encode.LOCAL, encode.UNSPEC), "LOCAL"),
        (encode.raw(encode.LOCAL, encode.TCP4, encode.inet(CLIENT, SERVER)), "LOCAL"),
    ],
    ids=["UNKNOWN", "UNSPEC", "LOCAL", "LOCAL with addresses"],
)
def test_a_header_without_addresses_keeps_those_of_the_socket(header, command):
    app = Application()
    client = proxied(app).connect()
    assert status_of(client.ask(header + GET)) == 200
    (scope,) = app.scopes
    assert served(scope) == (PROXY_PEER, RIG_SERVER, "http")
    proxy = scope["extensions"]["proxy"]
    assert (proxy["command"], proxy["client"], proxy["server"], proxy["peer"]) == (command, None, None, PROXY_PEER)


def test_a_client_at_the_proxys_unix_socket_has_no_address():
    app = Application()
    header = encode.raw(encode.PROXY, encode.UNIX, encode.unix(b"/tmp/c", b"/run/proxy"))
    assert status_of(proxied(app).connect().ask(header + GET)) == 200
    assert served(app.scopes[0]) == (None, ("/run/proxy", None), "http")
    assert app.scopes[0]["extensions"]["proxy"]["client"] == ("/tmp/c", None)


def test_tls_that_the_proxy_has_ended_is_https_and_wss():
    app = Application()
    rig = proxied(app)
    header = encode.v2(CLIENT, SERVER, [encode.ssl()])
    assert status_of(rig.connect().ask(header + GET)) == 200
    assert status_of(rig.connect().ask(header + handshake())) == 101
    assert [scope["scheme"] for scope in app.scopes] == ["https", "wss"]
    assert app.scopes[0]["extensions"]["proxy"]["tls"]["version"] == "TLSv1.3"


FORGED = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.99\r\nX-Forwarded-Proto: https\r\n\r\n")
TRUSTED = ("192.0.2.99", 0), "https"
UNKNOWN, UNSPEC, LOCAL = (
    b"PROXY UNKNOWN\r\n",
    encode.raw(encode.PROXY, encode.UNSPEC),
    encode.raw(encode.LOCAL, encode.UNSPEC),
)


@pytest.mark.parametrize(
    ("header", "allowed", "seen"),
    [
        (V1, "192.0.2.1", (CLIENT, "http")),
        (V2, "192.0.2.1", (CLIENT, "http")),
        (V1, "203.0.113.0/24", TRUSTED),
        (V2, "203.0.113.9", TRUSTED),
        (V2, "*", TRUSTED),
        (LOCAL, "192.0.2.1", TRUSTED),
        (LOCAL, "203.0.113.9", (PROXY_PEER, "http")),
        (UNKNOWN, "192.0.2.1", (PROXY_PEER, "http")),
        (UNKNOWN, "192.0.2.1,unix", TRUSTED),
        (UNSPEC, "192.0.2.1", (PROXY_PEER, "http")),
        (UNSPEC, "*", TRUSTED),
    ],
)
def test_fields_are_taken_from_a_client_that_is_trusted_whatever_proxy_has_passed_them_on(header, allowed, seen):
    app = Application()
    client = proxied(app, forwarded_allow_ips=allowed).connect()
    assert status_of(client.ask(header + FORGED)) == 200
    assert (app.scopes[0]["client"], app.scopes[0]["scheme"]) == seen
    assert app.scopes[0]["extensions"]["proxy"]["peer"] == PROXY_PEER
    assert status_of(client.ask(GET)) == 200
    assert app.scopes[1]["client"] == (CLIENT if header in (V1, V2) else PROXY_PEER)


@pytest.mark.parametrize(("header", "taken"), [(LOCAL, True), (V2, False), (UNKNOWN, False), (UNSPEC, False)])
def test_request_id_of_a_client_is_not_taken_for_one_of_the_proxy_that_passes_it_on(header, taken):
    app = Application()
    client = proxied(app, forwarded_allow_ips="192.0.2.1", request_id="x-request-id").connect()
    client.ask(header + GET.replace(b"\r\n\r\n", b"\r\nX-Request-Id: forged\r\n\r\n"))
    assert (app.scopes[0]["extensions"]["request_id"]["id"] == "forged") is taken
    assert app.scopes[0]["extensions"]["proxy"]["peer"] == PROXY_PEER


def test_what_an_application_does_to_the_facts_no_other_request_sees():
    app = Application()
    client = proxied(app).connect()
    client.ask(encode.v2(CLIENT, SERVER, [encode.ssl()]) + GET)
    proxy = app.scopes[0]["extensions"]["proxy"]
    proxy["tls"]["version"] = proxy["client"] = None
    client.ask(GET)
    proxy = app.scopes[1]["extensions"]["proxy"]
    assert (proxy["client"], proxy["tls"]["version"]) == (CLIENT, "TLSv1.3")


def test_without_the_option_there_are_no_facts_and_a_header_is_an_invalid_request():
    app = Application()
    rig = Rig(app)
    assert status_of(rig.connect().ask(GET)) == 200
    assert "proxy" not in app.scopes[0]["extensions"]
    for header in (V1, V2):
        assert status_of(rig.connect().ask(header + CLOSE)) == 400
    assert len(app.scopes) == 1


def test_the_access_log_names_the_client_of_the_header(caplog):
    caplog.set_level(logging.INFO)
    proxied(access_log=True).connect().ask(V1 + GET)
    assert '203.0.113.9:51234 - "GET / HTTP/1.1" 200' in caplog.text


def test_debug_level_tells_of_the_opening_and_of_the_connection_by_their_clients(caplog):
    caplog.set_level(logging.DEBUG, "pounce.error")
    client = proxied().connect()
    client.ask(V1 + CLOSE)
    lines = [line for line in caplog.messages if "connection made" in line or "connection lost" in line]
    assert lines == [
        "192.0.2.1:4711 - PROXY connection made",
        "192.0.2.1:4711 - PROXY connection lost",
        "203.0.113.9:51234 - HTTP connection made",
        "203.0.113.9:51234 - HTTP connection lost",
    ]


# How the header comes


@HEADERS
def test_a_header_and_a_request_that_come_byte_by_byte_are_read(header):
    app = Application()
    rig = proxied(app)
    client = rig.connect()
    for byte in header + GET[:-1]:
        client.send(bytes([byte]))
        assert client.read() == b""
    assert status_of(client.ask(GET[-1:])) == 200
    assert served(app.scopes[0]) == (CLIENT, SERVER, "http")


@HEADERS
def test_a_header_may_be_cut_at_every_byte_and_no_byte_behind_it_is_lost(header):
    app = Application()
    rig = proxied(app)
    whole = header + GET + GET
    for cut in range(1, len(whole)):
        client = rig.connect()
        client.send(whole[:cut])
        client.send(whole[cut:])
        assert [answer.content for answer in read_answers(client.read())] == [b"hello", b"hello"]
        client.sock.close()
    assert {served(scope) for scope in app.scopes} == {(CLIENT, SERVER, "http")}


def test_a_header_as_large_as_may_be_is_read_in_pieces_with_a_request_behind_it():
    rig = proxied(Application())
    header = encode.v2(CLIENT, SERVER, [(encode.NOOP, bytes(MAX_V2 - 16 - 12 - 3))])
    client = rig.connect()
    for start_ in range(0, len(header), 1000):
        client.send(header[start_ : start_ + 1000])
    assert status_of(client.ask(GET)) == 200


def test_a_second_header_is_an_invalid_request():
    client = proxied().connect()
    assert status_of(client.ask(V1 + V1 + GET)) == 400


# What is closed


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (GET, "it does not begin with one"),
        (b"\x16\x03\x01", "it does not begin with one"),
        (b"\r\n" + V1 + GET, "it does not begin with one"),
        (b"PROXY TCP4 203.0.113.9 198.51.100.1 99999 443\r\n" + GET, "'99999' is no port"),
        (b"PROXY TCP4 \x1b[2J 198.51.100.1 1 443\r\n" + GET, r"'\x1b[2J' is no address of its family"),
        (encode.raw(encode.PROXY, encode.UDP4, encode.inet(CLIENT, SERVER)) + GET, "it is for datagrams"),
        (encode.raw(encode.PROXY, encode.TCP4, length=65535) + bytes(70000), "more than 16384"),
    ],
    ids=["HTTP", "TLS", "empty line", "port", "control characters", "datagrams", "64 KiB"],
)
def test_a_connection_without_a_valid_header_is_closed_unanswered_with_one_line_that_says_why(data, why, caplog):
    app = Application()
    rig = proxied(app)
    client = rig.connect()
    client.send(data[:60000])
    assert client.read() == b""
    assert client.closed
    assert not app.scopes
    assert not rig.worker.connections
    (line,) = caplog.messages
    assert line.startswith("Closed a connection from 192.0.2.1:4711: no valid PROXY protocol header, ")
    assert why in line


@pytest.mark.parametrize("allowed", ["192.0.2.2", "10.0.0.0/8,unix", "::1"])
def test_proxy_protocol_allow_ips_closes_a_connection_from_elsewhere_unread(allowed, caplog):
    app = Application()
    rig = proxied(app, proxy_protocol_allow_ips=allowed)
    client = rig.connect()
    with pytest.raises(OSError, match="pipe"):
        client.send(V1 + GET)
    assert client.closed
    assert not app.scopes
    assert not rig.worker.connections
    assert caplog.messages == [
        f"Closed a connection from 192.0.2.1:4711: it is not in --proxy-protocol-allow-ips ({allowed})."
    ]


@pytest.mark.parametrize("allowed", ["192.0.2.1", "192.0.2.0/24", "10.1.1.1, 192.0.2.1", "*"])
def test_proxy_protocol_allow_ips_lets_its_addresses_in(allowed):
    assert status_of(proxied(proxy_protocol_allow_ips=allowed).connect().ask(V1 + GET)) == 200


def test_thousands_of_connections_that_are_closed_log_a_line_every_ten_seconds_and_how_many_more(caplog):
    rig = proxied()
    for _ in range(2):
        for _ in range(200):
            client = rig.connect()
            client.send(b"x")
            client.sock.close()
        rig.wait(LOG_INTERVAL + 0.1)
    assert len(caplog.messages) == 2
    assert caplog.messages[1].endswith(" (199 more such lines were left out.)")


def test_a_client_that_leaves_without_a_byte_is_no_warning(caplog):
    rig = proxied()
    client = rig.connect()
    client.sock.close()
    rig.turn()
    assert not rig.worker.connections
    assert not caplog.messages


@HEADERS
def test_a_client_that_leaves_in_the_middle_of_the_header_is_closed_with_a_line(header, caplog):
    rig = proxied()
    client = rig.connect()
    client.send(header[:-1])
    client.sock.close()
    rig.turn()
    assert not rig.worker.connections
    assert "it has ended within one" in caplog.text


@HEADERS
def test_a_client_that_leaves_behind_the_header_is_an_end_like_any_other(header, caplog):
    rig = proxied()
    client = rig.connect()
    client.send(header)
    client.sock.close()
    rig.turn()
    assert not rig.worker.connections
    assert not caplog.messages


def test_a_client_that_sends_no_more_behind_its_request_is_answered():
    client = proxied(Application()).connect()
    client.sock.sendall(V1 + GET)
    client.sock.shutdown(1)
    assert status_of(client.read()) == 200


# Deadlines


@HEADERS
def test_the_deadline_of_the_header_is_absolute(header, caplog):
    rig = proxied()
    client = rig.connect()
    for byte in header[:9]:
        client.send(bytes([byte]))
        rig.wait(1)
    assert not client.closed
    rig.wait(1.1)
    assert client.closed
    assert client.read() == b""
    assert "it was not complete within 10 seconds" in caplog.text


def test_a_client_that_sends_nothing_is_closed_after_ten_seconds_without_a_line(caplog):
    rig = proxied(timeout_request_head=None)
    client = rig.connect()
    rig.wait(PROXY_HEADER_TIMEOUT - 0.1)
    assert not client.closed
    rig.wait(0.2)
    assert client.closed
    assert not caplog.messages


@HEADERS
def test_timeout_request_head_begins_with_the_end_of_the_header_and_answers_408(header):
    rig = proxied(timeout_request_head=10)
    client = rig.connect()
    rig.wait(9)
    client.send(header + b"GET")
    rig.wait(9)
    assert not client.closed
    rig.wait(1.1)
    assert status_of(client.read()) == 408


def test_a_connection_with_a_header_leaves_no_deadline_of_the_header_behind():
    rig = proxied()
    client = rig.connect()
    client.ask(V1 + GET)
    rig.wait(PROXY_HEADER_TIMEOUT + 1)
    assert status_of(client.ask(GET)) == 200


# The end of a worker


@HEADERS
@pytest.mark.parametrize("end", ["stop", "retire"])
def test_a_header_that_has_come_in_part_is_awaited_while_the_worker_drains_and_the_request_is_answered(header, end):
    rig = proxied(Application())
    client = rig.connect()
    client.send(header[:7])
    getattr(rig.worker, end)()
    rig.wait(6)
    assert rig.worker.state is WorkerState.DRAINING
    answer = client.ask(header[7:] + GET)
    assert status_of(answer) == 200
    assert b"connection: close" in answer
    rig.wait(1)
    assert rig.worker.state is WorkerState.ENDED


@pytest.mark.parametrize(("end", "idle"), [("stop", DRAIN_IDLE), ("retire", RETIRE_IDLE)])
def test_a_connection_without_a_byte_of_the_header_is_kept_while_the_worker_drains_as_an_idle_one(end, idle, caplog):
    rig = proxied()
    client = rig.connect()
    getattr(rig.worker, end)()
    rig.wait(idle - 0.2)  # DRAINING begins after the last accept
    assert not client.closed
    rig.wait(0.5)
    assert client.closed
    assert rig.worker.state is WorkerState.ENDED
    assert not caplog.messages


def test_a_worker_that_has_retired_and_then_stops_keeps_an_empty_opening_no_longer_than_stop_does():
    rig = proxied()
    client = rig.connect()
    rig.worker.retire()
    rig.wait(1)
    assert not client.closed
    rig.worker.stop()
    rig.wait(DRAIN_IDLE + 0.3)
    assert client.closed
    assert rig.worker.state is WorkerState.ENDED


@HEADERS
def test_a_header_that_comes_in_the_short_time_of_draining_has_the_long_one_of_a_header(header):
    rig = proxied(Application())
    client = rig.connect()
    rig.worker.stop()
    rig.wait(0.3)
    client.send(header[:3])
    rig.wait(3)
    assert not client.closed
    assert status_of(client.ask(header[3:] + GET)) == 200
    rig.wait(1)
    assert rig.worker.state is WorkerState.ENDED


@HEADERS
def test_a_connection_whose_header_came_while_draining_waits_for_a_request_as_an_idle_one(header):
    rig = proxied(Application())
    client = rig.connect()
    client.send(header[:3])
    rig.worker.stop()
    client.send(header[3:])
    rig.wait(DRAIN_IDLE + 0.2)
    assert client.closed
    assert rig.worker.state is WorkerState.ENDED


@HEADERS
def test_a_header_and_a_request_in_the_kernel_are_answered_by_a_worker_that_stops(header):
    rig = proxied(Application())
    client = rig.connect()
    client.sock.sendall(header + GET)
    rig.worker.stop()
    assert status_of(client.read()) == 200


def test_the_end_of_the_graceful_timeout_closes_what_is_in_its_header():
    rig = proxied()
    clients = [rig.connect() for _ in range(3)]
    clients[0].send(V1[:5])
    clients[1].send(V2[:5])
    rig.worker.stop()
    rig.wait(0.2)
    rig.worker.cancel()
    rig.turn()
    assert all(client.closed for client in clients)
    rig.wait(2)
    assert rig.worker.state is WorkerState.ENDED


def test_an_abort_ends_what_is_in_its_header():
    rig = proxied()
    client = rig.connect()
    client.send(V1[:5])
    rig.worker.abort()
    rig.wait(1)
    assert rig.worker.state is WorkerState.ENDED
    assert not rig.worker.connections


# The heir


class Two:
    """A worker, its heir, and clients of the first."""

    def __init__(self):
        self.old, self.new = Rig(hello_named(b"old"), **OPTIONS), Rig(hello_named(b"new"), **OPTIONS)

    def connect(self):
        client = self.old.connect()
        client.rig = self
        return client

    def turn(self, times=8):
        self.old.turn(times)
        self.new.turn(times)

    def retire(self):
        self.old.worker.retire(self.new.worker)
        self.turn()


def hello_named(name):
    async def app(scope, receive, send):
        await send(start())
        facts = scope["extensions"]["proxy"]
        await send(body(b"%b %b %r" % (name, scope["client"][0].encode(), facts.get("unique_id"))))

    return app


@HEADERS
def test_a_connection_that_was_handed_over_keeps_its_client_and_facts(header):
    two = Two()
    client = two.connect()
    unique = b"b'\\x001'" if header is V2 else b"None"
    assert content_of(client.ask(header + GET)) == b"old 203.0.113.9 " + unique
    two.retire()
    assert content_of(client.ask(GET)) == b"new 203.0.113.9 " + unique
    assert two.old.worker.state is WorkerState.ENDED


@HEADERS
@pytest.mark.parametrize("request_", [b"", GET[:5]], ids=["no request", "a part of a request"])
def test_a_header_that_is_complete_after_its_worker_has_retired_leads_to_the_heir(header, request_):
    two = Two()
    client = two.connect()
    client.send(header[:9])
    two.retire()
    assert two.old.worker.state is WorkerState.DRAINING
    client.send(header[9:] + request_)
    assert two.old.worker.state is WorkerState.ENDED
    assert content_of(client.ask(GET[len(request_) :])).startswith(b"new 203.0.113.9")


@HEADERS
def test_a_request_behind_a_header_is_answered_by_the_worker_that_has_read_it_and_the_next_by_the_heir(header):
    two = Two()
    client = two.connect()
    client.send(header[:9])
    two.retire()
    answer = client.ask(header[9:] + GET)
    assert content_of(answer).startswith(b"old")
    assert b"connection: close" not in answer
    assert content_of(client.ask(GET)).startswith(b"new")


# Limits


def test_limit_concurrency_counts_connections_in_their_header():
    rig = proxied(Application(), limit_concurrency=2)
    waiting = [rig.connect() for _ in range(2)]
    client = rig.connect()
    assert status_of(client.ask(V1 + GET)) == 503
    for other in waiting:
        other.sock.close()
    rig.turn()
    assert status_of(rig.connect().ask(V1 + GET)) == 200
