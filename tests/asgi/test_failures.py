"""Applications that break the rules of ASGI, raise or return too early: the response, and what the log says."""

import pytest

import pounce
from pounce.worker.control import Report
from tests.support.answers import content_of, status_of
from tests.support.applications import answering, body, hello, start
from tests.support.harness import Rig
from tests.support.requests import GET
from tests.support.websockets import handshake


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([body(b"x")], "'http.response.body' cannot be sent now: the response has not been started"),
        ([start(), start()], "'http.response.start' cannot be sent now: 'http.response.body' must follow"),
        ([{"type": "http.response.bdy"}], "'http.response.bdy' cannot be sent now"),
        ([{"type": "websocket.accept"}], "'websocket.accept' cannot be sent now"),
        ([start("200")], "a response needs a status from 200 to 999, not '200'"),
        ([{"type": "http.response.start"}], "KeyError: 'status'"),
        ([start(200, (b"a\nb", b"c"))], "illegal name"),
        ([start(), body("text")], "the body of a response is bytes, not str"),
        ([start(200, (b"content-length", b"1")), body(b"xy")], "more content than its Content-Length"),
        ([start(200, (b"content-length", b"3")), body(b"xy")], "less content than its Content-Length"),
        ([start()], "returned without completing response"),
        ([], "returned without starting response"),
    ],
)
def test_invalid_messages_before_the_head_are_answered_500_and_named(messages, words, caplog):
    client = Rig(answering(*messages)).connect()
    answer = client.ask(GET)
    assert status_of(answer) == 500
    assert content_of(answer) == b"Internal Server Error"
    assert words in caplog.text
    assert status_of(client.ask(GET)) == 500  # the connection is none the worse


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([start(), body(b"x", more=True)], "returned without completing response"),
        ([start(), body(b"x", more=True), start()], "must follow until more_body is false"),
        ([start(200, (b"content-length", b"3")), body(b"x", more=True), body(b"")], "less content"),
        ([start(trailers=True), body(b"x"), body(b"y")], "'http.response.trailers' was promised"),
    ],
)
def test_invalid_messages_after_the_head_truncate_the_response(messages, words, caplog):
    client = Rig(answering(*messages)).connect()
    answer = client.ask(GET)
    assert not answer.endswith(b"0\r\n\r\n")
    assert client.closed
    assert words in caplog.text


def test_a_failed_http_1_0_response_of_unknown_length_is_reset():
    # Without chunks the client would take a plain end for the end of the content.
    rig = Rig(answering(start(), body(b"x", more=True)))
    client = rig.connect()
    (connection,) = rig.worker.connections
    aborted = []

    class Watched(type(connection.stream)):
        __slots__ = ()

        def abort(self):
            aborted.append(True)
            super().abort()

    connection.stream.__class__ = Watched
    client.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert aborted


def test_an_exception_is_500_and_logged_with_the_applications_traceback(caplog):
    async def app(scope, receive, send):
        raise ZeroDivisionError("my mistake")

    client = Rig(app).connect()
    assert status_of(client.ask(GET)) == 500
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("pounce.error", "ERROR")
    assert record.message == "Exception in ASGI application: GET /\n"
    assert "my mistake" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, RecursionError, GeneratorExit])
def test_any_base_exception_is_500_and_ends_its_own_request_only(error, caplog):
    async def app(scope, receive, send):
        if scope["path"] == "/bad":
            raise error
        await hello(scope, receive, send)

    client = Rig(app).connect()
    assert status_of(client.ask(GET.replace(b"/ ", b"/bad ", 1))) == 500
    assert status_of(client.ask(GET)) == 200
    assert len(caplog.records) == 1


def test_a_return_value_of_the_application_is_logged(caplog):
    async def app(scope, receive, send):
        await hello(scope, receive, send)
        return "something"

    client = Rig(app).connect()
    assert status_of(client.ask(GET)) == 200
    assert "should return None, but returned 'something'" in caplog.text


def test_an_application_that_is_no_coroutine_function_is_500(caplog):
    def app(scope, receive, send):
        return None

    client = Rig(app, interface="asgi3", lifespan="off").connect()
    assert status_of(client.ask(GET)) == 500
    assert "await" in caplog.text


def test_messages_after_the_response_are_ignored_with_a_warning(caplog):
    client = Rig(answering(start(), body(b"x"), body(b"y"))).connect()
    assert content_of(client.ask(GET)) == b"x"
    assert "sent 'http.response.body' after the response was complete; it is ignored" in caplog.text


class BadWords(Exception):
    def __str__(self):
        raise ZeroDivisionError("in __str__")


class DeepWords(Exception):
    def __str__(self):
        return str(self)


class NoLooking(Exception):
    def __getattribute__(self, name):
        raise RuntimeError(f"nobody asks for {name}")


# Found by reading the code.
@pytest.mark.parametrize("kind", [BadWords, DeepWords, NoLooking])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("websocket", [False, True])
def test_an_exception_that_cannot_be_formatted_is_500_and_costs_its_own_request_only(kind, waits, websocket, caplog):
    async def app(scope, receive, send):
        if scope["path"] == "/":
            await hello(scope, receive, send)
            return
        if waits:
            await pounce.sleep(0.1)
        raise kind

    rig = Rig(app)
    client, other = rig.connect(), rig.connect()
    client.send(GET.replace(b"/ ", b"/bad ") if not websocket else handshake(path="/bad"))
    rig.wait(1)
    assert status_of(client.read()) == 500
    assert other.ask(GET).endswith(b"hello")
    assert sum("Exception in ASGI application" in record.message for record in caplog.records) >= 1
    assert rig.reports == [Report.READY]


class NoClass:
    @property
    def __class__(self):
        raise RuntimeError("nobody asks for __class__")

    def __str__(self):
        raise RuntimeError("nor for words")


# Found by reading the code.
def test_a_return_value_that_cannot_be_formatted_is_logged(caplog):
    async def app(scope, receive, send):
        await hello(scope, receive, send)
        return NoClass()

    rig = Rig(app)
    assert rig.connect().ask(GET).endswith(b"hello")
    assert "should return None, but returned '<class" in caplog.text
