"""What the application, the log and the limits see of a request that has come through proxies: a table of raw fields,
many of them forged, then what does not fit into one."""

import logging
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pounce.asgi.forwarded import Forwarding
from pounce.protocols.fields import is_host
from pounce.protocols.forwarding import NAMES
from tests.support.applications import hello
from tests.support.harness import Rig
from tests.support.websockets import Recorder as WebSocketRecorder
from tests.support.websockets import handshake

PROXY = ("127.0.0.1", 4711)
STRANGER = ("203.0.113.66", 4711)


class Case(NamedTuple):
    what: str
    fields: bytes
    """Lines, each with a newline."""
    client: Any
    """That of the scope. A text is a host whose port is not known."""
    scheme: str
    host: bytes
    root_path: str
    peer: Any
    options: dict[str, Any]


CASES: list[Case] = []


def case(what, fields, client=PROXY, scheme="http", host=b"app", root="", peer=PROXY, **options):
    lines = (fields,) if isinstance(fields, bytes) else fields
    client = (client, 0) if isinstance(client, str) else client
    CASES.append(Case(what, b"".join(line + b"\r\n" for line in lines), client, scheme, host, root, peer, options))


FOR, PROTO = b"X-Forwarded-For: ", b"X-Forwarded-Proto: "
TWO = {"forwarded_allow_ips": "127.0.0.1, 10.0.0.0/8, 2001:db8:1::/48"}
RFC = {"forwarded_header": "forwarded"}
OWN = {"forwarded_host": True, "forwarded_prefix": True}

# X-Forwarded-For: one proxy
case("no field", b"X-Other: 1")
case("an address", FOR + b"192.0.2.7", "192.0.2.7")
case("an address and a port", FOR + b"192.0.2.7:81", ("192.0.2.7", 81))
case("IPv6", FOR + b"2001:db8::7", "2001:db8::7")
case("IPv6 in brackets", FOR + b"[2001:db8::7]", "2001:db8::7")
case("IPv6 in brackets and a port", FOR + b"[2001:db8::7]:81", ("2001:db8::7", 81))
case("IPv6 with a zone", FOR + b"fe80::7%eth0", "fe80::7%eth0")
case("an empty field changes nothing", FOR)
case("a comma at the end hides the client", FOR + b"192.0.2.7,")
case("nothing but commas", FOR + b",,,")
case("white space around an address", FOR + b" \t192.0.2.7 \t", "192.0.2.7")
case("the name in other letters", b"x-FORWARDED-for: 192.0.2.7", "192.0.2.7")
case("a name that nobody knows", FOR + b"unknown", "unknown")
case("a port that is no number", FOR + b"192.0.2.7:http", "192.0.2.7:http")
case("a port that is none", FOR + b"192.0.2.7:65536", "192.0.2.7")
case("a negative port", FOR + b"192.0.2.7:-1", "192.0.2.7")
case("a bracket that is not closed", FOR + b"[2001:db8::7", "[2001:db8::7")
case("text after the bracket", FOR + b"[2001:db8::7]x", "[2001:db8::7]x")
case("bytes that are not ASCII", FOR + b"\xe9\xff", "\xe9\xff")
case("an address that IPv6 has mapped", FOR + b"::ffff:192.0.2.7", "::ffff:192.0.2.7")
# forged: what a client has written stands to the left of what the proxy has added
case("forged entries", FOR + b"10.0.0.1, 127.0.0.1, 192.0.2.7", "192.0.2.7")
case("a forged line before the proxy's", (FOR + b"127.0.0.1", FOR + b"192.0.2.7"), "192.0.2.7")
case("a forged line after the proxy's is the proxy's own fault", (FOR + b"192.0.2.7", FOR + b"6.6.6.6"), "6.6.6.6")
case("a forged comma", (FOR + b"6.6.6.6,", FOR + b"192.0.2.7"), "192.0.2.7")
case("a proxy that only says of itself", FOR + b"127.0.0.1", "127.0.0.1")
case("a forged address that differs in form", FOR + b"0127.0.0.1, 192.0.2.7", "192.0.2.7")
# chains
case("two proxies", FOR + b"192.0.2.7, 10.0.0.3", "192.0.2.7", **TWO)
case("two proxies, two lines", (FOR + b"192.0.2.7", FOR + b"10.0.0.3"), "192.0.2.7", **TWO)
case("two proxies with ports", FOR + b"192.0.2.7:1, 10.0.0.3:2", ("192.0.2.7", 1), **TWO)
case("three proxies, one of IPv6", FOR + b"192.0.2.7, [2001:db8:1::9]:3, 10.0.0.3", "192.0.2.7", **TWO)
case("a mapped address in a network", FOR + b"192.0.2.7, ::ffff:10.0.0.3", "192.0.2.7", **TWO)
case("a chain of which all are trusted", FOR + b"10.0.0.1, 10.0.0.2", "10.0.0.1", **TWO)
case("a chain that an empty entry ends", FOR + b"192.0.2.7, , 10.0.0.3", **TWO)
case("a forged chain", FOR + b"6.6.6.6, 10.0.0.3, 192.0.2.7, 10.0.0.3", "192.0.2.7", **TWO)
case("everybody: the leftmost", FOR + b"6.6.6.6, 192.0.2.7", "6.6.6.6", forwarded_allow_ips="*")
case("everybody, and an empty leftmost", FOR + b", 192.0.2.7", forwarded_allow_ips="*")
# who is trusted
case("a stranger", (FOR + b"192.0.2.7", PROTO + b"https"), STRANGER, peer=STRANGER, **OWN)
case("a stranger among everybody", FOR + b"192.0.2.7", "192.0.2.7", peer=STRANGER, forwarded_allow_ips="*")
case("a stranger by a network", FOR + b"192.0.2.7", "192.0.2.7", peer=STRANGER, forwarded_allow_ips="203.0.113.0/24")
case("a mapped peer", FOR + b"192.0.2.7", "192.0.2.7", peer=("::ffff:127.0.0.1", 1))
case("a Unix socket that is not trusted", FOR + b"192.0.2.7", None, peer=None)
case("a Unix socket that is trusted", FOR + b"192.0.2.7", "192.0.2.7", peer=None, forwarded_allow_ips="unix")
case("two Unix sockets", FOR + b"192.0.2.7, unix:", "192.0.2.7", peer=None, forwarded_allow_ips="unix")
case("nobody", FOR + b"192.0.2.7", forwarded_allow_ips="")
case("no trust at all", (FOR + b"192.0.2.7", PROTO + b"https"), proxy_headers=False)
case("no trust in fields", (FOR + b"192.0.2.7", b"Forwarded: for=1.2.3.4"), forwarded_header="off")
# X-Forwarded-Proto
case("https", PROTO + b"https", scheme="https")
case("http", PROTO + b"http", scheme="http")
case("wss of a request", PROTO + b"wss", scheme="wss")
case("the last of two schemes", (PROTO + b"https", PROTO + b"http"), scheme="http")
case("the last of two schemes, which is none", (PROTO + b"https", PROTO + b"gopher"))
case("a list of schemes", PROTO + b"https, http")
case("a scheme in capitals", PROTO + b"HTTPS")
case("a scheme that is a script", PROTO + b"javascript")
# X-Forwarded-Host and X-Forwarded-Prefix
HOST, PREFIX = b"X-Forwarded-Host: ", b"X-Forwarded-Prefix: "
case("a host that is not asked for", HOST + b"example.org")
case("a host", HOST + b"example.org", host=b"example.org", **OWN)
case("a host and a port", HOST + b"example.org:8443", host=b"example.org:8443", **OWN)
case("a host of IPv6", HOST + b"[2001:db8::1]:8443", host=b"[2001:db8::1]:8443", **OWN)
case("the last of two hosts", (HOST + b"forged.example", HOST + b"example.org"), host=b"example.org", **OWN)
case("the last host of a list", HOST + b"forged.example, example.org", host=b"example.org", **OWN)
case("a host that is none", HOST + b"example.org/x", **OWN)
case("a host with a name and a password", HOST + b"a:b@example.org", **OWN)
case("an empty host", HOST, **OWN)
case("a prefix that is not asked for", PREFIX + b"/shop")
case("a prefix", PREFIX + b"/shop", root="/shop", **OWN)
case("a prefix with a slash at its end", PREFIX + b"/shop/de/", root="/shop/de", **OWN)
case("a prefix that is escaped", PREFIX + b"/caf%C3%A9", root="/café", **OWN)
case("a prefix before a root path", PREFIX + b"/shop", root="/shop", root_path="/own", **OWN)
case("no prefix, and a root path", b"X-Other: 1", root="/own", root_path="/own", **OWN)
case("a prefix that is the root", PREFIX + b"/", root="", root_path="/own", **OWN)
for forged in (b"//evil.example", b"/a//b", b"/%2Fevil.example", b"https://evil.example", b"shop", b"/a?b", b"/a b",
               b"/../admin", b"/a/%2e%2e/b", b"/\\evil.example", b"/%5Cevil.example", b"/a, /b", b"/a%0D%0Ab",
               b"/\xc3\xa9", b"\"/a\"", b""):  # fmt: skip
    case(f"a prefix that is no path: {forged!r}", PREFIX + forged, **OWN)
# one family
case(
    "Forwarded does not count", (b"Forwarded: for=192.0.2.7;proto=https;host=b", FOR + b"192.0.2.8"), "192.0.2.8", **OWN
)
case("X-Forwarded does not count", (FOR + b"192.0.2.8", PROTO + b"https", HOST + b"example.org",
                                    b"Forwarded: for=192.0.2.7"), "192.0.2.7", **RFC, forwarded_host=True)  # fmt: skip
case("neither is taken for the other", (FOR + b"192.0.2.8", PROTO + b"https"), **RFC)
case("Forwarded", b"Forwarded: for=192.0.2.7;proto=https;by=203.0.113.43", "192.0.2.7", "https", **RFC)
case("Forwarded with a host", b"Forwarded: for=192.0.2.7;host=example.org", "192.0.2.7", host=b"example.org", **RFC,
     forwarded_host=True)  # fmt: skip
case("Forwarded in two lines", (b"Forwarded: for=192.0.2.7;proto=https", b"Forwarded: for=10.0.0.3;proto=http"),
     "192.0.2.7", "https", **RFC, **TWO)  # fmt: skip
case("Forwarded of a stranger", b"Forwarded: for=192.0.2.7;proto=https", STRANGER, peer=STRANGER, **RFC)
case(
    "a forged string that is not closed", b'Forwarded: for="6.6.6.6, for="[2001:db8::7]:81"', ("2001:db8::7", 81), **RFC
)
# underscore twins
for twin in (b"X_Forwarded_For", b"X-Forwarded_For", b"x_forwarded-for"):
    case(f"a twin: {twin!r}", twin + b": 6.6.6.6")
    case(f"a twin beside the field: {twin!r}", (FOR + b"192.0.2.7", twin + b": 6.6.6.6"), "192.0.2.7")
case("twins of all", (b"X_Forwarded_Proto: https", b"X_Forwarded_Host: b", b"X_Forwarded_Prefix: /b"), **OWN)
case("twins of a stranger", (b"X_Forwarded_For: 6.6.6.6", b"X_Forwarded_Host: b"), STRANGER, peer=STRANGER)


class Scopes(list[dict[str, Any]]):
    """An application, as the scopes of its requests."""

    async def __call__(self, scope, receive, send):
        self.append(scope)
        await hello(scope, receive, send)


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_the_scope_of_a_request_that_has_come_through_a_proxy(case):
    app = Scopes()
    client = Rig(app, **case.options).connect(case.peer)
    raw = b"GET /x%20y?z HTTP/1.1\r\nHost: app\r\n" + case.fields + b"\r\n"
    for _ in range(2):  # the second is found in the cache of heads
        assert client.ask(raw).startswith(b"HTTP/1.1 200")
    assert app[0] == app[1]
    scope = app[0]
    fields = [(name, value) for name, value in scope["headers"] if name == b"host"]
    assert (scope["client"], scope["scheme"], fields) == (case.client, case.scheme, [(b"host", case.host)])
    assert (scope["root_path"], scope["path"]) == (case.root_path, case.root_path + "/x y")
    assert scope["raw_path"].endswith(b"/x%20y")
    assert scope["server"] == ("192.0.2.2", 80)
    assert not [name for name, _ in scope["headers"] if b"_" in name]
    received = [line.split(b":")[0].lower() for line in case.fields.splitlines()]
    assert [name for name, _ in scope["headers"] if name != b"host"] == [name for name in received if b"_" not in name]


def test_the_table_has_at_least_60_cases():
    assert len({case.what for case in CASES}) == len(CASES) >= 60


def test_requests_of_one_connection_have_a_client_each():
    app = Scopes()
    client = Rig(app).connect(PROXY)
    for number in (1, 2, None, 1):
        field = f"X-Forwarded-For: 192.0.2.{number}\r\n" if number else ""
        client.ask(f"GET / HTTP/1.1\r\nHost: app\r\n{field}\r\n".encode())
    assert [scope["client"][0] for scope in app] == ["192.0.2.1", "192.0.2.2", "127.0.0.1", "192.0.2.1"]


def test_a_head_that_is_in_the_cache_is_trusted_only_where_its_own_peer_is():
    app = Scopes()
    rig = Rig(app)
    raw = b"GET / HTTP/1.1\r\nHost: app\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n"
    for peer in (PROXY, STRANGER, PROXY):
        rig.connect(peer).ask(raw)
    assert [(scope["client"][0], scope["scheme"]) for scope in app] == [
        ("192.0.2.7", "https"), ("203.0.113.66", "http"), ("192.0.2.7", "https"),
    ]  # fmt: skip


pieces = st.one_of(
    st.sampled_from([b"192.0.2.7", b"10.0.0.1", b"[2001:db8::7]:81", b"fe80::1%eth0", b"for=", b"proto=https", b"host=",
                     b"unix:", b'"', b"\\", b";", b",", b", ", b":", b"/", b"//", b"/shop", b"%2F",
                     b"example.org", b"https"]),
    st.binary(max_size=3).map(lambda data: bytes(byte for byte in data if byte >= 32 and byte != 127)),
)  # fmt: skip
lines = st.tuples(
    st.sampled_from([*sorted(NAMES), b"X-Forwarded-For", b"Forwarded", b"X-Forwarded-Host"]),
    st.lists(pieces, max_size=8).map(b"".join),
)


@settings(deadline=None)
@given(
    st.lists(lines, max_size=5),
    st.sampled_from(["*", "127.0.0.1", "127.0.0.1,10.0.0.0/8,unix", ""]),
    st.sampled_from(["x-forwarded", "forwarded", "off"]),
    st.sampled_from([PROXY, STRANGER, None]),
    st.booleans(),
)
def test_whatever_the_fields_say_the_scope_is_a_legal_one(fields, trusted, family, peer, websocket):
    app = Scopes()
    wanted = {"forwarded_host": family != "off", "forwarded_prefix": family == "x-forwarded"}
    rig = Rig(app, forwarded_allow_ips=trusted, forwarded_header=family, **wanted)
    head = handshake() if websocket else b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
    rig.connect(peer).ask(head[:-2] + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n")
    Rig.close_all()
    (scope,) = app
    if scope["client"] is not None:
        host, port = scope["client"]
        assert host
        assert 0 <= port <= 65535
    assert scope["scheme"] in (("ws", "wss") if websocket else ("http", "https", "ws", "wss"))
    (host,) = [value for name, value in scope["headers"] if name == b"host"]
    assert host
    assert is_host(host)
    assert scope["root_path"] == "" or (scope["root_path"][0] == "/" and "//" not in scope["path"])
    assert not [name for name, _ in scope["headers"] if b"_" in name]
    if peer == STRANGER and trusted != "*":
        assert (scope["client"], scope["root_path"], host) == (
            STRANGER,
            "",
            head[head.index(b"Host: ") + 6 :].split(b"\r")[0],
        )


def test_what_fields_say_is_in_a_cache_of_bounded_size(monkeypatch):
    monkeypatch.setattr(Forwarding, "MAX_KNOWN", 3)
    app = Scopes()
    rig = Rig(app)
    client, known = rig.connect(PROXY), rig.worker.service._forwarding._known
    sizes = []
    for number in (1, 1, 2, 3, 4, 1):
        client.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\n" % number)
        sizes.append(len(known))
    assert sizes == [1, 1, 2, 3, 1, 2]
    assert [scope["client"][0][-1] for scope in app] == ["1", "1", "2", "3", "4", "1"]
    client.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9%b\r\n\r\n" % (b" " * 250 + b":81"))
    client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Forwarded-For: 1\r\n" * 9 + b"\r\n")
    assert len(known) == 2


def test_twins_reach_the_application_where_proxy_headers_is_off():
    app = Scopes()
    Rig(app, proxy_headers=False).connect(PROXY).ask(b"GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1.2.3.4\r\n\r\n")
    assert (b"x_forwarded_for", b"1.2.3.4") in app[0]["headers"]


def test_forwarded_host_is_added_to_a_request_of_http_1_0_without_one():
    app = Scopes()
    Rig(app, forwarded_host=True).connect(PROXY).ask(b"GET / HTTP/1.0\r\nX-Forwarded-Host: example.org\r\n\r\n")
    assert app[0]["headers"] == [(b"host", b"example.org"), (b"x-forwarded-host", b"example.org")]


def test_an_application_that_changes_its_fields_changes_no_other_requests():
    app = Scopes()
    client = Rig(app, forwarded_host=True).connect(PROXY)
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: example.org\r\n\r\n"
    client.ask(raw)
    app[0]["headers"].clear()
    client.ask(raw)
    assert app[1]["headers"] == [(b"host", b"example.org"), (b"x-forwarded-host", b"example.org")]


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [("https", "wss"), ("wss", "wss"), ("http", "ws"), ("ws", "ws"), ("gopher", "ws"), (None, "ws")],
)
def test_the_scheme_of_a_websocket_is_ws_or_wss(proto, scheme):
    app = WebSocketRecorder()
    fields = ["X-Forwarded-For: 192.0.2.7:81", *([f"X-Forwarded-Proto: {proto}"] if proto else [])]
    rig = Rig(app)
    client = rig.connect(PROXY)
    client.send(handshake(*fields))
    assert (app.scope["scheme"], app.scope["client"]) == (scheme, ("192.0.2.7", 81))


def test_a_websocket_has_the_host_and_the_prefix_that_proxies_say():
    app = WebSocketRecorder()
    rig = Rig(app, **OWN)
    rig.connect(PROXY).send(
        handshake("X-Forwarded-Host: example.org", "X-Forwarded-Prefix: /shop", "X_Forwarded_Host: b", path="/chat")
    )
    scope = app.scope
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/shop", "/shop/chat", b"/shop/chat")
    assert [value for name, value in scope["headers"] if name.endswith(b"host")] == [b"example.org", b"example.org"]


def test_the_access_log_names_the_client_and_the_path_of_the_scope(caplog):
    caplog.set_level(logging.INFO, "pounce.access")
    rig = Rig(hello, access_log=True, **OWN)
    rig.connect(PROXY).ask(
        b"GET /a%20b HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7:81\r\nX-Forwarded-Prefix: /s%22hop\r\n\r\n"
    )
    assert [record.getMessage() for record in caplog.records] == ['192.0.2.7:81 - "GET /s%22hop/a%20b HTTP/1.1" 200']


def test_a_request_that_is_refused_is_logged_with_its_own_client(caplog):
    caplog.set_level(logging.INFO, "pounce.access")

    async def waits(scope, receive, send):
        await receive()
        await receive()

    rig = Rig(waits, access_log=True, limit_concurrency=1)
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\n"
    rig.connect(PROXY).send(raw % 7)
    assert rig.connect(PROXY).ask(raw % 8).startswith(b"HTTP/1.1 503")
    assert caplog.records[-1].getMessage() == '192.0.2.8:0 - "GET / HTTP/1.1" 503'


def test_a_request_that_waits_in_the_queue_has_its_own_client():
    app = Scopes()
    gate = []

    async def waits(scope, receive, send):
        app.append(scope)
        if not gate:
            gate.append(True)
            await receive()
            await receive()

    rig = Rig(waits, limit_concurrency=1, limit_queue=1)
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\n"
    first, second = rig.connect(PROXY), rig.connect(PROXY)
    first.send(raw % 7)
    second.send(raw % 8)
    first.close()
    rig.turn()
    assert [scope["client"][0] for scope in app] == ["192.0.2.7", "192.0.2.8"]


def test_the_log_of_a_websocket_names_the_client_of_the_scope(caplog):
    caplog.set_level(logging.INFO, "pounce.error")
    rig = Rig(WebSocketRecorder({"type": "websocket.accept"}))
    rig.connect(PROXY).send(handshake("X-Forwarded-For: 192.0.2.7:81"))
    assert '192.0.2.7:81 - "WebSocket /" [accepted]' in caplog.text
