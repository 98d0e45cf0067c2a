"""`--access-log-format` and `--access-log-exclude`: the lines of each format, when they are written, and that nobody
can write a line of another's."""

import json
import logging
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import events

import pounce
from pounce.config.access_template import parse
from pounce.config.config import Config
from pounce.config.kinds import Invalid
from pounce.errors import ConfigError
from pounce.logging import configure
from pounce.net.byte_stream import Peer
from pounce.observe.access_format import access_format
from pounce.observe.observer import Outcome
from pounce.protocols.events import Request
from tests.support.applications import answering, body, echo, hello, start
from tests.support.gate import named
from tests.support.harness import Rig
from tests.support.requests import GET, post
from tests.support.websockets import Socket, handshake
from tests.support.websockets import echo as ws_echo

TIME = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
FULL = (
    b"GET /a%20b?c=d HTTP/1.1\r\nHost: a\r\nReferer: http://r/\r\nUser-Agent: tester 1\r\n"
    b"Authorization: Basic am9lOnNlY3JldA==\r\n\r\n"
)


class Log:
    """A worker with this access log, and the lines that it writes."""

    def __init__(self, output, app, format, **options):
        output.begin()
        self.output = output
        configure(Config("a:b", access_log_format=format))
        self.rig = Rig(app, access_log=True, access_log_format=format, **options)

    @property
    def lines(self):
        self.rig.turn()
        return self.output[0].getvalue().splitlines()

    @property
    def line(self):
        (line,) = self.lines
        return line

    def ask(self, data=GET):
        return self.rig.connect().ask(data)


@pytest.fixture
def log(output):
    return lambda *arguments, **options: Log(output, *arguments, **options)


# The formats


@pytest.mark.parametrize(("format", "end"), [("common", ""), ("combined", ' "http://r/" "tester 1"')])
def test_access_log_format_common_and_combined_are_those_of_apache_and_nginx(format, end, log):
    log = log(hello, format)
    log.ask(FULL)
    pattern = rf'192\.0\.2\.1 - joe {TIME} "GET /a%20b\?c=d HTTP/1\.1" 200 5{re.escape(end)}'
    assert re.fullmatch(pattern, log.line)


def test_access_log_format_combined_has_hyphens_for_what_is_not_there(log):
    log = log(answering(start(204), body()), "combined")
    log.ask()
    assert re.fullmatch(rf'192\.0\.2\.1 - - {TIME} "GET / HTTP/1\.1" 204 - "-" "-"', log.line)


def test_access_log_format_json_has_the_same_members_in_every_line(log):
    log = log(echo, "json")
    log.ask(post(5, b"hello", "User-Agent: t\u00e9ster"))
    log.ask(FULL)
    first, second = map(json.loads, log.lines)
    assert list(first) == list(second) == [
        "time", "client", "method", "path", "query", "http_version", "user_agent", "status", "outcome", "bytes_in",
        "bytes_out", "duration", "time_to_first_byte", "time_in_queue", "worker", "request_id",
    ]  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    kept = {name: value for name, value in first.items() if "time" not in name and name != "duration"}
    assert kept == {
        "client": "192.0.2.1", "method": "POST", "path": "/", "query": "", "http_version": "1.1",
        "user_agent": "t\u00e9ster", "status": 200, "outcome": "completed", "bytes_in": 5, "bytes_out": 5, "worker": 1,
        "request_id": None,
    }  # fmt: skip
    assert (second["path"], second["query"], second["user_agent"]) == ("/a%20b", "c=d", "tester 1")


def test_access_log_format_json_has_the_times_of_head_queue_and_end(log):
    async def app(scope, receive, send):
        await pounce.sleep(1)
        await send(start())
        await pounce.sleep(2)
        await send(body(b"x", more=True))
        await pounce.sleep(4)
        await send(body(b"y"))

    log = log(app, "json", limit_concurrency=1, limit_queue=1)
    log.rig.connect().send(GET)
    log.rig.connect().send(GET)
    log.rig.wait(7.5)
    log.rig.wait(7.5)
    first, second = map(json.loads, log.lines)
    for found, waited in ((first, 0), (second, 7)):
        assert found["time_in_queue"] == pytest.approx(waited, abs=0.1)
        assert found["time_to_first_byte"] == pytest.approx(waited + 1, abs=0.2)
        assert found["duration"] == pytest.approx(waited + 7, abs=0.3)
        assert found["bytes_out"] == 2


@pytest.mark.parametrize(
    ("atom", "text"),
    [
        ("h", "192.0.2.1"), ("l", "-"), ("u", "joe"), ("r", "GET /a%20b?c=d HTTP/1.1"), ("m", "GET"), ("U", "/a%20b"),
        ("q", "c=d"), ("H", "HTTP/1.1"), ("s", "200"), ("B", "5"), ("b", "5"), ("f", "http://r/"), ("a", "tester 1"),
        ("T", "0"), ("p", f"<{os.getpid()}>"), ("{User-Agent}i", "tester 1"), ("{missing}i", "-"), ("{x-a}o", "1, 2"),
        ("{missing}o", "-"), ("{LOG_TEST}e", "here\\x22"), ("{LOG_MISSING}e", "-"),
    ],
)  # fmt: skip
def test_access_log_format_template_has_each_of_gunicorns_atoms(atom, text, log, monkeypatch):
    monkeypatch.setenv("LOG_TEST", 'here"')
    app = answering(start(200, (b"X-A", b"1"), (b"x-a", b"2")), body(b"hello"))
    log = log(app, f"<%({atom})s> 100%%")
    log.ask(FULL)
    assert log.line == f"<{text}> 100%"


def test_access_log_format_template_has_the_fields_of_the_head_and_not_of_trailers(log):
    trailers = {"type": "http.response.trailers", "headers": [(b"x-b", b"2")]}
    log = log(answering(start(200, (b"x-a", b"1"), trailers=True), body(b"hello"), trailers), "%({x-a}o)s %({x-b}o)s")
    log.ask()
    assert log.line == "1 -"


def test_access_log_format_template_measures_time(log):
    async def app(scope, receive, send):
        await pounce.sleep(2)
        await hello(scope, receive, send)

    log = log(app, "%(T)s %(M)s %(D)s %(L)s %(t)s")
    log.rig.connect().send(GET)
    log.rig.wait(2.5)
    assert re.fullmatch(rf"2 20\d\d 20\d{{5}} 2\.0\d{{5}} {TIME}", log.line)


def test_access_log_format_template_of_gunicorns_documentation(log):
    log = log(hello, '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"')
    log.ask(FULL)
    line = log.line
    assert re.fullmatch(rf'192\.0\.2\.1 - joe {TIME} "GET /a%20b\?c=d HTTP/1\.1" 200 5 "http://r/" "tester 1"', line)


def test_access_log_format_template_pads_to_a_width(log):
    log = log(hello, "%(m)-6s|%(s)5s|%(U).2s")
    log.ask(FULL)
    assert log.line == "GET   |  200|/a"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("apache", "not one of uvicorn, common, combined, json, and not a template"),
        ("combind", "did you mean combined?"),
        ("%(z)s", "there is no %(z)s; there are a, b"),
        ("%({x}z)s", "there is no %({x}z)s"),
        ("%(client_addr)s", "there is no %(client_addr)s"),
        ("%(h)d", "%(h) is followed by s"),
        ("%(h)", "%(h) is followed by s"),
        ("%(h)s 5%", "write %% for a percent sign"),
        ("%h", "write %% for a percent sign"),
        ("%(h)s\n", "no control characters"),
    ],
)
def test_access_log_format_that_is_none_is_refused_at_the_start_in_one_line(text, words):
    with pytest.raises(ConfigError) as caught:
        Config("a:b", access_log_format=text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_access_log_format_template_lowers_names_of_fields_and_not_of_variables():
    assert parse("%({User-Agent}i)s %({Home}e)s") == ("%s %s", ("{user-agent}i", "{Home}e"))
    with pytest.raises(Invalid):
        parse("%({}i)s")


# When


def test_access_log_format_other_than_uvicorns_is_written_when_the_response_is_complete(log):
    async def app(scope, receive, send):
        await send(start())
        await send(body(b"x" * 10, more=True))
        await pounce.sleep(5)
        await send(body(b"x" * 3))

    log = log(app, "%(s)s %(B)s")
    log.rig.connect().send(GET)
    log.rig.wait(4)
    assert log.lines == []
    log.rig.wait(2)
    assert log.line == "200 13"


@pytest.mark.parametrize(
    ("data", "app", "text"),
    [
        (GET.replace(b"GET", b"HEAD"), hello, "200 0"),
        (GET, answering(start(304), body(b"left out")), "304 0"),
        (GET, answering(start(200, (b"content-length", b"3")), body(b"abc")), "200 3"),
        (GET, answering(start(200, trailers=True), body(b"abc"), {"type": "http.response.trailers"}), "200 3"),
        (GET, answering(), "500 21"),
        (post(5, b"hello"), hello, "200 5"),
    ],
)
def test_access_log_has_the_length_of_the_content_that_was_sent(data, app, text, log):
    log = log(app, "%(s)s %(B)s")
    log.ask(data)
    assert log.line == text


def test_access_log_has_the_length_of_a_file(log, tmp_path):
    (tmp_path / "file").write_bytes(bytes(1000))
    sent = {"type": "http.response.pathsend", "path": str(tmp_path / "file")}
    log = log(answering(start(), sent), "%(m)s %(s)s %(B)s")
    log.ask()
    log.ask(GET.replace(b"GET", b"HEAD"))
    assert log.lines == ["GET 200 1000", "HEAD 200 0"]


def outcomes():
    async def waits(scope, receive, send):
        await pounce.sleep(100)

    async def begins(scope, receive, send):
        await send(start())
        await send(body(b"x", more=True))
        await pounce.sleep(100)

    async def raises(scope, receive, send):
        await begins_only(send)
        raise ZeroDivisionError

    async def begins_only(send):
        await send(start())
        await send(body(b"xx", more=True))

    return [
        ("gone", waits, {}, 499, "disconnected", 0),
        ("gone", begins, {}, 200, "disconnected", 1),
        ("wait", waits, {"timeout_request": 3.0}, 504, "timed out", 15),
        ("wait", raises, {}, 200, "failed", 2),
    ]


@pytest.mark.parametrize(("what", "app", "options", "status", "outcome", "size"), outcomes())
def test_access_log_has_one_line_for_a_request_that_does_not_complete(what, app, options, status, outcome, size, log):
    log = log(app, "json", **options)
    log.rig.connect().send(GET)
    if what == "gone":
        (connection,) = log.rig.worker.connections
        connection.stream.abort()
    else:
        log.rig.wait(4)
    found = json.loads(log.line)
    assert (found["status"], found["outcome"], found["bytes_out"]) == (status, outcome, size)
    assert (found["time_to_first_byte"] is None) is (status == 499)


def test_access_log_has_the_status_that_the_connection_answers_in_place_of_the_application(log):
    async def waits(scope, receive, send):
        await receive()
        await receive()

    log = log(waits, "json")
    log.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnothing\r\n")
    found = json.loads(log.line)
    assert (found["status"], found["outcome"]) == (400, "disconnected")


def test_access_log_time_in_queue_of_a_request_that_is_refused_is_all_of_it(log):
    async def waits(scope, receive, send):
        await pounce.sleep(100)

    log = log(waits, "json", limit_concurrency=1, limit_queue=1, queue_timeout=5.0)
    log.rig.connect().send(named("a"))
    log.rig.connect().send(named("b"))
    log.rig.wait(6)
    found = json.loads(log.line)
    assert (found["status"], found["outcome"]) == (503, "refused")
    assert found["time_in_queue"] == found["duration"] == pytest.approx(5, abs=0.2)


# WebSockets


def test_access_log_has_one_line_for_a_websocket_when_it_ends_and_none_in_the_other_log(log):
    log = log(ws_echo, "json")
    socket = Socket(log.rig, handshake(path="/chat"))
    socket.say("h\u00e9llo", b"1234")
    assert log.lines == []
    socket.say(events.CloseConnection(1000))
    found = json.loads(log.line)
    assert (found["path"], found["status"], found["outcome"]) == ("/chat", 101, "completed")
    assert (found["bytes_in"], found["bytes_out"]) == (10, 10)
    assert "WebSocket" not in log.output[1].getvalue()


def test_access_log_of_uvicorns_format_has_websockets_in_the_other_log(log):
    log = log(ws_echo, "uvicorn")
    Socket(log.rig, handshake(path="/chat"))
    assert log.lines == []
    assert log.output[1].getvalue() == 'INFO:     192.0.2.1:4711 - "WebSocket /chat" [accepted]\n'


def test_access_log_has_a_handshake_that_is_refused(log):
    log = log(answering({"type": "websocket.close"}), "%(r)s %(s)s")
    log.ask(handshake(path="/chat"))
    assert log.line == "GET /chat HTTP/1.1 403"


# Which


@pytest.mark.parametrize("format", ["uvicorn", "combined"])
def test_access_log_exclude_leaves_out_a_path_or_all_that_begin_with_it(format, log):
    log = log(hello, format, access_log_exclude=("/health", "/static/*"))
    for path in (b"/health", b"/health?a=b", b"/static/a/b", b"/healthy", b"/static", b"/%68ealth"):
        log.ask(GET.replace(b" / ", b" " + path + b" "))
    assert [re.search(r'"GET (\S+)', line)[1] for line in log.lines] == ["/healthy", "/static", "/%68ealth"]


def test_access_log_exclude_is_of_the_path_with_the_root_path_as_the_log_has_it(log):
    log = log(hello, "common", access_log_exclude="/api/a", root_path="/api")
    for path in (b"/a", b"/b"):
        log.ask(GET.replace(b" / ", b" " + path + b" "))
    assert '"GET /api/b HTTP' in log.line


def test_access_log_exclude_is_of_websockets_too(log):
    log = log(ws_echo, "uvicorn", access_log_exclude="/chat")
    Socket(log.rig, handshake(path="/chat"))
    assert "WebSocket" not in log.output[1].getvalue()


@pytest.mark.parametrize("path", ["health", "/a*b", "*", "/a\n", ""])
def test_access_log_exclude_that_is_no_path_is_refused(path):
    with pytest.raises(ConfigError, match="access_log_exclude"):
        Config("a:b", access_log_exclude=[path])


# What clients send

HOSTILE = [b'"', b"\\", b"\x80\xff", b"a\tb", '\u2028\u0085"'.encode()]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("format", ["combined", "%(a)s|%({user-agent}i)s", "json"])
def test_access_log_is_one_line_whatever_a_client_sends(value, format, log):
    log = log(hello, format)
    target = value if len(value) == 1 else b""  # no other byte of these is legal there
    log.ask(b"GET /?%b HTTP/1.1\r\nHost: a\r\nUser-Agent: x%by\r\n\r\n" % (target, value))
    written = log.output[0].getvalue()
    assert written.isascii()
    assert written.removesuffix("\n").isprintable()
    if format == "json":
        assert json.loads(written)["user_agent"].startswith("x")
    elif format == "combined":
        assert written.count('"') == 6
        assert written.count("\\") == written.count("\\x")


FIELD_VALUE = st.binary(max_size=60).map(lambda value: value.translate(None, bytes(range(32)) + b"\x7f").strip())


@given(agent=FIELD_VALUE, referer=FIELD_VALUE, target=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_access_log_line_can_be_read_back_whatever_a_client_sends(agent, referer, target):
    fields = [(b"host", b"a"), (b"user-agent", agent), (b"referer", referer)]
    path, _, query = ("/" + target.replace("#", "")).partition("?")
    for name in ("combined", "json", "%(r)s %({user-agent}i)s"):
        exchange = Made(Request("GET", path.encode(), query.encode(), "1.1", fields, True, 0, False))
        line = access_format(Config("a:b", access_log_format=name), 1, "", lambda: 2.0).line(
            exchange, Outcome.COMPLETED
        )
        assert line.isascii()
        assert line.removesuffix("\n").isprintable()
        if name == "json":
            found = json.loads(line)
            assert (found["path"], found["query"]) == (path, query)
        elif name == "combined":
            pattern = r'192\.0\.2\.1 - - \[[^]]+\] "GET ([^"\s]+) HTTP/1\.1" 200 7 "([^"]+)" "([^"]+)"\n'
            asked, *values = re.fullmatch(pattern, line).groups()
            assert unescaped(asked).decode() == path + ("?" + query if query else "")
            assert [unescaped(value) for value in values] == [referer or b"-", agent or b"-"]


def unescaped(text):
    return re.sub(rb"\\x([0-9A-F]{2})", lambda found: bytes((int(found[1], 16),)), text.encode())


class Made:
    """An exchange that is over."""

    status, bytes_sent, bytes_received, received, started, first_byte = 200, 7, 0, 1.0, 1.0, 0.0
    request_id, seen, response_fields, root_path = None, None, (), ""
    peer = Peer(("192.0.2.1", 1), None)

    def __init__(self, request):
        self.request = request
        self.transport = self


def test_access_log_escapes_what_a_proxy_says_its_client_is(log):
    for format in ("uvicorn", "common", "json"):
        made = log(hello, format, forwarded_allow_ips="*")
        made.ask(b'GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: a"\x9b b\r\n\r\n')
        assert made.line.isascii()
        if format == "uvicorn":
            assert made.line == 'INFO:     a\\x22\\x9B b:0 - "GET / HTTP/1.1" 200 OK'
        elif format == "common":
            assert made.line.startswith("a\\x22\\x9B\\x20b - - [")
        else:
            assert json.loads(made.line)["client"] == 'a"\x9b b'


def test_access_log_keeps_no_text_of_heads_that_are_too_large_for_the_readers_cache(log):
    log = log(hello, "combined")
    for number in range(3):
        log.ask(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: %b%d\r\n\r\n" % (b"x" * 5000, number))
    assert [line[-3:-1] for line in log.lines] == ["x0", "x1", "x2"]
    assert not log.rig.worker._request_log._format._ends._known


# Through logging


def test_access_log_format_makes_records_for_filters_and_other_handlers(log, caplog):
    class Kept(logging.Handler):
        def emit(self, record):
            kept.append((record.args, record.getMessage(), self.format(record)))

    kept = []
    made = log(hello, "%(m)s %(U)s %(s)s")
    logger = logging.getLogger("pounce.access")
    logger.addHandler(Kept())
    logger.addFilter(lambda record: record.args[2] != "/health")
    made.rig.worker._request_log.flush()  # which looks at the logger
    for path in (b"/health", b"/other?a=b"):
        made.ask(GET.replace(b" / ", b" " + path + b" "))
    line = "GET /other 200"
    assert kept == [(("192.0.2.1:4711", "GET", "/other?a=b", "1.1", 200), line, line)]
    assert made.line == line
    logger.filters.clear()


def test_access_log_format_is_written_by_uvicorns_formatter_in_a_configuration_of_uvicorns(output):
    output.begin()
    config = {
        "version": 1,
        "formatters": {"access": {"()": "uvicorn.logging.AccessFormatter", "fmt": "%(client_addr)s %(status_code)s"}},
        "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "access"}},
        "loggers": {"uvicorn.access": {"handlers": ["out"], "level": "INFO", "propagate": False}},
        "disable_existing_loggers": False,
    }
    for format, line in (("uvicorn", "192.0.2.1:4711 200 OK\n"), ("%(s)s", "200\n")):
        output.begin()
        configure(Config("a:b", log_config=config, access_log_format=format))
        rig = Rig(hello, access_log=True, access_log_format=format)
        rig.connect().ask(GET)
        rig.turn()
        assert output[0].getvalue() == line
        rig.close()


def test_no_access_log_has_no_lines_in_any_format(output):
    output.begin()
    configure(Config("a:b", access_log_format="json", access_log=False))
    rig = Rig(hello, access_log=False, access_log_format="json")
    rig.connect().ask(GET)
    assert output[0].getvalue() == ""
    assert rig.worker.service.on_end is None
