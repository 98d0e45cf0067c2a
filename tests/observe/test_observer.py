"""Each exchange is reported twice: when its response begins, and once with its outcome."""

import pytest
from wsproto import events

import pounce
from pounce.observe.observer import Observer, Outcome
from tests.support.applications import answering, body, start
from tests.support.cases import GET
from tests.support.harness import Rig
from tests.support.websockets import Socket, echo, frame, handshake


class Seen:
    """What a worker's observer is called with."""

    def __init__(self, rig):
        self.events = []
        rig.worker.service.on_response = lambda exchange: self.events.append((exchange.request.text, exchange.status))
        rig.worker.service.on_end = lambda exchange, outcome: self.events.append((exchange.request.text, outcome))


def seen(app, **options):
    rig = Rig(app, **options)
    return rig, Seen(rig)


async def waits(scope, receive, send):
    await pounce.sleep(1000)


async def begins(scope, receive, send):
    await send(start())
    await send(body(b"x", more=True))
    await pounce.sleep(1000)


async def raises(scope, receive, send):
    raise ZeroDivisionError


async def raises_late(scope, receive, send):
    await send(start())
    await send(body(b"x", more=True))
    raise ZeroDivisionError


def test_a_whole_response_is_completed():
    rig, seen_ = seen(answering(start(204), body()))
    rig.connect().ask(GET)
    assert seen_.events == [("/", 204), ("/", Outcome.COMPLETED)]


@pytest.mark.parametrize(("app", "status"), [(raises, 500), (raises_late, 200)])
def test_an_application_that_raises_has_failed(app, status):
    rig, seen_ = seen(app)
    rig.connect().ask(GET)
    assert seen_.events == [("/", status), ("/", Outcome.FAILED)]


def test_a_client_that_goes_before_the_end_has_disconnected():
    rig, seen_ = seen(begins)
    client = rig.connect()
    client.send(GET)
    client.close()
    assert seen_.events == [("/", 200), ("/", Outcome.DISCONNECTED)]


@pytest.mark.parametrize("last", [b"", frame(0x83)])
def test_a_websocket_that_ends_without_a_close_or_with_an_illegal_frame_has_disconnected(last):
    rig, seen_ = seen(echo)
    socket = Socket(rig)
    socket.raw(last)
    socket.client.close()
    assert [outcome for _, outcome in seen_.events] == [101, Outcome.DISCONNECTED]


@pytest.mark.parametrize(("app", "status"), [(waits, 504), (begins, 200)])
def test_a_request_over_timeout_request_has_timed_out(app, status):
    rig, seen_ = seen(app, timeout_request=3.0)
    client = rig.connect()
    client.send(GET)
    rig.wait(4)
    assert client.read().startswith(b"HTTP/1.1 %d" % status)
    assert seen_.events == [("/", status), ("/", Outcome.TIMED_OUT)]


@pytest.mark.parametrize(("app", "status"), [(waits, 503), (begins, 200)])
def test_a_request_that_the_end_of_the_server_cuts_off_is_cancelled(app, status):
    rig, seen_ = seen(app)
    client = rig.connect()
    client.send(GET)
    rig.worker.stop()
    rig.wait(1)
    rig.worker.cancel()
    rig.wait(1)
    assert client.read().startswith(b"HTTP/1.1 %d" % status)
    assert seen_.events == [("/", status), ("/", Outcome.CANCELLED)]


def test_a_request_over_limit_concurrency_is_refused():
    rig, seen_ = seen(waits, limit_concurrency=1)
    first = rig.connect()
    first.send(GET)
    rig.connect().ask(GET.replace(b"/ ", b"/more "))
    first.read()
    assert seen_.events == [("/more", 503), ("/more", Outcome.REFUSED)]


def test_bytes_that_are_no_content_end_the_exchange_once():
    rig, seen_ = seen(waits)
    rig.connect().ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnothing\r\n")
    assert seen_.events == [("/", Outcome.DISCONNECTED)]


def test_a_websocket_begins_with_101_and_is_completed_at_its_close():
    rig, seen_ = seen(echo)
    socket = Socket(rig)
    ((path, status),) = seen_.events
    assert status == 101
    socket.say(events.CloseConnection(1000))
    assert seen_.events[1:] == [(path, Outcome.COMPLETED)]


def test_a_handshake_that_is_none_is_refused():
    rig, seen_ = seen(echo)
    rig.connect().ask(handshake(path="/chat").replace(b"Version: 13", b"Version: 12"))
    assert seen_.events == [("/chat", 426), ("/chat", Outcome.REFUSED)]


def test_hooks_that_nothing_uses_are_none_and_several_are_called_in_order():
    assert (Observer().on_response, Observer().on_end) == (None, None)
    called = []
    observer = Observer([lambda exchange: called.append(1), lambda exchange: called.append(2)])
    observer.on_response(None)
    assert called == [1, 2]
