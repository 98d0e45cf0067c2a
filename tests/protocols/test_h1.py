"""HTTP/1 without sockets: the reader of requests and the writer of responses."""

import time
from urllib.parse import unquote

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pounce.protocols.events import ApplicationError, ProtocolError, Request, percent_decoded
from pounce.protocols.h1.reader import Limits, Memory, RequestReader
from pounce.protocols.h1.writer import Memory as ResponseMemory
from pounce.protocols.h1.writer import ResponseWriter

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


def read(data, limits=None):
    """The first request in `data` and its content, None where there is none yet."""
    reader = RequestReader(limits or Limits(), Memory())
    reader.feed(data)
    request = reader.next_request()
    return request, reader.read_body()


def refused(data, limits=None):
    with pytest.raises(ProtocolError) as caught:
        read(data, limits)
    return caught.value.status


def test_a_plain_request():
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
def test_who_keeps_the_connection(version, connection, keep_alive):
    field = f"Connection: {connection}\r\n" if connection else ""
    request, _ = read(f"GET / HTTP/{version}\r\nHost: a\r\n{field}\r\n".encode())
    assert (request.version, request.keep_alive) == (version, keep_alive)


def test_content_of_a_length_and_in_chunks():
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
def test_who_expects_to_be_told_to_continue(expect, version, length, wanted):
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


def test_an_asterisk_is_for_options_only():
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
def test_what_is_refused_and_how(data, status):
    assert refused(data) == status


def test_a_head_that_is_too_large_is_refused_before_its_end_comes():
    limits = Limits(head=1000, fields=5, target=100)
    assert refused(b"GET /" + b"a" * 200, limits) == 414
    assert refused(b"GET /" + b"a" * 200 + b" HTTP/1.1\r\nHost: a\r\n\r\n", limits) == 414
    assert refused(HEAD + b"A: " + b"b" * 1000, limits) == 431
    assert refused(HEAD + b"A: " + b"b" * 1000 + b"\r\n\r\n", limits) == 431
    assert refused(HEAD + b"A: b\r\n" * 5 + b"\r\n", limits) == 431
    assert read(HEAD + b"A: b\r\n" * 4 + b"\r\n", limits)[0] is not None
    assert read(b"GET /" + b"a" * 99 + b" HTTP/1.1\r\nHost: a\r\n\r\n", limits)[0] is not None


def test_content_that_is_too_large_is_refused():
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


TOKENS = st.text("abcXYZ-_!09", min_size=1, max_size=8).map(str.encode)
VALUES = st.text('abc ,;="/\t\x80ÿ', max_size=20).map(lambda text: text.strip().encode("latin-1"))
BODIES = st.binary(max_size=300)


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
    reader = RequestReader(Limits(), Memory())
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
def test_what_comes_byte_by_byte_costs_no_more_for_what_is_here_already(name, monkeypatch):
    monkeypatch.setattr("pounce.protocols.h1.chunks.LONGEST_LINE", 200_000)
    start, more, *rest = TRICKLES[name]

    def cost(here):
        """Seconds for some bytes, when so many are here already."""
        reader = RequestReader(Limits(head=200_000, fields=200_000, target=200_000), Memory())
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


# Responses


def asked(method="GET", version="1.1", keep_alive=True):
    return Request(method, b"/", b"", version, [(b"te", b"gzip;q=0.5, trailers")], keep_alive, 0, False)


class writing(ResponseWriter):
    """A writer, for the response to such a request."""

    def __init__(self, method="GET", version="1.1", defaults=b""):
        super().__init__(ResponseMemory(), lambda: defaults)
        self.asked = asked(method, version)

    def start(self, status, fields, trailers=False):
        super().start(self.asked, status, fields, trailers)


def write(writer, parts, status=200, fields=(), trailers=None):
    writer.start(status, fields, trailers is not None)
    wire = b"".join(b"".join(writer.body(part, place < len(parts) - 1)) for place, part in enumerate(parts))
    if trailers is not None:
        wire += b"".join(writer.trailers(trailers, more=False))
    return wire


def understood(wire, method="GET", closed=False):
    """What a client makes of a response: (status, fields, content, trailers)."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(wire)
    if closed:
        client.receive_data(b"")
    head, body = client.next_event(), b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), event
    assert client.trailing_data[0] == b""
    return head.status_code, list(head.headers), body, list(event.headers)


def test_a_response_that_is_whole_at_once_gets_a_length():
    wire = write(writing(defaults=b"server: s\r\n"), [b"hello"], fields=[(b"x", b"y")])
    assert wire == b"HTTP/1.1 200 OK\r\nserver: s\r\nx: y\r\ncontent-length: 5\r\n\r\nhello"


def test_a_response_in_parts_is_chunked():
    status, fields, body, _ = understood(write(writing(), [b"he", b"", b"llo", b""]))
    assert (status, body) == (200, b"hello")
    assert (b"transfer-encoding", b"chunked") in fields


def test_to_http_1_0_a_response_in_parts_ends_with_the_connection():
    writer = writing(version="1.0")
    wire = write(writer, [b"he", b"llo"])
    assert writer.keep_alive is False
    assert understood(wire, closed=True)[2] == b"hello"
    assert b"transfer-encoding" not in wire
    assert not writer.cut_shows


def test_http_1_0_is_told_that_the_connection_is_kept():
    assert b"connection: keep-alive\r\n" in write(writing(version="1.0"), [b"x"])


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_content(status):
    writer = writing()
    wire = write(writer, [b""], status)
    assert wire.endswith(b"\r\n\r\n")
    assert b"content-length" not in wire
    assert b"transfer-encoding" not in wire
    assert write(writing(), [b"x"], status) == wire
    assert write(writing(), [b"", b"x"], status) == wire


def test_a_204_has_no_length_and_a_304_may_have_one():
    assert b"content-length" not in write(writing(), [b""], 204, [(b"content-length", b"0")])
    assert b"content-length: 7" in write(writing(), [b""], 304, [(b"content-length", b"7")])


@pytest.mark.parametrize(
    ("fields", "parts", "length"),
    [((), [b"hello"], b"5"), ([(b"content-length", b"5")], [b""], b"5"), ((), [b""], None), ((), [b"a", b"b"], None)],
)
def test_to_head_goes_the_head_that_get_would_get(fields, parts, length):
    wire = write(writing("HEAD"), parts, fields=fields)
    _, got, body, _ = understood(wire, "HEAD")
    assert (dict(got).get(b"content-length"), body) == (length, b"")


def test_what_the_application_says_about_the_connection():
    writer = writing()
    wire = write(writer, [b"x"], fields=[(b"Connection", b"keep-alive, close"), (b"Transfer-Encoding", b"chunked")])
    assert writer.keep_alive is False
    assert wire.lower().count(b"connection:") == 1
    assert b"transfer-encoding" not in wire.lower()


def test_what_the_application_sends_itself_is_not_sent_twice():
    wire = write(writing(defaults=b"server: s\r\ndate: d\r\n"), [b""], fields=[(b"Server", b"mine")])
    assert wire.lower().count(b"server:") == 1
    assert b"Server: mine" in wire
    assert b"date: d" in wire


@pytest.mark.parametrize(
    "field",
    [
        (b"a\r\nb", b"c"),
        (b"a", b"c\r\nset-cookie: x"),
        (b"a", b"c\nd"),
        (b"a", b"c\0"),
        (b"a b", b"c"),
        (b"a:", b"c"),
        (b"", b"c"),
        ("a", b"c"),
        (b"a", "c"),
        (b"a", 1),
        (b"content-length", b"-1"),
        (b"content-length", b"1, 1"),
        (b"content-length", b"x"),
    ],
)
def test_an_application_cannot_send_what_is_no_field(field):
    with pytest.raises(ApplicationError, match=r"header|Content-Length"):
        writing().start(200, [field])


@pytest.mark.parametrize("status", [None, "200", 99, 100, 101, 1000, True, 200.0])
def test_an_application_cannot_send_what_is_no_final_status(status):
    with pytest.raises(ApplicationError, match="status"):
        writing().start(status, [])


def test_two_lengths_are_one_if_they_agree():
    length = (b"content-length", b"1")
    assert write(writing(), [b"x"], fields=[length, length]).count(b"content-length") == 1
    with pytest.raises(ApplicationError, match="impossible Content-Length"):
        writing().start(200, [length, (b"content-length", b"2")])


@pytest.mark.parametrize(("parts", "problem"), [([b"123456"], "more content"), ([b"123"], "less content")])
def test_content_and_length_must_agree(parts, problem):
    with pytest.raises(ApplicationError, match=problem):
        write(writing(), parts, fields=[(b"content-length", b"5")])


def test_a_refused_first_part_leaves_the_response_unsent():
    writer = writing()
    writer.start(200, [(b"content-length", b"1")])
    with pytest.raises(ApplicationError):
        writer.body(b"xy", False)
    assert writer.body(b"x", False)[0].startswith(b"HTTP/1.1 200 OK\r\n")


def test_trailers():
    wire = write(writing(), [b"x", b"y"], trailers=[(b"digest", b"z")])
    assert understood(wire) == (200, [(b"transfer-encoding", b"chunked")], b"xy", [(b"digest", b"z")])
    wire = write(writing(version="1.0"), [b"x"], trailers=[(b"digest", b"z")])
    assert understood(wire, closed=True)[2] == b"x"
    wire = write(writing("HEAD"), [b"x"], trailers=[(b"digest", b"z")])
    assert understood(wire, "HEAD")[2] == b""
    with pytest.raises(ApplicationError, match="cannot be sent as a trailer"):
        write(writing(), [b"x"], trailers=[(b"Content-Length", b"1")])


def test_an_unknown_status_has_no_phrase():
    assert write(writing(), [b""], 299).startswith(b"HTTP/1.1 299 \r\n")


@given(
    status=st.sampled_from([200, 201, 206, 302, 404, 500, 599]),
    fields=st.lists(st.tuples(TOKENS.map(lambda name: b"x-" + name), VALUES), max_size=5),
    parts=st.lists(BODIES, min_size=1, max_size=5),
    known=st.booleans(),
    version=st.sampled_from(["1.0", "1.1"]),
    method=st.sampled_from(["GET", "HEAD"]),
)
def test_any_response_is_understood_by_a_client_as_it_was_meant(status, fields, parts, known, version, method):
    if known:
        fields = [*fields, (b"content-length", b"%d" % len(b"".join(parts)))]
    writer = writing(method, version)
    wire = write(writer, parts, status, fields)
    got_status, got_fields, body, _ = understood(wire, method, closed=not writer.keep_alive)
    assert (got_status, body) == (status, b"" if method == "HEAD" else b"".join(parts))
    assert [field for field in got_fields if field[0].startswith(b"x-")] == [
        (name.lower(), value) for name, value in fields if name.startswith(b"x-")
    ]
