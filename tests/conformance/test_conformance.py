"""RFC 9110 and RFC 9112 over real sockets: the raw requests of `tests/support/cases`, and applications that send
illegal responses."""

import ast
import contextlib
import itertools
import socket
import time

import pytest

import pounce
import pounce.net.stream
from pounce.protocols.h1.reader import RequestReader
from pounce.testing import TestServer
from tests.support.answers import exchange, read_answers
from tests.support.cases import CASES, GET, Case, fields, line, post

PROBE = b"GET /probe HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"
TE = b"Transfer-Encoding: chunked"
LARGE = 2_000_000
PIECES = (0, 7, 1)
"""Bytes that the server reads at a time; 0: as many as there are."""
BYTEWISE = 3000
"""Cases of more bytes are not read in pieces."""


def early(*lines):
    """A request that is answered before its content is read."""
    return line(b"POST /early HTTP/1.1")[:-2] + b"".join(text + b"\r\n" for text in lines) + b"\r\n"


async def app(scope, receive, send):
    """Answers with what it has seen of the request, once it has received all of it."""
    headers = list(scope["headers"])
    if scope["path"] == "/close":
        await answer(send, b"", [(b"connection", b"close")])
    elif scope["path"] == "/early":
        await answer(send, b"")
    elif scope["path"] == "/large":
        await answer(send, bytes(LARGE))
    elif scope["path"] == "/wait":
        await pounce.sleep(0.05)
        await answer(send, b"waited")
    elif scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200})
        for more in (True, True, False):
            await send({"type": "http.response.body", "body": b"part", "more_body": more})
    else:
        content, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            content += message["body"]
            more = message["more_body"]
        seen = {
            "method": scope["method"],
            "path": scope["path"],
            "raw_path": scope["raw_path"],
            "query": scope["query_string"],
            "version": scope["http_version"],
            "headers": headers,
            "body": content,
        }
        await answer(send, repr(seen).encode())


async def answer(send, content, headers=()):
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@pytest.fixture(scope="module")
def server():
    with TestServer(app, limit_request_body=100_000, lifespan="off", timeout_keep_alive=30) as running:
        yield running


@contextlib.contextmanager
def lane(fast, size=0):
    """The server parses with the fast lane or with the reference alone, and reads `size` bytes at a time."""
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(RequestReader, "_read_fast", lambda self, buffer, end: None)
        if size:
            patch.setattr(pounce.net.stream, "READ_SIZE", size)
        yield


def outcome(case, server):
    """What the client gets for a case, in the notation of the table, and what the application has seen."""
    probe = b"" if case.ends else PROBE
    came, reset = exchange((server.host, server.port), case.data + probe, ends=case.ends)
    answers = read_answers(came, case.heads)
    seen = [ast.literal_eval(one.content.decode()) for one in answers if one.content.startswith(b"{")]
    for one in answers:
        assert one.status < 200 or (one.get(b"date") and one.get(b"server")), one
    if probe and answers and seen and seen[-1]["path"] == "/probe":
        assert not answers[-1].whole or answers[-1].get(b"connection") == b"close"
        return notation(answers[:-1]), seen[:-1]
    if answers and not case.ends:
        assert answers[-1].get(b"connection") == b"close", "the connection ends without Connection: close"
    assert not reset or not answers, "a response may have been lost to a reset"
    return notation(answers) + "!", seen


def notation(answers):
    return " ".join(f"{one.status}{'' if one.whole else '~'}" for one in answers)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}: {case.allowed}")
def test_a_raw_request_gets_the_outcome_that_its_rfc_section_allows(case: Case, server):
    outcomes = []
    for fast, size in itertools.product((True, False), PIECES if len(case.data) <= BYTEWISE else PIECES[:1]):
        with lane(fast, size):
            got, seen = outcome(case, server)
        where = f"RFC {case.section}, {'fast lane' if fast else 'reference'}, {size or 'all'} bytes at a time"
        assert got in case.allowed.split(" | "), where
        for want, saw in zip(case.saw, seen, strict=False):
            assert want == {name: saw[name] for name in want}, where
        assert len(seen) >= len(case.saw), where
        outcomes.append((got, seen))
    assert " | " in case.allowed or all(one == outcomes[0] for one in outcomes), (
        "it depends on the lane or on the pieces"
    )


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize(
    "paths", [("/wait",), ("/large",), ("/wait", "/large", "/stream", "/wait"), ("/large", "/large")]
)
def test_pipelined_responses_before_a_malformed_request_arrive_whole_then_400(paths, ends, fast, server):
    """RFC 9112, sections 9.3 and 9.6: in their order, then the 400, then the end, however slowly the client reads."""
    requests = b"".join(line(b"GET %b HTTP/1.1" % path.encode()) for path in paths)
    with lane(fast), socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.settimeout(30)
        sock.connect((server.host, server.port))
        sock.sendall(requests + b"BAD\r\n\r\n" + GET)
        if ends:
            sock.shutdown(socket.SHUT_WR)
        time.sleep(0.1)  # the server has written what it can, and has not been read from
        answers = read_answers(b"".join(iter(lambda: sock.recv(1 << 16), b"")))
    assert notation(answers) == "200 " * len(paths) + "400"
    sizes = {"/wait": 6, "/large": LARGE, "/stream": 12}
    assert [len(one.content) for one in answers[:-1]] == [sizes[path] for path in paths]


EXPECT = b"Expect: 100-continue"
DIALOGS = {  # what the client sends in turn, and the status it waits for each time; 0 is the end of the connection
    "content after 100": ((post(EXPECT, b"Content-Length: 5"), 100), (b"hello", 200), (GET, 200)),
    "chunks after 100": ((post(EXPECT, TE), 100), (b"5\r\nhello\r\n0\r\n\r\n", 200), (GET, 200)),
    "in other letters": ((post(b"eXPECT: 100-CONTINUE", b"Content-Length: 5"), 100), (b"hello", 200)),
    "among others": ((post(b"Expect: tea, 100-continue", b"Content-Length: 5"), 100), (b"hello", 200)),
    "in two lines": ((post(b"Expect: tea", EXPECT, b"Content-Length: 5"), 100), (b"hello", 200)),
    "after a request": ((GET, 200), (post(EXPECT, b"Content-Length: 5"), 100), (b"hello", 200)),
    "in a pipeline": ((GET + post(EXPECT, b"Content-Length: 5"), 200), (b"", 100), (b"hello", 200)),
    "with a HEAD": ((fields(EXPECT, b"Content-Length: 5", method=b"HEAD"), 100), (b"hello", 200)),
    "bad content after 100": ((post(EXPECT, TE), 100), (b"hello\r\n", 400), (b"", 0)),
    # The content may come or not (RFC 9110, section 10.1.1), so the connection ends.
    "an early answer": ((early(EXPECT, b"Content-Length: 5"), 200), (b"", 0)),
    "an early answer to chunks": ((early(EXPECT, TE), 200), (b"", 0)),
    "too large": ((post(EXPECT, b"Content-Length: 100001"), 413), (b"", 0)),
    "not by HTTP/1.0": ((fields(EXPECT, b"Content-Length: 5", version=b"1.0") + b"hello", 200), (b"", 0)),
    "content comes unasked": ((post(EXPECT, b"Content-Length: 5") + b"hello", 200), (GET, 200)),
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", DIALOGS, ids=lambda name: f"{name}: {' '.join(str(s) for _, s in DIALOGS[name] if s)}")
def test_expect_100_continue_is_answered_100_once_the_content_is_wanted_or_by_a_final_status(name, fast, server):
    """RFC 9110, section 10.1.1."""
    with (
        lane(fast),
        socket.create_connection((server.host, server.port), 10) as sock,
        sock.makefile("rb") as came,
    ):
        for data, status in DIALOGS[name]:
            sock.sendall(data)
            if not status:
                assert came.read() == b""
                continue
            assert came.readline().split(b" ")[1] == b"%d" % status
            head = b"".join(iter(came.readline, b"\r\n"))
            length = head.partition(b"content-length: ")[2].partition(b"\r")[0]
            if length and name != "with a HEAD":
                came.read(int(length))


def test_the_table_of_requests_has_150_cases_or_more():
    assert len(CASES) >= 150
    assert GET in [case.data for case in CASES]


def test_changes_of_a_scope_do_not_reach_later_requests_with_the_same_head():
    """Heads are cached."""
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["path"], list(scope["headers"]), dict(scope["state"]), list(scope["extensions"])))
        scope["headers"].append((b"x-admin", b"yes"))
        scope["headers"].reverse()
        scope["state"]["admin"] = True
        scope["extensions"].clear()
        scope["path"] = "/other"
        await answer(send, b"")

    with TestServer(app, lifespan="off") as running:
        for data in (GET, GET + GET, post(b"Content-Length: 0") * 2, post(b"Content-Length: 1", content=b"x") * 2):
            for _ in range(3):
                exchange((running.host, running.port), data, ends=True)
    assert len(seen) == 21
    assert {path for path, *_ in seen} == {"/"}
    assert all((b"x-admin", b"yes") not in headers and headers[0] == (b"host", b"a") for _, headers, *_ in seen)
    assert all(not state and extensions for *_, state, extensions in seen)


# Ends of connections that lose no response


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n", 413),
        (post(TE) + b"f4240\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 9000000\r\n\r\n", 400),
        (post(TE, b"Content-Length: 5"), 400),
        (early(b"Content-Length: 100000"), 200),
        (early(b"Connection: close", TE) + b"186a0\r\n", 200),
    ],
)
def test_an_early_response_reaches_a_client_that_still_sends_content(data, status, fast, server, monkeypatch):
    """RFC 9112, section 9.6: closing while bytes are unread would reset the connection, and the client would lose the
    response. The client sends until the response has arrived."""
    monkeypatch.setattr(pounce.net.stream, "READ_SIZE", 4096)  # the content is not there with the head
    with lane(fast):
        came, reset = exchange((server.host, server.port), data + b"x" * 4_000_000)
    assert [one.status for one in read_answers(came)] == [status]
    assert not reset


def test_bytes_behind_a_malformed_request_do_not_reset_the_connection_before_its_400(server):
    with socket.create_connection((server.host, server.port), 10) as sock:
        sock.sendall(GET + b"BAD")
        came = sock.recv(10)
        sock.sendall(b"\r\n\r\n" + b"x" * 1_000_000)
        came += b"".join(iter(lambda: sock.recv(65536), b""))
    assert [one.status for one in read_answers(came)] == [200, 400]


# Illegal responses


def start(status=200, *headers, **more):
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(data=b"", more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


def trailers(*headers):
    return {"type": "http.response.trailers", "headers": list(headers)}


LENGTH = (b"content-length", b"5")
CHUNKS = (b"transfer-encoding", b"chunked")

# Name: what the application sends, what the client gets, and what the exception in the application says (None: there is
# none).
RESPONSES = {
    "CR LF in a value": ([start(200, (b"x", b"y\r\nSet-Cookie: z"))], "500", "illegal value"),
    "CR LF CR LF in a value": ([start(200, (b"x", b"y\r\n\r\nHTTP/1.1 200 OK"))], "500", "illegal value"),
    "LF in a value": ([start(200, (b"x", b"y\nz: z"))], "500", "illegal value"),
    "CR in a value": ([start(200, (b"x", b"y\rz"))], "500", "illegal value"),
    "NUL in a value": ([start(200, (b"x", b"y\x00"))], "500", "illegal value"),
    "CR LF in a name": ([start(200, (b"x: y\r\nz", b"z"))], "500", "illegal name"),
    "a colon in a name": ([start(200, (b"x:", b"y"))], "500", "illegal name"),
    "a space in a name": ([start(200, (b"x ", b"y"))], "500", "illegal name"),
    "an empty name": ([start(200, (b"", b"y"))], "500", "illegal name"),
    "an 8-bit name": ([start(200, (b"\xe4", b"y"))], "500", "illegal name"),
    "a name of text": ([start(200, ("x", b"y"))], "500", "pair of bytes"),
    "a value of text": ([start(200, (b"x", "y"))], "500", "pair of bytes"),
    "an 8-bit value": ([start(200, (b"x", b"\xe4")), body()], "200", None),
    "status 99": ([start(99)], "500", "200 to 999"),
    "status 100": ([start(100)], "500", "200 to 999"),
    "status 101": ([start(101)], "500", "200 to 999"),
    "status 1000": ([start(1000)], "500", "200 to 999"),
    "a status of text": ([start("200 OK\r\nx: y")], "500", "200 to 999"),
    "no status": ([{"type": "http.response.start"}], "500", "status"),
    "an unknown status": ([start(599), body()], "599", None),
    "two starts": ([start(), start()], "500", "must follow"),
    "a body before the start": ([body(b"x")], "500", "not been started"),
    "a start in the middle": ([start(), body(b"x", True), start()], "200~", "until more_body is false"),
    "a body of text": ([start(), body("x")], "500", "not str"),
    "more than its length": ([start(200, LENGTH), body(b"hello!")], "500", "more content"),
    "more than its length, later": ([start(200, LENGTH), body(b"hell", True), body(b"o!")], "200", None),
    "less than its length": ([start(200, LENGTH), body(b"hell")], "500", "less content"),
    "less than its length, later": ([start(200, LENGTH), body(b"h", True), body(b"ell")], "200~", "less content"),
    "a second response after the length": (
        [start(200, LENGTH), body(b"hello", True), body(b"HTTP/1.1 200 OK\r\n\r\n")], "200", None),
    "two lengths": ([start(200, LENGTH, (b"Content-Length", b"6")), body(b"hello")], "500", "Content-Length"),
    "a length twice": ([start(200, LENGTH, LENGTH), body(b"hello")], "200", None),
    "a length in a list": ([start(200, (b"content-length", b"5, 5")), body(b"hello")], "500", "Content-Length"),
    "a length with a sign": ([start(200, (b"content-length", b"+5")), body(b"hello")], "500", "Content-Length"),
    "a length with NUL": ([start(200, (b"content-length", b"5\x00")), body(b"hello")], "500", "illegal value"),
    "an empty length": ([start(200, (b"content-length", b"")), body(b"hello")], "500", "Content-Length"),
    "a negative length": ([start(200, (b"content-length", b"-1")), body(b"hello")], "500", "Content-Length"),
    "its own chunks": ([start(200, CHUNKS), body(b"5\r\nhello\r\n0\r\n\r\n")], "200", None),
    "its own chunks and a length": ([start(200, CHUNKS, LENGTH), body(b"hello")], "200", None),
    "its own chunks in pieces": ([start(200, CHUNKS), body(b"0\r\n\r\n", True), body(b"x")], "200", None),
    "another coding": ([start(200, (b"transfer-encoding", b"gzip")), body(b"hello")], "200", None),
    "its own keep-alive": ([start(200, (b"connection", b"keep-alive")), body(b"hello")], "200", None),
    "a close among others": ([start(200, (b"Connection", b"x, Close")), body(b"hello")], "200!", None),
    "204": ([start(204), body()], "204", None),
    "204 with content": ([start(204), body(b"x")], "204", None),
    "204 with content, later": ([start(204), body(b"", True), body(b"x")], "204", None),
    "204 with a length": ([start(204, LENGTH), body()], "204", None),
    "204 with chunks": ([start(204, CHUNKS), body(b"", True), body()], "204", None),
    "304": ([start(304, LENGTH), body()], "304", None),
    "304 with content": ([start(304, LENGTH), body(b"hello")], "304", None),
    "nothing": ([], "500", None),
    "nothing but a start": ([start()], "500", None),
    "half a body": ([start(), body(b"x", True)], "200~", None),
    "no content in pieces": ([start(), body(b"", True), body(b"", True), body()], "200", None),
    "trailers": ([start(trailers=True), body(b"x"), trailers((b"a", b"b"))], "200", None),
    "trailers that split": ([start(trailers=True), body(b"x"), trailers((b"a", b"b\r\n\r\nHTTP/1.1"))],
        "200~", "illegal value"),
    "a trailer that frames": ([start(trailers=True), body(b"x"), trailers((b"Content-Length", b"5"))],
        "200~", "trailer"),
    "trailers nobody was told of": ([start(), body(b"x", True), trailers()], "200~", "until more_body is false"),
    "an early hint that splits": ([{"type": "http.response.early_hint", "links": [b"</a>\r\n\r\nHTTP/1.1 200 OK"]}],
        "500", "illegal value"),
    "a message of another protocol": ([{"type": "websocket.accept"}], "500", "cannot be sent now"),
    "a message without a type": ([{}], "500", "type"),
}  # fmt: skip


@pytest.fixture(scope="module")
def misbehaving():
    raised = {}

    async def app(scope, receive, send):
        if scope["path"] == "/probe":
            await answer(send, b"{'path': '/probe'}")
            return
        name = scope["query_string"].decode()
        for message in RESPONSES[name.replace("%20", " ")][0]:
            try:
                await send(message)
            except Exception as error:
                raised[name] = error
                raise

    with TestServer(app, lifespan="off", timeout_keep_alive=30) as running:
        yield running, raised


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", RESPONSES, ids=lambda name: f"{name}: {RESPONSES[name][1]}")
def test_an_illegal_response_is_500_or_cut_off_and_send_raises(name, method, misbehaving):
    """The exception names the mistake. The client gets a 500, or sees that the response is cut off."""
    running, raised = misbehaving
    _, wanted, says = RESPONSES[name]
    key = name.replace(" ", "%20")
    raised.pop(key, None)
    request = f"{method} /?{key} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n".encode()
    came, _ = exchange((running.host, running.port), request + PROBE)
    answers = read_answers(came, {0} if method == "HEAD" else ())
    probed = answers[-1].content == b"{'path': '/probe'}"
    if method == "GET":
        got = notation(answers[:-1] if probed else answers)
        assert got + ("" if probed or "~" in got else "!") == wanted
        assert (raised.get(key) is None) == (says is None)
    else:  # the content is thrown away, and mistakes in it with it
        assert len(answers) <= 2
        assert [one.content for one in answers[: 1 + (not probed)]] == [b""]
    if key in raised and says is not None:
        assert says in str(raised[key])


def test_pathsend_sends_content_length_bytes_and_nothing_with_204_or_304(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"hello!")

    async def app(scope, receive, send):
        status = int(scope["path"][1:])
        await send(start(status, LENGTH))
        await send({"type": "http.response.pathsend", "path": str(path)})

    with TestServer(app, lifespan="off") as running:
        for status in (200, 204, 304):  # as much as the head says, or nothing
            came, _ = exchange((running.host, running.port), line(b"GET /%d HTTP/1.1" % status), ends=True)
            (one,) = read_answers(came)
            assert (one.status, one.content) == (status, b"hello" if status == 200 else b"")
