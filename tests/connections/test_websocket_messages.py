"""WebSocket messages: forms, order, compression, and however their bytes are cut."""

import itertools
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, events
from wsproto.connection import Connection

from tests.support.harness import Rig
from tests.support.websockets import Recorder, Socket, disconnect, echo, frame, handshake, texts


def test_receive_gives_text_or_bytes_never_both():
    app = Recorder()
    socket = Socket(Rig(app))
    socket.say("text", b"bytes", "")
    assert app.received == [
        {"type": "websocket.receive", "text": "text"},
        {"type": "websocket.receive", "bytes": b"bytes"},
        {"type": "websocket.receive", "text": ""},
    ]


def test_messages_of_any_size_and_kind_are_echoed():
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
def test_send_of_an_invalid_message_raises_and_closes_1011(message, caplog):
    app = Recorder({"type": "websocket.accept"}, message)
    socket = Socket(Rig(app))
    assert isinstance(app.error, RuntimeError)
    assert socket.read() == [(1011, "")]
    assert caplog.text.count("Exception in ASGI application") == 1


def test_send_takes_text_and_bytes_in_all_their_forms():
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

        write, kept = module.SocketStream.write, module.send_bytes
        monkeypatch.setattr(module.SocketStream, "write", lambda s, d: (self.sent.append(bytes(d)), write(s, d))[1])
        monkeypatch.setattr(
            module, "send_bytes", lambda s, parts: (self.sent.append(b"".join(parts)), kept(s, parts))[1]
        )


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
def test_messages_arrive_however_their_bytes_are_cut(messages, cuts):
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


def compressing(rig):
    request = handshake("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    client = rig.connect()
    head, _, rest = client.ask(request).partition(b"\r\n\r\n")
    return client, head, rest


def test_ws_per_message_deflate_is_on_unless_it_is_off():
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


def test_ws_max_size_closes_1009_for_a_compression_bomb():
    app = Recorder()
    rig = Rig(app, ws_max_size=1 << 20)
    client, _, _ = compressing(rig)
    compressor = zlib.compressobj(wbits=-15)
    bomb = (compressor.compress(bytes(50 << 20)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    client.send(frame(0x82 | 0x40, bomb))
    assert client.read()[2:4] == (1009).to_bytes(2)
    assert app.received == [disconnect(1009, "the message is too large")]
    assert client.closed


def test_ws_max_size_closes_1009_for_a_message_that_is_too_large():
    app = Recorder()
    socket = Socket(Rig(app, ws_max_size=100))
    assert socket.ask("x" * 100) == []
    assert socket.ask("x" * 101) == [(1009, "the message is too large")]
    assert texts(app) == ["x" * 100]
    assert socket.closed


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
def test_messages_before_an_invalid_frame_are_answered_first(bad, code):
    rig = Rig(echo)
    socket = Socket(rig)
    socket.raw(frame(0x81, b"one") + frame(0x82, b"two") + bad + frame(0x81, b"three"))
    seen = socket.read()
    assert seen[:2] == ["one", b"two"]
    assert seen[2][0] == code
    assert len(seen) == 3
    assert socket.closed
