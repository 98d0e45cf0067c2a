"""The writer of HTTP/1 responses, without sockets; h11 reads them back."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pounce.protocols.events import ApplicationError, Request
from pounce.protocols.h1.writer import ResponseCache, ResponseWriter
from tests.protocols.http1 import BODIES, TOKENS, VALUES


def asked(method="GET", version="1.1", keep_alive=True):
    return Request(method, b"/", b"", version, [(b"te", b"gzip;q=0.5, trailers")], keep_alive, 0, False)


class writing(ResponseWriter):
    """A writer, for the response to such a request."""

    def __init__(self, method="GET", version="1.1", defaults=b""):
        super().__init__(ResponseCache(), lambda: defaults)
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


def test_response_that_is_whole_at_once_gets_a_content_length():
    wire = write(writing(defaults=b"server: s\r\n"), [b"hello"], fields=[(b"x", b"y")])
    assert wire == b"HTTP/1.1 200 OK\r\nserver: s\r\nx: y\r\ncontent-length: 5\r\n\r\nhello"


def test_response_in_parts_is_chunked():
    status, fields, body, _ = understood(write(writing(), [b"he", b"", b"llo", b""]))
    assert (status, body) == (200, b"hello")
    assert (b"transfer-encoding", b"chunked") in fields


def test_response_in_parts_to_http_1_0_ends_with_the_connection():
    writer = writing(version="1.0")
    wire = write(writer, [b"he", b"llo"])
    assert writer.keep_alive is False
    assert understood(wire, closed=True)[2] == b"hello"
    assert b"transfer-encoding" not in wire
    assert not writer.truncation_visible


def test_http_1_0_gets_connection_keep_alive():
    assert b"connection: keep-alive\r\n" in write(writing(version="1.0"), [b"x"])


@pytest.mark.parametrize("status", [204, 304])
def test_204_and_304_have_no_content(status):
    writer = writing()
    wire = write(writer, [b""], status)
    assert wire.endswith(b"\r\n\r\n")
    assert b"content-length" not in wire
    assert b"transfer-encoding" not in wire
    assert write(writing(), [b"x"], status) == wire
    assert write(writing(), [b"", b"x"], status) == wire


def test_204_has_no_content_length_and_304_may_have_one():
    assert b"content-length" not in write(writing(), [b""], 204, [(b"content-length", b"0")])
    assert b"content-length: 7" in write(writing(), [b""], 304, [(b"content-length", b"7")])


@pytest.mark.parametrize(
    ("fields", "parts", "length"),
    [((), [b"hello"], b"5"), ([(b"content-length", b"5")], [b""], b"5"), ((), [b""], None), ((), [b"a", b"b"], None)],
)
def test_response_to_head_has_the_head_of_get(fields, parts, length):
    wire = write(writing("HEAD"), parts, fields=fields)
    _, got, body, _ = understood(wire, "HEAD")
    assert (dict(got).get(b"content-length"), body) == (length, b"")


def test_connection_field_of_the_application_is_followed():
    writer = writing()
    wire = write(writer, [b"x"], fields=[(b"Connection", b"keep-alive, close"), (b"Transfer-Encoding", b"chunked")])
    assert writer.keep_alive is False
    assert wire.lower().count(b"connection:") == 1
    assert b"transfer-encoding" not in wire.lower()


def test_default_fields_that_the_application_sends_are_not_sent_twice():
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
def test_invalid_fields_are_refused(field):
    with pytest.raises(ApplicationError, match=r"header|Content-Length"):
        writing().start(200, [field])


@pytest.mark.parametrize("status", [None, "200", 99, 100, 101, 1000, True, 200.0])
def test_statuses_that_are_not_final_are_refused(status):
    with pytest.raises(ApplicationError, match="status"):
        writing().start(status, [])


def test_two_content_lengths_are_one_if_they_agree():
    length = (b"content-length", b"1")
    assert write(writing(), [b"x"], fields=[length, length]).count(b"content-length") == 1
    with pytest.raises(ApplicationError, match="impossible Content-Length"):
        writing().start(200, [length, (b"content-length", b"2")])


@pytest.mark.parametrize(("parts", "problem"), [([b"123456"], "more content"), ([b"123"], "less content")])
def test_content_and_content_length_must_agree(parts, problem):
    with pytest.raises(ApplicationError, match=problem):
        write(writing(), parts, fields=[(b"content-length", b"5")])


def test_a_refused_first_part_leaves_the_response_unsent():
    writer = writing()
    writer.start(200, [(b"content-length", b"1")])
    with pytest.raises(ApplicationError):
        writer.body(b"xy", False)
    assert writer.body(b"x", False)[0].startswith(b"HTTP/1.1 200 OK\r\n")


def test_trailers_are_sent_in_chunks_only_and_content_length_is_none():
    wire = write(writing(), [b"x", b"y"], trailers=[(b"digest", b"z")])
    assert understood(wire) == (200, [(b"transfer-encoding", b"chunked")], b"xy", [(b"digest", b"z")])
    wire = write(writing(version="1.0"), [b"x"], trailers=[(b"digest", b"z")])
    assert understood(wire, closed=True)[2] == b"x"
    wire = write(writing("HEAD"), [b"x"], trailers=[(b"digest", b"z")])
    assert understood(wire, "HEAD")[2] == b""
    with pytest.raises(ApplicationError, match="cannot be sent as a trailer"):
        write(writing(), [b"x"], trailers=[(b"Content-Length", b"1")])


def test_status_that_has_no_name_gets_no_phrase():
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
