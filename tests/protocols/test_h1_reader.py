"""The reader of HTTP/1 requests, without sockets."""

import time
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pounce.protocols.events import ProtocolError, percent_decoded
from pounce.protocols.h1.reader import HeadCache, Limits, RequestReader
from tests.protocols.http1 import BODIES, HEAD, TOKENS, VALUES


def read(data, limits=None):
    """The first request in `data` and its content, None where there is none yet."""
    reader = RequestReader(limits or Limits(), HeadCache())
    reader.feed(data)
    request = reader.next_request()
    return request, reader.read_body()


def refused(data, limits=None):
    with pytest.raises(ProtocolError) as caught:
        read(data, limits)
    return caught.value.status


def test_get_request_is_read_as_target_fields_and_no_content():
    request, body = read(b"GET /a%20b?x=1?y HTTP/1.1\r\nHost: Example.org:80\r\nX-Y:  z \r\n\r\n")
    assert (request.method, request.path, request.query, request.version) == ("GET", b"/a%20b", b"x=1?y", "1.1")
    assert request.fields == [(b"host", b"Example.org:80"), (b"x-y", b"z")]
    assert (request.keep_alive, request.content_length, request.expects_continue) == (True, 0, False)
    assert body == b""


@given(st.text(st.sampled_from("%%%0123456789aAbBcCdDeEfFgz/+?\x7f \x00")))
def test_a_path_is_decoded_as_urllib_does(path):
    assert percent_decoded(path.encode()) == unquote(path)


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Keep-Alive, CLOSE", False),
        ("1.1", "x-close", True),
        ("1.0", None, False),
        ("1.0", "keep-alive", True),
        ("1.0", "Keep-Alive, Upgrade", True),
    ],
)
def test_keep_alive_follows_version_and_connection_field(version, connection, keep_alive):
    field = f"Connection: {connection}\r\n" if connection else ""
    request, _ = read(f"GET / HTTP/{version}\r\nHost: a\r\n{field}\r\n".encode())
    assert (request.version, request.keep_alive) == (version, keep_alive)


def test_content_is_read_by_content_length_and_in_chunks():
    request, body = read(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    assert (request.content_length, body) == (5, b"hello")
    chunked = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nT: v\r\n\r\n"
    )
    request, body = read(chunked)
    assert (request.content_length, body) == (None, b"hello")


@pytest.mark.parametrize(
    ("expect", "version", "length", "wanted"),
    [
        ("100-continue", "1.1", 5, True),
        ("100-Continue", "1.1", 5, True),
        ("100-continue", "1.0", 5, False),
        ("100-continue", "1.1", 0, False),
        ("something-else", "1.1", 5, False),
    ],
)
def test_expect_100_continue_is_recognised(expect, version, length, wanted):
    head = f"POST / HTTP/{version}\r\nHost: a\r\nExpect: {expect}\r\nContent-Length: {length}\r\n\r\n"
    assert read(head.encode())[0].expects_continue is wanted


@pytest.mark.parametrize(
    ("method", "connection", "wanted"),
    [
        ("GET", "upgrade", True),
        ("GET", "keep-alive, Upgrade", True),
        ("GET", "x, Upgrade", True),
        ("X-OWN", "Upgrade", True),
        ("GET", "keep-alive", False),
        ("GET", "close", False),
        ("GET", "x-upgrade", False),
        ("GET", None, False),
        ("X-OWN", None, False),
    ],
)
def test_upgrade_means_nothing_without_the_connection_option(method, connection, wanted):
    field = f"Connection: {connection}\r\n" if connection else ""
    head = f"{method} / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n{field}\r\n"
    assert read(head.encode())[0].asks_for_websocket is wanted


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        (b"http://b.example/x?y", b"/x", b"b.example"),
        (b"HTTPS://b:99", b"/", b"b:99"),
        (b"http://b?q", b"/", b"b"),
    ],
)
def test_an_absolute_target_gives_path_and_host(target, path, host):
    request, _ = read(b"GET " + target + b" HTTP/1.1\r\nX: 1\r\nHost: a\r\n\r\n")
    assert request.path == path
    assert [value for name, value in request.fields if name == b"host"] == [host]


def test_asterisk_target_with_another_method_than_options_is_400():
    for target in (b"*", b"http://b"):
        assert read(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")[0].path == b"*"
    assert refused(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01", 400),  # TLS
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/11.1\r\nHost: a\r\n\r\n", 505),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        (HEAD + b"A B: c\r\n\r\n", 400),
        (HEAD + b"A : c\r\n\r\n", 400),
        (HEAD + b": c\r\n\r\n", 400),
        (HEAD + b"A: c\0d\r\n\r\n", 400),
        (HEAD + b"A: c\rd\r\n\r\n", 400),
        (HEAD + b"Content-Length: +5\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n", 400),
    ],
)
def test_invalid_heads_are_refused_400_501_505(data, status):
    assert refused(data) == status


def test_head_above_a_limit_is_refused_431_414_before_its_end_comes():
    limits = Limits(head=1000, fields=5, target=100)
    assert refused(b"GET /" + b"a" * 200, limits) == 414
    assert refused(b"GET /" + b"a" * 200 + b" HTTP/1.1\r\nHost: a\r\n\r\n", limits) == 414
    assert refused(HEAD + b"A: " + b"b" * 1000, limits) == 431
    assert refused(HEAD + b"A: " + b"b" * 1000 + b"\r\n\r\n", limits) == 431
    assert refused(HEAD + b"A: b\r\n" * 5 + b"\r\n", limits) == 431
    assert read(HEAD + b"A: b\r\n" * 4 + b"\r\n", limits)[0] is not None
    assert read(b"GET /" + b"a" * 99 + b" HTTP/1.1\r\nHost: a\r\n\r\n", limits)[0] is not None


def test_content_above_its_limit_is_refused_413():
    limits = Limits(body=10)
    assert refused(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", limits) == 413
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert refused(head + b"b\r\nhello world\r\n", limits) == 413
    assert read(head + b"a\r\nhelloworld\r\n0\r\n\r\n", limits)[1] == b"helloworld"


def test_empty_lines_before_a_request_are_ignored():
    assert read(b"\r\n\r\n" + HEAD + b"\r\n")[0] is not None


def segments(data, cuts):
    """`data` in pieces."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@st.composite
def requests(draw):
    """A legal request, and what it means: (bytes, method, path, fields, content)."""
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"OPTIONS", b"x-own"]))
    path = b"/" + draw(st.text("ab%/.~", max_size=10).map(str.encode))
    fields = [(b"host", b"example.org")]
    for name, value in draw(st.lists(st.tuples(TOKENS, VALUES), max_size=5)):
        fields.append((b"x-" + name, value))
    body = draw(BODIES)
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "none":
        body, wire = b"", b""
    elif framing == "length":
        fields.append((b"content-length", b"%d" % len(body)))
        wire = body
    else:
        fields.append((b"transfer-encoding", b"chunked"))
        size = draw(st.integers(1, 100))
        parts = [body[i : i + size] for i in range(0, len(body), size)]
        wire = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    ows = draw(st.sampled_from([b"", b" ", b" \t "]))
    head = b"%b %b HTTP/1.1\r\n" % (method, path)
    head += b"".join(name.title() + b":" + ows + value + ows + b"\r\n" for name, value in fields) + b"\r\n"
    return head + wire, method.decode(), path, [(name.lower(), value) for name, value in fields], body


@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 5000), max_size=10))
def test_any_requests_in_any_segmentation_are_read_as_they_were_meant(sent, cuts):
    reader = RequestReader(Limits(), HeadCache())
    got, body, request = [], b"", None
    for segment in segments(b"".join(data for data, *_ in sent), cuts):
        reader.feed(segment)
        while True:
            if request is None:
                request, body = reader.next_request(), b""
            if request is None:
                break
            body += reader.read_body()
            if not reader.body_complete:
                break
            got.append((request.method, request.path, request.fields, body))
            request = None
    assert got == [(method, path, fields, content) for _, method, path, fields, content in sent]
    assert reader.pending == 0


TRICKLES = {
    "a request line": (b"GET /", b"y"),
    "a request line of CR": (b"GET /", b"\r"),
    "fields": (HEAD, b"a:\r\n"),
    "a value": (HEAD + b"X: ", b"y"),
    "a value of CR": (HEAD + b"X: ", b"\r"),
    "a value behind a long request line": (b"GET /", b"y", b" HTTP/1.1\r\nX: "),
    "a value behind an empty line": (b"\r\n" + HEAD + b"X: ", b"y"),
    "a chunk's extension": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=", b"y"),
    "a trailer": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"y"),
}


@pytest.mark.parametrize("name", TRICKLES)
def test_input_byte_by_byte_costs_no_rescan_of_what_is_buffered(name, monkeypatch):
    monkeypatch.setattr("pounce.protocols.h1.chunks.MAX_LINE", 200_000)
    start, more, *rest = TRICKLES[name]

    def cost(here):
        """Seconds for some bytes, when so many are here already."""
        reader = RequestReader(Limits(head=200_000, fields=200_000, target=200_000), HeadCache())
        begun = b"".join([start, more * (here // len(more)), *rest])
        if reader.next_request(begun):
            reader.read_body()
        take = reader.next_request if reader.body_complete else lambda piece: (reader.feed(piece), reader.read_body())
        began = time.thread_time()
        for byte in more * (6000 // len(more)):
            take(bytes((byte,)))
        return time.thread_time() - began

    # Another byte is put to the others, which is a copy, and no more than that.
    assert min(cost(100_000) for _ in range(3)) < 8 * min(cost(1000) for _ in range(3)) + 0.02
