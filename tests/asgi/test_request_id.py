"""`--request-id`: where the identifier is from, where it is found, and that nobody can choose that of another."""

import contextlib
import json
import logging
import re
import threading

import pytest
from wsproto import events

import pounce
from pounce.config.config import Config
from pounce.errors import ConfigError
from pounce.logging import JSONFormatter, configure, request_id
from tests.support.answers import content_of, status_of
from tests.support.applications import answering, body, hello, start
from tests.support.harness import Rig
from tests.support.requests import GET
from tests.support.websockets import Socket, handshake

NEW = re.compile(rb"[0-9a-f]{32}")


def rig_of(app, **options):
    return Rig(app, **{"request_id": True, "forwarded_allow_ips": ("192.0.2.1",), **options})


def with_id(value, name=b"X-Request-ID"):
    return GET.replace(b"\r\n\r\n", b"\r\n%b: %b\r\n\r\n" % (name, value))


def ids(answer, name=b"x-request-id"):
    """The values of the field in a response."""
    head = answer.partition(b"\r\n\r\n")[0]
    pairs = (line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    return [value for key, value in pairs if key.lower() == name]


async def tells(scope, receive, send):
    """Answers with what the application knows of the identifier."""
    fields = [value.decode() for name, value in scope["headers"] if name == b"x-request-id"]
    known = {"scope": scope["extensions"]["request_id"], "fields": fields, "context": request_id.get()}
    await send(start())
    await send(body(json.dumps(known).encode()))


# Where it is from


def test_request_id_is_new_for_each_request_without_one():
    rig = rig_of(hello)
    client = rig.connect()
    found = [ids(client.ask(GET)) for _ in range(300)]
    assert all(len(each) == 1 and NEW.fullmatch(each[0]) for each in found)
    assert len({each[0] for each in found}) == 300


@pytest.mark.parametrize("value", [b"abc", b"Root=1-67891233-abcdef;Self=1", b"a" * 128, b"0-1_2.3:4/5+6@7~8="])
def test_request_id_of_a_trusted_proxy_is_taken(value):
    assert ids(rig_of(hello).connect().ask(with_id(value))) == [value]


@pytest.mark.parametrize(
    "value", [b"", b"a" * 129, b"a b", b'a"', b"a,b", b"a\\", b"\xe9", b"a\x7fb", b"<script>", b"%0a"]
)
def test_request_id_of_a_trusted_proxy_that_is_no_token_is_replaced(value):
    answer = rig_of(hello).connect().ask(with_id(value))
    if value != b"a\x7fb":  # which is no request at all
        assert NEW.fullmatch(ids(answer)[0])
    assert value == b"" or value not in answer


def test_request_id_that_comes_twice_is_replaced():
    twice = with_id(b"a").replace(b"\r\n\r\n", b"\r\nX-Request-Id: a\r\n\r\n")
    answer = rig_of(tells).connect().ask(twice)
    known = json.loads(content_of(answer))
    assert NEW.fullmatch(ids(answer)[0])
    assert known["fields"] == [ids(answer)[0].decode()]


@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8",)])
def test_request_id_of_a_client_that_is_not_trusted_is_replaced_everywhere(trusted):
    answer = rig_of(tells, forwarded_allow_ips=trusted).connect().ask(with_id(b"forged"))
    (identity,) = ids(answer)
    assert NEW.fullmatch(identity)
    text = identity.decode()
    assert json.loads(content_of(answer)) == {"scope": {"id": text}, "fields": [text], "context": text}


def test_no_proxy_headers_takes_no_request_id_from_a_proxy():
    (identity,) = ids(rig_of(hello, proxy_headers=False).connect().ask(with_id(b"given")))
    assert NEW.fullmatch(identity)


@pytest.mark.parametrize("sent", [[], [b"abc"]])
def test_request_id_field_with_underscores_does_not_reach_the_application(sent):
    async def app(scope, receive, send):
        fields = [field for field in scope["headers"] if field[0].replace(b"_", b"-") == b"x-request-id"]
        await send(start())
        await send(body(repr(fields).encode()))

    data = with_id(b"forged", b"X_Request_ID")
    for value in sent:
        data = data.replace(b"\r\n\r\n", b"\r\nX-Request-ID: %b\r\n\r\n" % value)
    answer = rig_of(app).connect().ask(data)
    (identity,) = ids(answer)
    assert content_of(answer) == repr([(b"x-request-id", identity)]).encode()
    assert sent in ([], [identity])


def test_request_id_is_that_of_another_field_if_one_is_named():
    rig = rig_of(tells, request_id="X-Amzn-Trace-Id")
    answer = rig.connect().ask(with_id(b"abc", b"x-amzn-trace-id"))
    assert ids(answer, b"x-amzn-trace-id") == [b"abc"]
    assert json.loads(content_of(answer)) == {"scope": {"id": "abc"}, "fields": [], "context": "abc"}


@pytest.mark.parametrize(
    ("value", "name"),
    [(True, "x-request-id"), ("on", "x-request-id"), (False, None), (None, None), ("off", None), ("X-Id", "x-id")],
)
def test_request_id_option_is_a_switch_or_a_name(value, name):
    assert Config("a:b", request_id=value).request_id == name


@pytest.mark.parametrize("value", ["main:app", "main.py", "x_id", "a b", "-a", "1a", "a" * 65, 3])
def test_request_id_option_that_is_no_name_is_refused(value):
    with pytest.raises(ConfigError, match="request_id"):
        Config("a:b", request_id=value)


# Where it is found


def test_request_id_is_not_there_without_the_option():
    async def app(scope, receive, send):
        assert "request_id" not in scope["extensions"]
        assert request_id.get() is None
        await hello(scope, receive, send)

    answer = Rig(app).connect().ask(with_id(b"abc"))
    assert status_of(answer) == 200
    assert ids(answer) == []


def test_request_id_is_in_every_response_of_a_connection_whatever_writes_it():
    async def app(scope, receive, send):
        if scope["path"] == "/raises":
            raise ZeroDivisionError
        if scope["path"] == "/late":
            await send(start(200, (b"bad name", b"x")))
        if scope["path"] == "/held":
            await send(start())
            raise ZeroDivisionError
        if scope["path"] == "/waits":
            await send(start())
            await pounce.sleep(0)
            await send(body(b"a", more=True))
            await pounce.sleep(0)
            await send(body(b"b"))
        elif scope["path"] == "/short":
            await send(start(200, (b"content-length", b"3")))
            with contextlib.suppress(RuntimeError):
                await send(body(b"a"))
            await send(body(b"abc"))
        else:
            await hello(scope, receive, send)

    client = rig_of(app).connect()
    for number, path in enumerate((b"/", b"/raises", b"/late", b"/held", b"/waits", b"/short", b"/")):
        identity = b"id-%d" % number
        answer = client.ask(with_id(identity).replace(b" / ", b" %b " % path))
        assert ids(answer) == [identity], path
    assert ids(client.ask(with_id(b"h").replace(b"GET", b"HEAD"))) == [b"h"]
    assert ids(client.ask(with_id(b"old").replace(b"1.1\r", b"1.0\r"))) == [b"old"]


def test_request_id_is_in_each_of_pipelined_responses_in_their_order():
    answer = rig_of(hello).connect().ask(b"".join(with_id(b"id-%d" % number) for number in range(5)))
    assert re.findall(rb"x-request-id: (\S+)", answer) == [b"id-%d" % number for number in range(5)]


def test_request_id_is_in_a_response_that_is_refused_and_in_one_that_the_connection_gives():
    async def waits(scope, receive, send):
        await receive()
        await pounce.sleep(100)

    rig = rig_of(waits, limit_concurrency=1, limit_request_body=10)
    rig.connect().send(GET)
    answer = rig.connect().ask(with_id(b"refused"))
    assert (status_of(answer), ids(answer)) == (503, [b"refused"])
    rig = rig_of(waits)
    chunks = with_id(b"broken").replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\nnothing\r\n")
    answer = rig.connect().ask(chunks)
    assert (status_of(answer), ids(answer)) == (400, [b"broken"])


def test_request_id_is_not_in_the_response_to_a_head_that_cannot_be_read():
    client = rig_of(hello).connect()
    assert ids(client.ask(with_id(b"first"))) == [b"first"]
    answer = client.ask(b"BAD\r\n\r\n")
    assert (status_of(answer), ids(answer)) == (400, [])


def test_request_id_that_the_application_sends_itself_stays():
    app = answering(start(200, (b"X-Request-Id", b"mine")), body(b"x"))
    client = rig_of(app).connect()
    for _ in range(2):  # the head is looked up the second time
        assert ids(client.ask(with_id(b"abc"))) == [b"mine"]


def test_request_id_does_not_fill_the_cache_of_response_heads():
    rig = rig_of(hello)
    client = rig.connect()
    for _ in range(50):
        client.ask(GET)
    assert len(rig.worker.context.response_cache.heads) == 1


def test_request_id_is_in_the_answer_to_a_websocket_and_in_its_scope():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["extensions"]["request_id"], request_id.get()))
        await receive()
        await send({"type": "websocket.accept", "headers": [(b"x-a", b"b")]})
        await receive()
        seen.append(request_id.get())

    rig = rig_of(app)
    socket = Socket(rig, handshake("X-Request-ID: ws-1"))
    assert socket.status == 101
    assert (socket.field(b"x-request-id"), socket.field(b"x-a")) == (b"ws-1", b"b")
    socket.say("go on")
    assert seen == [({"id": "ws-1"}, "ws-1"), "ws-1"]
    socket.say(events.CloseConnection(1000))


def test_request_id_is_in_the_answer_to_a_websocket_that_is_refused():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close"})

    assert ids(rig_of(app).connect().ask(handshake("X-Request-ID: ws-1"))) == [b"ws-1"]


# In the log


@pytest.fixture
def log(output):
    output.begin()
    configure(Config("a:b", request_id=True, log_format="json"))
    application = logging.getLogger("the.application")
    application.addHandler(logging.StreamHandler(output[1]))
    application.handlers[0].setFormatter(JSONFormatter())

    yield lambda: [json.loads(line) for line in output[1].getvalue().splitlines()]
    application.handlers.clear()


@pytest.mark.parametrize("options", [{}, {"reset_contextvars": True}])
def test_request_id_is_in_every_record_while_the_request_runs(log, options):
    logger = logging.getLogger("the.application")

    async def app(scope, receive, send):
        logger.warning("first step")
        await pounce.sleep(0)
        logger.warning("second step")
        await pounce.to_thread(logger.warning, "in a thread")
        await hello(scope, receive, send)
        raise ZeroDivisionError

    rig = rig_of(app, **options)
    done = threading.Event()
    client = rig.connect()
    client.send(with_id(b"abc"))
    while not log() or log()[-1]["level"] != "ERROR":
        done.wait(0.01)
        rig.turn()
    logger.warning("elsewhere")
    found = [(line["message"].partition(":")[0], line.get("request_id")) for line in log()]
    assert found == [
        ("first step", "abc"), ("second step", "abc"), ("in a thread", "abc"),
        ("Exception in ASGI application", "abc"), ("elsewhere", None),
    ]  # fmt: skip


@pytest.mark.parametrize("given", ["extra", "factory"])
def test_request_id_that_the_application_gives_its_records_itself_stays(log, given):
    logger = logging.getLogger("the.application")
    extra = {"request_id": "its own"} if given == "extra" else None
    if given == "factory":

        def make(*args, **kwargs):
            record = logging.LogRecord(*args, **kwargs)
            record.request_id = "its own"
            return record

        logging.setLogRecordFactory(make)

    async def app(scope, receive, send):
        logger.warning("here", extra=extra)
        await hello(scope, receive, send)

    assert status_of(rig_of(app).connect().ask(with_id(b"abc"))) == 200
    assert [line["request_id"] for line in log() if line["message"] == "here"] == ["its own"]


def test_request_id_is_in_what_an_application_logs_before_it_returns_its_coroutine(log):
    def app(scope, receive, send):
        logging.getLogger("the.application").warning("called")
        return hello(scope, receive, send)

    rig_of(app).connect().ask(with_id(b"abc"))
    assert [(line["message"], line["request_id"]) for line in log()] == [("called", "abc")]
    assert request_id.get() is None


def test_request_id_of_requests_that_run_at_the_same_time_are_not_confused(log):
    logger = logging.getLogger("the.application")

    async def app(scope, receive, send):
        name = scope["path"]
        for _ in range(3):
            logger.warning(name)
            await pounce.sleep(1)
        await hello(scope, receive, send)

    rig = rig_of(app)
    for number in range(5):
        rig.connect().send(with_id(b"id-%d" % number).replace(b" / ", b" /%d " % number))
    rig.wait(4)
    found = [(line["message"], line["request_id"]) for line in log()]
    assert len(found) == 15
    assert {identity.replace("id-", "/") == message for message, identity in found} == {True}
    assert request_id.get() is None


def test_request_id_is_in_the_servers_lines_about_a_request_that_timed_out(log):
    async def waits(scope, receive, send):
        await pounce.sleep(100)

    rig = rig_of(waits, timeout_request=3.0)
    rig.connect().send(with_id(b"slow"))
    rig.wait(5)
    assert [(line["message"].partition(":")[0], line["request_id"]) for line in log()] == [
        ("Request timed out", "slow")
    ]


def test_request_id_is_in_the_line_about_a_request_that_the_end_of_the_server_cancels(log):
    async def waits(scope, receive, send):
        await pounce.sleep(100)

    rig = rig_of(waits)
    rig.connect().send(with_id(b"slow"))
    rig.worker.stop()
    rig.wait(1)
    rig.worker.cancel()
    rig.wait(1)
    found = [line["request_id"] for line in log() if line["message"].startswith("Cancelled: GET /")]
    assert found == ["slow"]


def test_request_id_is_in_the_access_log(output):
    for format, line in (("json", '"request_id":"abc"'), ("%({X-Request-ID}i)s %({x-request-id}o)s", "abc abc")):
        output.begin()
        configure(Config("a:b", request_id=True, access_log_format=format))
        rig = rig_of(hello, access_log=True, access_log_format=format)
        rig.connect().ask(with_id(b"abc"))
        rig.turn()
        assert line in output[0].getvalue()


def test_request_id_is_in_records_of_the_access_log_that_a_handler_of_the_operators_gets(output):
    kept = []

    class Kept(logging.Handler):
        def emit(self, record):
            kept.append(record.request_id)

    async def later(scope, receive, send):
        await send(start())
        await pounce.sleep(1)
        await send(body(b"x"))

    for format in ("uvicorn", "combined"):
        output.begin()
        configure(Config("a:b", request_id=True, access_log_format=format))
        logging.getLogger("pounce.access").addHandler(Kept())
        rig = rig_of(later, access_log=True, access_log_format=format)
        rig.connect().send(with_id(b"abc"))
        rig.wait(2)
    assert kept == ["abc", "abc"]


def test_request_id_stands_in_brackets_in_the_servers_text_log_and_in_a_format_of_its_own_place(output):
    output.begin()
    configure(Config("a:b", request_id=True))

    async def raises(scope, receive, send):
        raise ZeroDivisionError

    rig = rig_of(raises)
    rig.connect().ask(with_id(b"abc"))
    assert output[1].getvalue().startswith("ERROR:    [abc] Exception in ASGI application: GET /\n")
    logging.getLogger("pounce.error").info("no request")
    assert output[1].getvalue().endswith("INFO:     no request\n")
    record = logging.getLogger("any").makeRecord("any", 20, "f", 1, "m", (), None)
    assert logging.Formatter("%(request_id)s %(message)s").format(record) == "- m"
