"""Retiring in a hurry, for a reload: what would last as long as the client likes ends at once."""

import pytest

import pounce
from pounce.supervisor import child
from pounce.worker.worker import WorkerState
from tests.support.answers import content_of, read_answers, status_of
from tests.support.applications import body, hello, start
from tests.support.harness import Rig
from tests.support.requests import GET
from tests.support.websockets import Recorder, Socket, disconnect, handshake

EVENTS = (b"content-type", b"text/event-stream")


class Stream:
    """Sends events until it receives the disconnect; notes what it receives and how it ends."""

    def __init__(self, *fields, promised=False, first=b"data: 1\n\n"):
        self.start = start(200, *fields, trailers=promised)
        self.first = first
        self.received = []
        self.error = None

    async def __call__(self, scope, receive, send):
        await receive()
        try:
            await send(self.start)
            if self.first:
                await send(body(self.first, more=True))
            self.received.append(await receive())
        except BaseException as error:
            self.error = error
            raise


def reload(rig, heir=None):
    rig.worker.retire(heir and heir.worker, hurry=True)
    rig.turn()
    if heir is not None:
        heir.turn()


@pytest.mark.parametrize("content_type", [b"text/event-stream", b"Text/Event-Stream; charset=utf-8"])
def test_an_event_stream_ends_whole_and_its_application_receives_the_disconnect(content_type, caplog):
    app = Stream((b"content-type", content_type))
    rig = Rig(app)
    client = rig.connect()
    first = client.ask(GET)
    reload(rig)
    [answer] = read_answers(first + client.read())
    assert answer.content == b"data: 1\n\n"
    assert answer.whole
    assert app.received == [{"type": "http.disconnect"}]
    assert app.error is None
    rig.wait(6)
    assert rig.worker.state is WorkerState.ENDED
    assert not caplog.records


def test_an_event_stream_leaves_its_connection_to_the_heir():
    rig, heir = Rig(Stream(EVENTS)), Rig(hello)
    client = rig.connect()
    first = client.ask(GET)
    reload(rig, heir)
    client.sock.sendall(GET)
    rig.turn()
    heir.turn()
    events, answer = read_answers(first + client.read())
    assert events.whole
    assert answer.content == b"hello"
    assert rig.worker.state is WorkerState.ENDED


def test_an_event_stream_that_has_sent_only_its_head_ends():
    rig = Rig(Stream(EVENTS, first=b""))
    client = rig.connect()
    first = client.ask(GET)
    assert first.endswith(b"\r\n\r\n")
    reload(rig)
    [answer] = read_answers(first + client.read())
    assert answer.whole
    assert not answer.content


def test_an_event_stream_whose_head_is_held_back_ends():
    app = Stream(EVENTS, first=b"")
    rig = Rig(app)
    client = rig.connect()
    client.sock.sendall(GET)
    rig.loop.call_soon(lambda: rig.worker.retire(hurry=True))  # in the turn of the request, before its end
    rig.turn()
    [answer] = read_answers(client.read())
    assert (answer.status, answer.content, answer.whole) == (200, b"", True)
    assert app.received == [{"type": "http.disconnect"}]


def test_an_event_stream_over_http_1_0_ends_with_its_connection():
    rig = Rig(Stream(EVENTS))
    client = rig.connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    reload(rig)
    assert content_of(client.read()) == b"data: 1\n\n"
    assert client.closed


def test_an_event_stream_with_trailers_ends_whole():
    rig = Rig(Stream(EVENTS, promised=True))
    client = rig.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
    reload(rig)
    [answer] = read_answers(client.read())
    assert answer.content == b"data: 1\n\n"
    assert answer.whole


def test_an_event_stream_of_a_certain_length_is_cut_off():
    app = Stream(EVENTS, (b"content-length", b"100"))
    rig = Rig(app)
    client = rig.connect()
    first = client.ask(GET)
    reload(rig)
    [answer] = read_answers(first + client.read())
    assert not answer.whole
    assert client.closed
    assert app.received == [{"type": "http.disconnect"}]


def test_an_event_stream_to_a_client_that_reads_nothing_ends_within_the_grace():
    async def app(scope, receive, send):
        await send(start(200, EVENTS))
        while True:
            await send(body(bytes(65536), more=True))

    rig = Rig(app)
    client = rig.connect()
    client.send(GET)
    [connection] = rig.worker.connections
    assert connection.stream.buffered
    reload(rig)
    rig.wait(1)
    assert not rig.worker.exchanges
    answer = read_answers(client.read())[0]
    assert answer.whole
    rig.wait(5)
    assert rig.worker.state is WorkerState.ENDED


def test_an_application_that_goes_on_after_the_disconnect_is_cancelled_after_the_grace(caplog):
    seen = []

    async def app(scope, receive, send):
        await send(start(200, EVENTS))
        await send(body(b"data: 1\n\n", more=True))
        try:
            await pounce.sleep(1000)
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    rig = Rig(app)
    client = rig.connect()
    first = client.ask(GET)
    reload(rig)
    assert read_answers(first + client.read())[0].whole
    assert rig.worker.state is WorkerState.DRAINING
    rig.worker.cancel()
    rig.turn()
    assert seen == ["Cancelled"]
    assert "Cancel 1 running task(s), the application was reloaded" in caplog.text
    assert "Cancelled: GET / in " in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("fields", [(), ((b"content-type", b"text/plain"),)])
def test_other_streams_go_on_until_they_are_cancelled(fields):
    app = Stream(*fields)
    rig = Rig(app)
    client = rig.connect()
    first = client.ask(GET)
    reload(rig)
    rig.wait(1)
    assert not read_answers(first + client.read())[0].whole
    assert app.received == []
    rig.worker.cancel()
    rig.turn()
    assert client.closed


def test_a_request_behind_an_event_stream_on_its_connection_is_none():
    async def app(scope, receive, send):
        if scope["path"] == "/events":
            await send(start(200, EVENTS))
            await send(body(b"data: 1\n\n", more=True))
            await send(body(b"data: 2\n\n"))
        else:
            await pounce.sleep(1)
            await hello(scope, receive, send)

    rig = Rig(app)
    client = rig.connect()
    assert status_of(client.ask(GET.replace(b"/", b"/events", 1))) == 200
    client.send(GET)
    reload(rig)
    rig.wait(1.1)
    assert content_of(client.read()) == b"hello"


def test_a_client_that_has_gone_ends_its_event_stream_once():
    app = Stream(EVENTS)
    rig = Rig(app)
    client = rig.connect()
    client.ask(GET)
    client.sock.close()
    rig.worker.retire(hurry=True)
    rig.turn()
    assert app.received == [{"type": "http.disconnect"}]
    assert rig.worker.state is WorkerState.ENDED


def test_without_a_hurry_an_event_stream_goes_on():
    app = Stream(EVENTS)
    rig = Rig(app)
    client = rig.connect()
    first = client.ask(GET)
    rig.worker.retire()
    rig.wait(10)
    assert app.received == []
    assert not read_answers(first + client.read())[0].whole


@pytest.mark.parametrize("window", [0, 20])
def test_websockets_are_closed_1012_at_once_whatever_their_window(window):
    app = Recorder()
    rig = Rig(app, timeout_websocket_drain=window)
    socket = Socket(rig)
    reload(rig)
    assert socket.read() == [(1012, "")]
    assert app.received == [disconnect(1012)]


def test_a_websocket_that_is_accepted_meanwhile_is_closed_at_once():
    async def app(scope, receive, send):
        await pounce.sleep(1)
        await Recorder()(scope, receive, send)

    rig = Rig(app, timeout_websocket_drain=20)
    client = rig.connect()
    client.send(handshake())
    reload(rig)
    rig.wait(1.1)
    assert client.read().endswith(b"\x88\x02\x03\xf4")


def test_stop_after_a_hurry_leaves_it_a_hurry():
    async def app(scope, receive, send):
        await pounce.sleep(1)
        await Recorder()(scope, receive, send)

    rig = Rig(app, timeout_websocket_drain=20)
    client = rig.connect()
    client.send(handshake())
    reload(rig)
    rig.worker.stop()
    rig.wait(1.1)
    assert client.read().endswith(b"\x88\x02\x03\xf4")


def test_a_worker_process_is_told_of_the_hurry_by_its_own_code():
    app = Recorder()
    rig = Rig(app, timeout_websocket_drain=20)
    socket = Socket(rig)
    child.COMMANDS[child.RETIRE](rig.worker)
    assert socket.read() == []
    rig = Rig(app, timeout_websocket_drain=20)
    socket = Socket(rig)
    child.COMMANDS[child.HURRY](rig.worker)
    assert socket.read() == [(1012, "")]
