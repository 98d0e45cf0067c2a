"""WebSockets as the application and the client see them: handshake, messages, back-pressure, keep-alive, ends. On the
test's own thread, at the test's own time."""

import itertools
import logging
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, events
from wsproto.connection import Connection

import pounce
from pounce.asgi.websocket import CLOSE_TIMEOUT, LAST_WORDS
from pounce.errors import ClientDisconnected
from pounce.net.stream import HIGH_WATER
from pounce.worker.control import Report
from pounce.worker.worker import LINGER, Phase
from tests.support.harness import Rig

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake(*fields, path="/", method="GET", version="1.1", **replaced):
    """A request for a WebSocket; None leaves a field out."""
    values = {"Host": "a", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    values |= {"Sec-WebSocket-Key": KEY, **{name.replace("_", "-"): value for name, value in replaced.items()}}
    lines = [f"{name}: {value}" for name, value in values.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/{version}", *lines, *fields, "", ""]).encode()


class Socket:
    """A client's end: what it sends is masked by wsproto, what it gets is read by wsproto."""

    def __init__(self, rig, request=None, early=()):
        self.rig = rig
        self.client = rig.connect()
        self.protocol = Connection(ConnectionType.CLIENT)
        self.head = b""
        self.data = b""  # what came behind the head
        self.seen = []
        self.client.send((request or handshake()) + b"".join(map(self.protocol.send, early)))
        self.head, _, rest = self.client.read().partition(b"\r\n\r\n")
        self.take(rest)

    @property
    def status(self):
        return int(self.head.split(b" ", 2)[1])

    def field(self, name):
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b": ")
            if key.lower() == name:
                return value
        return None

    def take(self, data):
        self.data += data
        if data:
            self.protocol.receive_data(data)
        text, binary = [], []
        for event in self.protocol.events():
            if isinstance(event, events.TextMessage):
                text.append(event.data)
                if event.message_finished:
                    self.seen.append("".join(text))
                    text = []
            elif isinstance(event, events.BytesMessage):
                binary.append(bytes(event.data))
                if event.message_finished:
                    self.seen.append(b"".join(binary))
                    binary = []
            elif isinstance(event, events.CloseConnection):
                self.seen.append((int(event.code), event.reason or ""))
            elif isinstance(event, events.Pong):
                self.seen.append(("pong", bytes(event.payload)))
            elif isinstance(event, events.Ping):
                self.seen.append(("ping", bytes(event.payload)))

    def read(self):
        """What has come since the last time."""
        self.take(self.client.read())
        seen, self.seen = self.seen, []
        return seen

    def say(self, *messages):
        """Sends messages and events in one piece."""
        parts = [events.TextMessage(m) if isinstance(m, str) else events.BytesMessage(m) if isinstance(m, bytes) else m
                 for m in messages]  # fmt: skip
        self.client.send(b"".join(map(self.protocol.send, parts)))

    def raw(self, data):
        self.client.send(data)

    def ask(self, *messages):
        self.say(*messages)
        return self.read()

    def answer_close(self):
        self.say(events.CloseConnection(1000))

    @property
    def closed(self):
        return self.client.closed


def frame(first, payload=b"", length=None):
    """A frame masked with zeros, which is legal to the letter."""
    length = len(payload) if length is None else length
    head = bytes((first, 0x80 | length)) if length < 126 else bytes((first, 0xFE)) + length.to_bytes(2)
    return head + bytes(4) + payload


async def echo(scope, receive, send):
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({**message, "type": "websocket.send"})


class Recorder:
    """Accepts, then notes what it receives until the end."""

    def __init__(self, *answers):
        self.scope = None
        self.received = []
        self.error = None
        self.answers = answers or ({"type": "websocket.accept"},)
        self.send = None

    async def __call__(self, scope, receive, send):
        self.scope, self.send = scope, send
        try:
            while True:
                message = await receive()
                if message["type"] == "websocket.connect":
                    for answer in self.answers:
                        await send(answer)
                    continue
                self.received.append(message)
                if message["type"] == "websocket.disconnect":
                    return
        except BaseException as error:
            self.error = error
            raise


def disconnect(code, reason=""):
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def texts(app):
    return [message.get("text", message.get("bytes")) for message in app.received if "code" not in message]


# The handshake


def test_the_scope():
    app = Recorder()
    socket = Socket(Rig(app), handshake("Sec-WebSocket-Protocol: a, b", path="/x%20y?q=1"))
    assert socket.status == 101
    headers = dict(app.scope.pop("headers"))
    assert headers[b"sec-websocket-protocol"] == b"a, b"
    assert app.scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": ("192.0.2.2", 80),
        "client": ("192.0.2.1", 4711),
        "root_path": "",
        "path": "/x y",
        "raw_path": b"/x%20y",
        "query_string": b"q=1",
        "subprotocols": ["a", "b"],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }


def test_accepting():
    app = Recorder({"type": "websocket.accept", "subprotocol": "b", "headers": [(b"X-Y", b"z"), (b"Upgrade", b"no")]})
    socket = Socket(Rig(app), handshake("Sec-WebSocket-Protocol: a, b"))
    assert socket.status == 101
    assert socket.field(b"sec-websocket-accept") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert (socket.field(b"upgrade"), socket.field(b"connection")) == (b"websocket", b"Upgrade")
    assert socket.field(b"sec-websocket-protocol") == b"b"
    assert (socket.field(b"x-y"), socket.field(b"server")) == (b"z", b"pounce")
    assert socket.field(b"sec-websocket-extensions") is None
    assert socket.field(b"content-length") is None


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (handshake(method="POST"), 400),
        (handshake(Sec_WebSocket_Version=None), 426),
        (handshake(Sec_WebSocket_Version="12"), 426),
        (handshake(Sec_WebSocket_Key=None), 400),
        (handshake(Sec_WebSocket_Key="c2hvcnQ="), 400),
        (handshake(Content_Length="1"), 400),
    ],
)
def test_what_is_no_handshake_is_refused_and_says_why(request_, status, caplog):
    caplog.set_level(logging.INFO)
    app = Recorder()
    rig = Rig(app, access_log=True)
    client = rig.connect()
    answer = client.ask(request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert app.scope is None
    assert len(answer.partition(b"\r\n\r\n")[2]) > 10
    assert (b"sec-websocket-version: 13" in answer) == (status == 426)
    if b"Content-Length: 1" not in request_:
        assert client.ask(handshake()).startswith(b"HTTP/1.1 101 ")  # the connection is still good for another try


def test_upgrade_means_nothing_in_http_1_0_or_to_other_protocols_or_when_websocket_is_off():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"plain"})

    for request, options in [
        (handshake(version="1.0"), {}),
        (handshake(Upgrade="h2c"), {}),
        (handshake(), {"ws": "none"}),
    ]:
        answer = Rig(app, **options).connect().ask(request)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"plain")


def test_frames_may_come_right_behind_the_handshake():
    socket = Socket(Rig(echo), early=[events.TextMessage("early"), events.Ping(b"p")])
    assert socket.status == 101
    assert socket.read() == [("pong", b"p"), "early"]


def test_an_application_may_take_its_time_to_accept():
    async def app(scope, receive, send):
        await pounce.sleep(3600)
        await echo(scope, receive, send)

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake() + frame(0x81, b"a") + frame(0x82, b"b" * 100))
    assert client.read() == b""
    rig.wait(3601)
    head, _, rest = client.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert rest == b"\x81\x01a\x82\x64" + b"b" * 100


def test_what_comes_before_the_answer_is_bounded():
    async def app(scope, receive, send):
        await pounce.sleep(10)
        await echo(scope, receive, send)

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake())
    data = frame(0x82, b"x" * 1000) * 1000
    sent = 0
    for _ in range(50):
        try:
            sent += client.sock.send(data[sent:])
        except BlockingIOError:
            break
        rig.turn()
    (connection,) = rig.worker.connections
    assert connection.reader.pending <= 2 * HIGH_WATER


def test_a_client_that_goes_before_the_answer():
    app = Recorder({"type": "none"})

    async def waiting(scope, receive, send):
        app.received = [await receive(), await receive()]
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.accept"})

    rig = Rig(waiting)
    client = rig.connect()
    client.send(handshake())
    client.close()
    rig.turn()
    assert app.received == [{"type": "websocket.connect"}, disconnect(1006)]
    assert not rig.worker.connections
    assert not rig.worker.exchanges


@pytest.mark.parametrize("chosen", [{"subprotocol": "c"}, {"headers": [(b"Sec-WebSocket-Protocol", b"c")]}])
def test_a_subprotocol_that_was_not_offered_is_the_applications_error(chosen, caplog):
    app = Recorder({"type": "websocket.accept", **chosen})
    socket = Socket(Rig(app), handshake("Sec-WebSocket-Protocol: a, b"))
    assert socket.status == 500
    assert "has not offered the subprotocol 'c'" in caplog.text


@pytest.mark.parametrize("chosen", [{}, {"subprotocol": "b"}])
def test_a_subprotocol_may_be_chosen_by_a_field_and_is_sent_once(chosen):
    app = Recorder({"type": "websocket.accept", "headers": [(b"Sec-WebSocket-Protocol", b"b")], **chosen})
    socket = Socket(Rig(app), handshake("Sec-WebSocket-Protocol: a, b"))
    assert socket.status == 101
    assert socket.head.lower().count(b"sec-websocket-protocol: b") == 1


# Refusals


def test_close_before_accept_is_403():
    rig = Rig(Recorder({"type": "websocket.close"}))
    socket = Socket(rig)
    assert socket.status == 403
    assert not socket.closed
    assert rig.worker.exchanges == set()


def test_a_response_of_the_applications_own():
    app = Recorder(
        {"type": "websocket.http.response.start", "status": 451, "headers": [(b"x-why", b"law")]},
        {"type": "websocket.http.response.body", "body": b"not ", "more_body": True},
        {"type": "websocket.http.response.body", "body": b"here"},
    )
    rig = Rig(app)
    client = rig.connect()
    answer = client.ask(handshake())
    assert answer.startswith(b"HTTP/1.1 451 ")
    assert b"x-why: law" in answer
    assert answer.endswith(b"4\r\nnot \r\n4\r\nhere\r\n0\r\n\r\n")
    assert app.received == [disconnect(1006)]
    assert client.ask(handshake()).startswith(b"HTTP/1.1 451 ")


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "websocket.send", "text": "a"}],
        [{"type": "http.response.start", "status": 200}],
        [{"type": "websocket.http.response.start", "status": 101}],
        [{"type": "websocket.http.response.start", "status": 200}, {"type": "websocket.accept"}],
        [{"type": "websocket.close"}, {"type": "websocket.accept"}],
        [{"type": "websocket.accept", "headers": [(b"x", b"a\r\nb")]}],
    ],
)
def test_messages_that_cannot_answer_a_handshake(messages, caplog):
    app = Recorder(*messages)
    socket = Socket(Rig(app))
    assert isinstance(app.error, RuntimeError)
    assert caplog.text.count("Exception in ASGI application") == 1
    assert socket.status == (403 if messages[0]["type"] == "websocket.close" else 500)


@pytest.mark.parametrize("late", [False, True])
def test_returning_or_raising_without_an_answer_is_500(late, caplog):
    async def returns(scope, receive, send):
        if late:
            await pounce.sleep(1)

    async def raises(scope, receive, send):
        await returns(scope, receive, send)
        raise ValueError("oh")

    for app, words in [(returns, "returned without completing handshake"), (raises, "Exception in ASGI application")]:
        rig = Rig(app)
        client = rig.connect()
        client.send(handshake())
        rig.wait(2)
        assert client.read().startswith(b"HTTP/1.1 500 ")
        assert caplog.text.count(words) == 1
        assert not rig.worker.exchanges


@pytest.mark.parametrize("access_log", [True, False])
def test_the_log_has_uvicorns_lines(access_log, caplog):
    """With the access log and without: they are not of it."""
    caplog.set_level(logging.INFO)
    denial = [
        {"type": "websocket.http.response.start", "status": 451},
        {"type": "websocket.http.response.body", "body": b"no"},
    ]
    for app in (Recorder(), Recorder({"type": "websocket.close"}), Recorder(*denial)):
        Socket(Rig(app, access_log=access_log), handshake(path="/a%20b?c=d"))
    Socket(Rig(Recorder(), access_log=access_log), handshake(path="/a", Sec_WebSocket_Key="short"))
    found = [(r.name, r.getMessage(), len(r.args)) for r in caplog.records if "WebSocket" in r.getMessage()]
    line = '192.0.2.1:4711 - "WebSocket /a'
    assert found == [
        ("pounce.error", line + '%20b?c=d" [accepted]', 2),
        ("pounce.error", line + '%20b?c=d" 403', 3),
        ("pounce.error", line + '%20b?c=d" 451', 3),
        ("pounce.error", line + '" 400', 3),
    ]


def test_the_time_of_a_request_is_not_a_websockets():
    rig = Rig(echo, timeout_request=1, ws_ping_interval=0)
    socket = Socket(rig)
    rig.wait(5)
    assert socket.ask("still here") == ["still here"]


def test_what_is_no_websocket_here_has_no_line_of_one(caplog):
    caplog.set_level(logging.INFO)
    Rig(Recorder(), access_log=False, ws="none").connect().send(handshake())
    assert "192.0.2.1" not in caplog.text


# Messages


def test_messages_have_one_key_each():
    app = Recorder()
    socket = Socket(Rig(app))
    socket.say("text", b"bytes", "")
    assert app.received == [
        {"type": "websocket.receive", "text": "text"},
        {"type": "websocket.receive", "bytes": b"bytes"},
        {"type": "websocket.receive", "text": ""},
    ]


def test_echo():
    socket = Socket(Rig(echo))
    assert socket.ask("ä" * 40000) == ["ä" * 40000]
    assert socket.ask(b"\x00" * 70000, "", b"") == [b"\x00" * 70000, "", b""]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.send"},
        {"type": "websocket.send", "text": None, "bytes": None},
        {"type": "websocket.send", "text": b"bytes"},
        {"type": "websocket.send", "bytes": "text"},
        {"type": "websocket.send", "text": 1},
        {"type": "websocket.accept"},
        {"type": "websocket.http.response.start", "status": 200},
        {"type": "websocket.close", "code": 1006},
        {"type": "websocket.close", "code": 999},
        {"type": "http.response.start", "status": 200},
    ],
)
def test_what_cannot_be_sent_raises_and_ends_with_1011(message, caplog):
    app = Recorder({"type": "websocket.accept"}, message)
    socket = Socket(Rig(app))
    assert isinstance(app.error, RuntimeError)
    assert socket.read() == [(1011, "")]
    assert caplog.text.count("Exception in ASGI application") == 1


def test_text_and_bytes_in_all_their_forms():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytearray(b"a")})
        await send({"type": "websocket.send", "bytes": memoryview(b"b")})
        await send({"type": "websocket.send", "bytes": None, "text": "c"})
        await send({"type": "websocket.send", "bytes": b"d", "text": None})

    assert Socket(Rig(app)).read() == [b"a", b"b", "c", b"d", (1000, "")]


class Calls:
    """Counts the system calls of a stream by what they send."""

    def __init__(self, monkeypatch):
        self.sent = []
        import pounce.net.stream as module

        write, kept = module.Stream.write, module.Stream._send_bytes
        monkeypatch.setattr(module.Stream, "write", lambda s, d: (self.sent.append(bytes(d)), write(s, d))[1])
        monkeypatch.setattr(module.Stream, "_send_bytes", lambda s: (self.sent.append(b"".join(s._buffer)), kept(s))[1])


def test_a_message_leaves_at_once_and_the_rest_of_a_turn_together(monkeypatch):
    app = Recorder()
    rig = Rig(app)
    socket = Socket(rig)
    rig.skip(1)
    calls = Calls(monkeypatch)
    coroutine = [app.send({"type": "websocket.send", "text": f"{number}"}) for number in range(100)]
    for each in coroutine:
        with pytest.raises(StopIteration):
            each.send(None)
    assert calls.sent == [b"\x81\x010"]
    rig.turn(1)
    assert len(calls.sent) == 2
    assert socket.read() == [str(number) for number in range(100)]


def test_a_large_message_keeps_its_place_among_small_ones():
    messages = ["a", "b", "c" * 100_000, "d", b"e" * 9000, "f"]

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        for message in messages:
            await send({"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message})

    assert Socket(Rig(app)).read() == [*messages, (1000, "")]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.text(max_size=40), st.binary(max_size=200), st.just("x" * 70000)), max_size=6),
    st.lists(st.integers(0, 500), max_size=10),
)
def test_messages_arrive_however_the_bytes_are_cut(messages, cuts):
    client = Connection(ConnectionType.CLIENT)
    data = b""
    for message in messages:
        half = len(message) // 2
        event = events.TextMessage if isinstance(message, str) else events.BytesMessage
        data += client.send(event(message[:half], message_finished=False)) + client.send(events.Ping(b"p"))
        data += client.send(event(message[half:]))
    data += client.send(events.CloseConnection(1000, "done"))
    app = Recorder()
    rig = Rig(app)
    connection = rig.connect()
    connection.send(handshake())
    places = {0, *(cut for cut in cuts if cut < len(data)), *range(0, len(data), 50000), len(data)}
    for start, end in itertools.pairwise(sorted(places)):
        connection.send(data[start:end])
    connection.read()
    assert texts(app) == messages
    assert app.received[-1] == disconnect(1000, "done")
    connection.close()


# Compression


def compressing(rig):
    request = handshake("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    client = rig.connect()
    head, _, rest = client.ask(request).partition(b"\r\n\r\n")
    return client, head, rest


def test_compression_is_on_unless_it_is_off():
    client, head, _ = compressing(Rig(echo))
    assert b"sec-websocket-extensions: permessage-deflate; server_max_window_bits=12; client_max_window_bits=12" in head
    compressor, inflater = zlib.compressobj(wbits=-12), zlib.decompressobj(wbits=-12)
    sizes = []
    for _ in range(2):
        data = (compressor.compress(b"again and " * 40) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        answer = client.ask(frame(0xC1, data))
        sizes.append(len(answer))
        assert answer[0] == 0xC1
        assert inflater.decompress(answer[2:] + b"\x00\x00\xff\xff") == b"again and " * 40
    assert sizes[1] < sizes[0]
    client, head, _ = compressing(Rig(echo, ws_per_message_deflate=False))
    assert b"extensions" not in head
    assert client.ask(frame(0xC1, data))[:4] == b"\x88" + client_close_length(1002)


def client_close_length(code):
    text = b"Reserved bit set unexpectedly"
    return bytes((2 + len(text),)) + code.to_bytes(2)


def test_a_compression_bomb_ends_with_1009():
    app = Recorder()
    rig = Rig(app, ws_max_size=1 << 20)
    client, _, _ = compressing(rig)
    compressor = zlib.compressobj(wbits=-15)
    bomb = (compressor.compress(bytes(50 << 20)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    client.send(frame(0x82 | 0x40, bomb))
    assert client.read()[2:4] == (1009).to_bytes(2)
    assert app.received == [disconnect(1009, "the message is too large")]
    assert client.closed


# Bounds and back-pressure


def test_a_message_that_is_too_large_ends_with_1009():
    app = Recorder()
    socket = Socket(Rig(app, ws_max_size=100))
    assert socket.ask("x" * 100) == []
    assert socket.ask("x" * 101) == [(1009, "the message is too large")]
    assert texts(app) == ["x" * 100]
    assert socket.closed


def fill(rig, socket, data):
    """Sends until the socket takes no more; how much that was."""
    sent = 0
    while True:
        try:
            sent += socket.client.sock.send(data)
        except BlockingIOError:
            rig.turn()
            try:
                sent += socket.client.sock.send(data)
            except BlockingIOError:
                return sent


class Slow(Recorder):
    """Accepts, and takes messages only while `taking`."""

    def __init__(self):
        super().__init__()
        self.taking = 0

    async def __call__(self, scope, receive, send):
        await receive()
        self.send = send
        await send({"type": "websocket.accept"})
        while not self.received or self.received[-1]["type"] != "websocket.disconnect":
            while not self.taking:
                await pounce.sleep(0.01)
            self.taking -= 1
            self.received.append(await receive())


def test_when_the_application_does_not_read_the_socket_is_not_read():
    app = Slow()
    rig = Rig(app, ws_max_queue=4, ws_ping_interval=0)
    socket = Socket(rig)
    sent = fill(rig, socket, frame(0x82, b"x" * 1000))
    assert sent < 1 << 21  # what the kernel takes
    (connection,) = rig.worker.connections
    assert len(connection._queue) == 4
    app.taking = sent // 1006
    rig.wait(5)
    assert len(app.received) == sent // 1006
    assert {len(message["bytes"]) for message in app.received} == {1000}


def test_large_messages_are_held_back_by_their_size():
    app = Slow()
    rig = Rig(app, ws_max_queue=1000, ws_ping_interval=0)
    socket = Socket(rig)
    data = frame(0x82, b"x" * 60000)
    for _ in range(100):
        try:
            socket.client.sock.sendall(data)
        except BlockingIOError:
            break
        rig.turn()
    (connection,) = rig.worker.connections
    assert connection._queued < (1 << 20) + 60001


def test_a_client_that_does_not_read_holds_up_send_and_is_cut_off_at_the_write_deadline():
    state = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        try:
            for number in itertools.count():
                await send({"type": "websocket.send", "bytes": bytes(100_000)})
                state.append(number)
        except OSError as error:
            state.append(error)
            state.append(await receive())

    rig = Rig(app, timeout_write=30, ws_ping_interval=0)
    client = rig.connect()
    client.send(handshake())
    rig.wait(1)
    count = len(state)
    assert count < 100
    rig.wait(20)
    assert len(state) == count
    rig.wait(12)
    assert isinstance(state[-2], ClientDisconnected)
    assert state[-1] == disconnect(1006)
    assert not rig.worker.connections
    assert not rig.worker.exchanges


def test_a_client_that_floods_pings_and_does_not_read_gets_one_pong_in_the_end_or_none():
    app = Recorder()
    rig = Rig(app, timeout_write=30, ws_ping_interval=0)
    client = rig.connect()
    client.send(handshake())
    client.read()
    data = frame(0x89, b"p" * 125) * 300
    pushed = 0
    while pushed < 40 << 20:
        try:
            pushed += client.sock.send(data[pushed % len(data) :])
        except BlockingIOError:
            rig.turn()
    (connection,) = rig.worker.connections
    assert connection.stream.buffered < 2 * HIGH_WATER
    assert len(connection.stream._buffer or ()) < 100  # and that in few pieces
    rig.wait(31)
    assert not rig.worker.connections
    assert app.received == [disconnect(1006)]


def test_a_flood_of_small_frames_leaves_the_others_their_turn():
    rig = Rig(echo)
    flood, other = Socket(rig), Socket(rig)
    flood.client.sock.sendall(frame(0x8A) * 10000)
    other.client.sock.sendall(frame(0x81, b"me"))
    rig.turn(2)
    assert other.client.sock.recv(100) == b"\x81\x02me"
    rig.turn(200)
    assert flood.ask("done") == ["done"]


# Keep-alive


def test_pings_are_sent_and_a_pong_lets_the_connection_live():
    app = Recorder()
    rig = Rig(app, ws_ping_interval=20, ws_ping_timeout=10)
    socket = Socket(rig)
    for _ in range(3):
        rig.wait(21)
        (ping,) = socket.read()
        assert ping[0] == "ping"
        socket.say(events.Pong(ping[1]))
    assert not socket.closed
    assert app.received == []


@pytest.mark.parametrize("pong", [None, b"", b"unasked"])
def test_a_missed_pong_ends_with_1011(pong):
    app = Recorder()
    rig = Rig(app, ws_ping_interval=20, ws_ping_timeout=10)
    socket = Socket(rig)
    rig.wait(21)
    if pong is not None:
        socket.say(events.Pong(pong))
    rig.wait(8)
    assert app.received == []
    rig.wait(2)
    assert app.received == [disconnect(1011, "keepalive ping timeout")]
    assert socket.read()[1:] == [(1011, "keepalive ping timeout")]
    rig.wait(LINGER + 1)
    assert socket.closed
    assert not rig.worker.connections


def test_half_a_frame_and_then_nothing():
    app = Recorder()
    rig = Rig(app)
    socket = Socket(rig)
    socket.raw(frame(0x82, b"x" * 50, length=100))
    rig.wait(20 + 20 + LINGER + 1)
    assert app.received == [disconnect(1011, "keepalive ping timeout")]
    assert not rig.worker.connections


def test_a_client_that_is_busy_with_a_long_frame_need_not_answer_pings():
    app = Recorder()
    rig = Rig(app)
    socket = Socket(rig)
    socket.raw(frame(0x82, length=60000))
    for _ in range(50):
        rig.wait(2)
        socket.raw(b"x" * 1000)
    assert app.received == []
    socket.raw(b"x" * 10000)
    assert texts(app) == [b"x" * 60000]


def test_a_client_that_is_held_up_is_not_asked():
    app = Slow()
    rig = Rig(app, ws_max_queue=2)
    socket = Socket(rig)
    socket.say("a", "b", "c", "d")
    rig.wait(200)
    assert socket.read() == []
    assert not socket.closed
    app.taking = 4
    rig.wait(1)
    assert texts(app) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("off", [0, None])
def test_keep_alive_can_be_off(off):
    rig = Rig(Recorder(), ws_ping_interval=off)
    socket = Socket(rig)
    rig.wait(10_000)
    assert socket.read() == []
    rig = Rig(Recorder(), ws_ping_interval=20, ws_ping_timeout=off)
    socket = Socket(rig)
    rig.wait(101)
    assert len(socket.read()) == 5
    assert not socket.closed


# Ends


def test_the_client_closes():
    app = Recorder()
    rig = Rig(app)
    socket = Socket(rig)
    socket.say("last", events.CloseConnection(3001, "bye"))
    assert socket.read() == [(3001, "bye")]
    assert app.received == [{"type": "websocket.receive", "text": "last"}, disconnect(3001, "bye")]
    assert socket.closed
    socket.client.close()
    assert not rig.worker.connections
    assert not rig.worker.exchanges


def test_a_close_without_a_code_is_1005_and_is_answered_without_one():
    app = Recorder()
    socket = Socket(Rig(app))
    socket.raw(frame(0x88))
    assert app.received == [disconnect(1005)]
    socket.read()
    assert socket.data == b"\x88\x00"


@pytest.mark.parametrize("how", ["shutdown", "close", "reset"])
def test_a_connection_that_just_ends_is_1006(how):
    app = Recorder()
    rig = Rig(app)
    socket = Socket(rig)
    socket.say("a")
    if how == "shutdown":
        socket.client.sock.shutdown(1)
    else:
        socket.client.sock.close()
    rig.turn()
    assert app.received == [{"type": "websocket.receive", "text": "a"}, disconnect(1006)]
    assert not rig.worker.exchanges


def test_the_application_closes():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "a"})
        await send({"type": "websocket.send", "text": "b"})
        await send({"type": "websocket.close", "code": 3333, "reason": "ö" * 100})
        seen.append(await receive())
        with pytest.raises(RuntimeError, match="has been sent"):
            await send({"type": "websocket.send", "text": "late"})
        with pytest.raises(RuntimeError, match="has been sent"):
            await send({"type": "websocket.close"})

    seen = []
    rig = Rig(app)
    socket = Socket(rig)
    assert socket.read() == ["a", "b", (3333, "ö" * 61)]
    assert seen == [disconnect(3333, "ö" * 100)]
    assert not socket.closed  # it waits for the client's
    socket.answer_close()
    assert socket.closed
    socket.client.close()
    assert not rig.worker.connections


def test_messages_after_our_close_are_thrown_away_and_the_clients_close_is_found_behind_them():
    rig = Rig(Recorder({"type": "websocket.accept"}, {"type": "websocket.close"}), ws_max_queue=2)
    socket = Socket(rig)
    assert socket.read() == [(1000, "")]
    socket.raw(frame(0x81, b"late") * 100 + frame(0x89, b"p") + frame(0x88, b"\x03\xe8"))
    assert socket.read() == []
    assert socket.closed


def test_a_client_that_does_not_answer_our_close():
    rig = Rig(Recorder({"type": "websocket.accept"}, {"type": "websocket.close"}))
    socket = Socket(rig)
    rig.wait(CLOSE_TIMEOUT - 1)
    assert not socket.closed
    rig.wait(2)
    assert socket.closed
    rig.wait(LINGER)
    assert not rig.worker.connections


def test_an_application_that_returns_closes_with_1000_and_one_that_raises_with_1011(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/raise":
            raise ValueError("oh")

    assert Socket(Rig(app)).read() == [(1000, "")]
    assert caplog.text == ""
    assert Socket(Rig(app), handshake(path="/raise")).read() == [(1011, "")]
    assert caplog.text.count("Exception in ASGI application") == 1


def test_sending_to_a_client_that_has_closed_raises_and_is_not_logged(caplog):
    errors = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"
        for message in ({"type": "websocket.send", "text": "late"}, {"type": "websocket.close"}):
            try:
                await send(message)
            except OSError as error:
                errors.append(error)
        await send({"type": "websocket.send", "text": "late"})

    Socket(Rig(app)).answer_close()
    assert [type(error) for error in errors] == [ClientDisconnected, ClientDisconnected]
    assert caplog.text == ""


# What came before the end


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"\x81\x01a", 1002),  # not masked
        (frame(0x91, b"a"), 1002),  # a reserved bit
        (frame(0x83), 1002),
        (frame(0x80, b"no beginning"), 1002),
        (frame(0x81, b"\xff"), 1007),
        (frame(0x88, b"\x03"), 1002),
        (frame(0x88, b"\x03\xe8\xff"), 1007),
        (frame(0x88, b"\x03\xee"), 1002),  # 1006
    ],
)
def test_messages_before_an_illegal_frame_are_answered_first(bad, code):
    rig = Rig(echo)
    socket = Socket(rig)
    socket.raw(frame(0x81, b"one") + frame(0x82, b"two") + bad + frame(0x81, b"three"))
    seen = socket.read()
    assert seen[:2] == ["one", b"two"]
    assert seen[2][0] == code
    assert len(seen) == 3
    assert socket.closed


def test_an_application_that_does_not_come_back_for_the_end_has_its_time():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await pounce.sleep(60)
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "too late"})
        ends.append(await receive())

    ends = []
    rig = Rig(app)
    for last in (frame(0x83), frame(0x88, b"\x03\xe9")):
        socket = Socket(rig)
        socket.raw(frame(0x81, b"a") + last)
        rig.wait(LAST_WORDS - 0.5)
        assert socket.read() == []
        rig.wait(1)
        assert socket.read()[0][0] == (1002 if last == frame(0x83) else 1001)
        assert socket.closed
    rig.wait(60)
    assert [end["code"] for end in ends] == [1002, 1001]


def test_an_application_that_never_reads_is_not_waited_for():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await pounce.sleep(60)

    socket = Socket(Rig(app))
    assert socket.ask(events.CloseConnection(1000)) == [(1000, "")]


def test_the_applications_own_close_goes_before_the_answer_to_the_clients():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "text": "answer"})
        await send({"type": "websocket.close", "code": 4000, "reason": "mine"})

    socket = Socket(Rig(app))
    assert socket.ask("a", events.CloseConnection(1001)) == ["answer", (4000, "mine")]
    assert socket.closed


# Shutdown and limits


def test_shutdown_says_1012_to_all_at_once():
    apps = [Recorder() for _ in range(3)]
    made = iter(apps)

    async def app(scope, receive, send):
        await next(made)(scope, receive, send)

    rig = Rig(app)
    sockets = [Socket(rig) for _ in apps]
    rig.worker.stop()
    rig.turn()
    assert [socket.read() for socket in sockets] == [[(1012, "")]] * 3
    assert [app.received for app in apps] == [[disconnect(1012)]] * 3
    assert rig.worker.phase is Phase.DRAINING
    for socket in sockets:
        socket.answer_close()
        socket.client.close()
    rig.wait(1)
    assert rig.worker.phase is Phase.ENDED
    assert rig.worker.exit_code == 0


def test_shutdown_with_clients_that_do_not_answer_ends_all_the_same():
    rig = Rig(Recorder())
    Socket(rig)
    rig.worker.stop()
    rig.wait(CLOSE_TIMEOUT + LINGER + 1)
    assert rig.worker.phase is Phase.ENDED


def test_an_application_that_ignores_the_end_is_cancelled_after_the_graceful_time_out(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await pounce.sleep(1e6)

    rig = Rig(app)
    socket = Socket(rig, handshake(path="/stuck"))
    rig.worker.stop()
    rig.turn()
    assert socket.read() == [(1012, "")]
    socket.answer_close()
    rig.worker.cancel()
    rig.wait(2)
    assert rig.worker.phase is Phase.ENDED
    assert "Cancelled: WebSocket /stuck in test_an_application" in caplog.text


def test_a_handshake_that_is_accepted_during_shutdown_is_told_at_once():
    async def app(scope, receive, send):
        await pounce.sleep(1)
        await echo(scope, receive, send)

    rig = Rig(app)
    client = rig.connect()
    client.send(handshake())
    rig.worker.stop()
    rig.wait(2)
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\x88\x02\x03\xf4")


def test_open_sockets_count_for_limit_concurrency(caplog):
    rig = Rig(echo, limit_concurrency=2)
    sockets = [Socket(rig) for _ in range(3)]
    assert [socket.status for socket in sockets] == [101, 101, 503]
    assert "Exceeded concurrency limit." in caplog.text
    sockets[2].client.close()
    sockets[0].answer_close()
    sockets[0].client.close()
    assert Socket(rig).status == 101


def test_handshakes_count_for_the_request_limit():
    rig = Rig(Recorder(), limit_max_requests=2)
    sockets = [Socket(rig)]
    assert rig.reports == [Report.READY]
    sockets.append(Socket(rig))
    assert rig.reports == [Report.READY, Report.RETIRING]
    rig.worker.retire()  # as it is told
    assert [socket.read() for socket in sockets] == [[(1012, "")]] * 2


def test_nothing_is_kept_of_connections_that_are_over():
    rig = Rig(echo)
    for last in (frame(0x88), frame(0x83), b"", frame(0x81, b"x", length=10)):
        socket = Socket(rig)
        socket.raw(last)
        socket.client.close()
    rig.wait(60)
    assert not rig.worker.connections
    assert not rig.worker.exchanges
    shared = rig.worker.web_sockets
    assert [len(queue) for queue in (shared.ping, shared.pong, shared.close, shared.last_words)] == [0] * 4


def test_wsproto_is_loaded_at_the_first_handshake():
    import subprocess
    import sys

    script = (
        "import sys; from tests.support.harness import Rig; from tests.asgi.test_exchange import hello, GET\n"
        "Rig(hello).connect().ask(GET); assert not [m for m in sys.modules if 'wsproto' in m or 'websocket' in m]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_handshake_waits_for_its_turn_in_the_queue():
    rig = Rig(echo, limit_concurrency=1, limit_queue=1, queue_timeout=5)
    first, second = Socket(rig), rig.connect()
    second.send(handshake() + frame(0x81, b"patient"))
    assert second.read() == b""
    third = Socket(rig)
    assert (first.status, third.status) == (101, 503)
    assert third.field(b"retry-after")
    first.answer_close()
    assert second.read().endswith(b"\r\n\r\n\x81\x07patient")
