"""WebSocket frames without sockets: masks, both lanes, compression and its bounds."""

import functools
import itertools
import tracemalloc
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, events
from wsproto.connection import Connection, ConnectionState
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import FrameProtocol

from pounce.protocols.ws import deflate, frames, masks

UNMASK = masks.Unmasker()


def xor(data, key):
    return bytes(byte ^ key[place % 4] for place, byte in enumerate(data))


def frame(first, payload=b"", key=b"\x01\x80\xfe\x33", length=None):
    """A masked frame; `length` is what its head says, in the shortest form."""
    length = len(payload) if length is None else length
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 65536:
        head = bytes((first, 0xFE)) + length.to_bytes(2)
    else:
        head = bytes((first, 0xFF)) + length.to_bytes(8)
    return head + key + xor(payload, key)


def inflating(limit=1 << 24, **bits):
    extension = deflate.Deflate(limit)
    for name, value in bits.items():
        setattr(extension, name, value)
    return extension


def read(data, cuts=(), limit=1 << 24, extension=None):
    """Everything a codec makes of `data`, cut at these places; the last is the code of its error, if there is one."""
    reader = frames.FrameCodec(limit, extension, UNMASK)
    seen = []
    places = [0, *sorted(cuts), len(data)]
    try:
        for start, end in itertools.pairwise(places):
            reader.feed(data[start:end])
            while (event := reader.next()) is not None:
                seen.append(event if isinstance(event, str | bytes) else described(event))
                if isinstance(event, frames.Close):
                    return seen
    except frames.FrameError as error:
        seen.append(error.code)
    return seen


def described(event):
    if isinstance(event, frames.Close):
        return ("close", event.code, event.reason)
    return ("pong" if isinstance(event, frames.Pong) else "ping", bytes(event.payload))


def reference(data, extension=None):
    """The same by wsproto alone."""
    connection = Connection(ConnectionType.SERVER, [extension] if extension else [])
    connection.receive_data(data)
    seen, parts = [], []
    for event in connection.events():
        if isinstance(event, events.Message):
            parts.append(event.data)
            if event.message_finished:
                seen.append(type(event.data)().join(parts))
                parts = []
        elif isinstance(event, events.Ping):
            seen.append(("ping", bytes(event.payload)))
        elif isinstance(event, events.Pong):
            seen.append(("pong", bytes(event.payload)))
        elif connection.state is ConnectionState.REMOTE_CLOSING:
            seen.append(("close", int(event.code), event.reason))
        else:
            seen.append(int(event.code))
    return seen


@pytest.mark.parametrize("native", [True, False], ids=["as found", "tables"])
@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 511, 512, 513, 519, 4096, 65535, 65536, 65541, 200_003])
def test_unmasking_is_xor_at_any_size(native, size):
    payload = bytes(place * 7 % 251 for place in range(size))
    unmask, key = masks.Unmasker(native=native), b"\x00\xff\x12\x80"
    assert unmask(b"before" + payload + b"behind", 6, 6 + size, key) == xor(payload, key)


DATA = st.one_of(
    st.tuples(st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80]), st.text(max_size=70).map(str.encode)),
    st.tuples(st.sampled_from([0x81, 0x82, 0x01, 0x80]), st.binary(max_size=300)),
    st.tuples(st.sampled_from([0x81, 0x82, 0x01, 0x80]), st.sampled_from([b"x" * 65535, "ä".encode() * 40000])),
    st.tuples(st.sampled_from([0x89, 0x8A, 0x09]), st.binary(max_size=130)),
    st.tuples(st.just(0x88), st.sampled_from([b"", b"\x03", b"\x03\xe8bye", b"\x03\xe8\xff", b"\x0b\xb8"])),
    st.tuples(st.sampled_from([0xC1, 0xA1, 0x91, 0x83, 0x8B]), st.binary(max_size=20)),
)


FRAMES = st.lists(st.tuples(DATA, st.binary(min_size=4, max_size=4)), max_size=8).map(
    lambda parts: b"".join(frame(first, payload, key) for (first, payload), key in parts)
)


@settings(max_examples=150, deadline=None)
@given(FRAMES, st.data())
def test_lanes_agree_however_the_bytes_are_cut(data, draw):
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=12))
    expected = reference(data)
    assert read(data) == expected
    assert read(data, cuts) == expected
    if len(data) < 2000:
        assert read(data, range(1, len(data))) == expected


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
@example(b"\0\x7f\x81", [])  # a length that cannot be, of a frame that has no place here, without a mask
@example(b"\0\xff\x7f" + b"\xff" * 7, [])
def test_lanes_agree_on_random_bytes(data, cuts):
    data += bytes(14)  # wsproto sees some faults in half a head already, the fast lane when it is whole
    assert read(data, [cut for cut in cuts if cut <= len(data)], limit=1 << 63) == reference(data)


MESSAGES = st.lists(
    st.tuples(
        st.one_of(st.text(max_size=60), st.binary(max_size=300), st.just("again " * 200)),
        st.integers(1, 4),  # fragments
        st.booleans(),  # compressed?
        st.booleans(),  # a ping before it and between the fragments?
    ),
    max_size=6,
)


def fragments(message, count, compressor, ping):
    payload = message.encode() if isinstance(message, str) else message
    first = 1 if isinstance(message, str) else 2
    if compressor:
        payload = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        first |= 0x40
    step = len(payload) // count + 1
    data = frame(0x89, b"between") if ping else b""
    for number in range(count):
        last = 0x80 if number == count - 1 else 0
        data += frame((0 if number else first) | last, payload[number * step : (number + 1) * step])
        if ping and not last:
            data += frame(0x89, b"between")
    return data


@settings(max_examples=150, deadline=None)
@given(MESSAGES, st.booleans(), st.data())
def test_messages_arrive_whole_whatever_frames_they_are_made_of(messages, takeover, draw):
    compressor = zlib.compressobj(wbits=-15)
    data, expected = b"", []
    for message, count, compressed, ping in messages:
        if not takeover:
            compressor = zlib.compressobj(wbits=-15)
        data += fragments(message, count, compressor if compressed else None, ping)
        expected += [("ping", b"between")] * (count if ping else 0) + [message]
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=12))
    assert read(data, cuts, extension=inflating(client_no_context_takeover=not takeover)) == expected


def test_wsproto_by_itself_loses_its_place_when_a_ping_comes_between_compressed_fragments():
    """The reason for `Deflate`. When this test fails, wsproto has been repaired."""
    data = fragments("again " * 20, 2, zlib.compressobj(wbits=-15), ping=True)
    extension = PerMessageDeflate()
    extension.accept("permessage-deflate")
    assert "again " * 20 not in reference(data, extension)
    assert read(data, extension=inflating())[-1] == "again " * 20


def test_a_ping_that_came_in_pieces_does_not_touch_the_compressed_message_behind_it():
    ping = frame(0x89, b"p")
    data = ping + fragments("again " * 20, 1, zlib.compressobj(wbits=-15), ping=False)
    assert read(data, [3, len(ping) + 8], extension=inflating()) == [("ping", b"p"), "again " * 20]
    assert read(frame(0xC9, b"p"), [3], extension=inflating()) == [1002]


def test_text_that_is_not_utf_8_is_1007_as_soon_as_it_comes():
    good, bad = "κόσμε".encode(), b"\xf4\x90\x80\x80"
    whole = frame(0x81, good + bad + b"more that never comes")
    reader = frames.FrameCodec(1 << 20, None, UNMASK)
    reader.feed(whole[: 6 + len(good) + 1])
    assert reader.next() is None  # the first byte of it could still become something
    reader.feed(whole[6 + len(good) + 1 : 6 + len(good) + 2])
    with pytest.raises(frames.FrameError) as caught:
        reader.next()
    assert caught.value.code == 1007
    assert read(frame(0x01, good + bad[:1]) + frame(0x00, bad[1:2])) == [1007]


def test_text_may_be_cut_within_a_character_by_frames_and_1007_if_it_ends_there():
    data = "ä€😀".encode()
    assert read(b"".join(frame(0x01 if place == 0 else 0x00, data[place : place + 1]) for place in range(9))
                + frame(0x80)) == ["ä€😀"]  # fmt: skip
    assert read(frame(0x81, data[:-1])) == [1007]


def test_message_that_is_too_large_is_refused_1009_at_its_head():
    assert read(frame(0x82, length=101)[:6], limit=100) == [1009]
    assert read(frame(0x81, b"x" * 100), limit=100) == ["x" * 100]
    assert read(frame(0x01, b"x" * 60) + frame(0x80, length=41)[:6], limit=100) == [1009]
    assert read(frame(0x01, b"x" * 60) + frame(0x80, b"x" * 40), limit=100) == ["x" * 100]
    assert read(frame(0x81, b"x" * 60) * 2, limit=100) == ["x" * 60] * 2


@functools.cache
def bomb(size, first=0xC2):
    compressor = zlib.compressobj(9, wbits=-15)
    return frame(first, (compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4])


@pytest.mark.parametrize("cuts", [(), (1000, 9000)], ids=["in one read", "in three"])
def test_compression_bomb_is_refused_1009_before_it_is_in_memory(cuts):
    data = bomb(300 << 20)
    tracemalloc.start()
    try:
        assert read(data, cuts, limit=1 << 20, extension=inflating(1 << 20)) == [1009]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_ws_max_size_1009_counts_all_fragments_of_a_message_inflated():
    compressor = zlib.compressobj(wbits=-15)
    data = fragments(bytes(1001), 3, compressor, ping=False)
    assert read(data, limit=1000, extension=inflating(1000)) == [1009]
    compressor = zlib.compressobj(wbits=-15)
    data = fragments(bytes(1000), 3, compressor, ping=False)
    assert read(data, limit=1000, extension=inflating(1000)) == [bytes(1000)]
    assert read(bomb(1000) + frame(0x82, b"y" * 1000), limit=1000, extension=inflating(1000)) == [
        bytes(1000),
        b"y" * 1000,
    ]


def test_a_final_block_ends_a_context_and_what_follows_it_is_dropped():
    """RFC 7692, section 7.2.3.5."""
    final = zlib.compressobj(wbits=-15)
    payload = final.compress(b"Hello") + final.flush() + b"\x00"
    assert read(frame(0xC1, payload) * 2, extension=inflating()) == ["Hello"] * 2
    data = frame(0x41, payload) + frame(0x00, b"junk" * 1000) * 1000 + frame(0x80)
    tracemalloc.start()
    try:
        assert read(data, range(0, len(data), 4096), extension=inflating()) == ["Hello"]
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_invalid_deflate_data_is_1007():
    assert read(frame(0xC1, b"\xff\xff\xff"), extension=inflating()) == [1007]
    assert read(frame(0x41, b"\xff\xff\xff") + frame(0x80), extension=inflating()) == [1007]
    assert read(frame(0xC1, b"")) == [1002]


def test_input_byte_by_byte_costs_little_memory():
    data = frame(0x82, bytes(100_000))
    tracemalloc.start()
    try:
        reader = frames.FrameCodec(1 << 20, None, UNMASK)
        for place in range(len(data) - 1):
            reader.feed(data[place : place + 1])
            assert reader.next() is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 19
    finally:
        tracemalloc.stop()


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300), st.sampled_from(["x" * 70000, b"y" * 65535])))
def test_messages_are_framed_as_wsproto_frames_them(message):
    assert b"".join(frames.FrameCodec(1, None, UNMASK).message(message)) == FrameProtocol(False, []).send_data(message)


def test_compressed_messages_are_what_a_client_understands():
    client = Connection(ConnectionType.CLIENT, [extension := PerMessageDeflate()])
    extension.accept("permessage-deflate; server_max_window_bits=12")
    client._proto.extensions = client._proto._frame_decoder.extensions = [extension]
    server = frames.FrameCodec(1, inflating(server_max_window_bits=12), UNMASK)
    messages = ["short", "again and " * 30, b"\x00" * 1000, "again and " * 30]
    sent = [b"".join(server.message(message)) for message in messages]
    assert [frame[0] & 0x40 for frame in sent] == [0, 0x40, 0x40, 0x40]
    assert len(sent[3]) < len(sent[1])  # the context is taken over
    client.receive_data(b"".join(sent))
    assert [event.data for event in client.events()] == messages


def test_close_ping_and_pong_are_framed_as_wsproto_frames_them():
    protocol = FrameProtocol(False, [])
    assert frames.close(1000) == protocol.close(1000)
    assert frames.close(1001, "bye") == protocol.close(1001, "bye")
    assert frames.close(1005) == protocol.close()
    assert frames.close(1000, "ä" * 100) == protocol.close(1000, "ä" * 100)
    assert frames.ping(b"a") == protocol.ping(b"a")
    assert frames.pong(b"a") == protocol.pong(b"a")


def test_close_codes_that_an_application_may_send():
    allowed = {code for code in range(6000) if frames.may_be_sent(code)}
    assert allowed == {1000, 1001, 1002, 1003, 1005, *range(1007, 1015), *range(3000, 5000)}
