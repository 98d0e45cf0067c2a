"""The WebSocket handshake without sockets: its fields, and what is taken of an offer of permessage-deflate."""

import pytest

from pounce.protocols.events import WebSocketRequest
from pounce.protocols.ws import deflate
from pounce.protocols.ws.handshake import Handshake, HandshakeError

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455, section 1.3


def request(*fields, method="GET"):
    return WebSocketRequest(method, b"/", b"", "1.1", [(b"host", b"a"), *fields], True, 0, False)


GOOD = (
    (b"upgrade", b"websocket"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", KEY),
)


def changed(name, *values):
    return [field for field in GOOD if field[0] != name] + [(name, value) for value in values]


def test_handshake_of_the_rfc_is_answered_101():
    answer = Handshake(request(*GOOD)).answer([], b"", b"date: x\r\nserver: y\r\n", None)
    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\ndate: x\r\nserver: y\r\n\r\n"
    )


def test_handshake_default_field_may_be_the_applications():
    answer = Handshake(request(*GOOD)).answer([(b"Server", b"z")], b"Server: z\r\n", b"date: x\r\nserver: y\r\n", None)
    assert b"server: y" not in answer
    assert b"date: x\r\nServer: z\r\n" in answer


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (changed(b"connection"), 400),
        (changed(b"connection", b"keep-alive"), 400),
        (changed(b"sec-websocket-version"), 426),
        (changed(b"sec-websocket-version", b"8"), 426),
        (changed(b"sec-websocket-version", b"13", b"13"), 426),
        (changed(b"sec-websocket-key"), 400),
        (changed(b"sec-websocket-key", KEY, KEY), 400),
        (changed(b"sec-websocket-key", KEY[:-1]), 400),
        (changed(b"sec-websocket-key", b"!" + KEY[1:]), 400),
        (changed(b"sec-websocket-key", b"AAAA"), 400),
        ([*GOOD, (b"sec-websocket-protocol", b"a b")], 400),
        ([*GOOD, (b"sec-websocket-extensions", b"a;;b")], 400),
        ([*GOOD, (b"sec-websocket-extensions", b'a; b="c d"')], 400),
        ([*GOOD, (b"sec-websocket-extensions", b"a; b=")], 400),
    ],
)
def test_invalid_handshake_is_400_or_426(fields, status):
    with pytest.raises(HandshakeError) as caught:
        Handshake(request(*fields))
    assert caught.value.status == status
    if status == 426:
        # RFC 6455 section 4.4, RFC 9110 sections 15.5.22 and 7.8
        assert dict(caught.value.fields) == {
            b"sec-websocket-version": b"13", b"upgrade": b"websocket", b"connection": b"Upgrade",
        }  # fmt: skip


def test_handshake_must_be_get():
    with pytest.raises(HandshakeError, match="GET"):
        Handshake(request(*GOOD, method="POST"))


def test_handshake_lists_may_stand_in_several_fields():
    handshake = Handshake(
        request(
            *changed(b"connection", b"x", b"UPGRADE"),
            (b"sec-websocket-protocol", b"a, b"),
            (b"sec-websocket-protocol", b",c ,"),
            (b"sec-websocket-extensions", b'x; y="1"; z, u'),
            (b"sec-websocket-extensions", b"v;w=2"),
        )
    )
    assert handshake.subprotocols == ["a", "b", "c"]
    assert handshake.offers == [("x", [("y", "1"), ("z", None)]), ("u", []), ("v", [("w", "2")])]


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("", "permessage-deflate; server_max_window_bits=12"),
        ("; client_max_window_bits", "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"),
        ("; client_max_window_bits=10", "permessage-deflate; server_max_window_bits=12; client_max_window_bits=10"),
        ("; client_max_window_bits=8", "permessage-deflate; server_max_window_bits=12"),
        ("; server_max_window_bits=9", "permessage-deflate; server_max_window_bits=9"),
        ("; server_max_window_bits=15", "permessage-deflate; server_max_window_bits=12"),
        (
            "; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits=12; server_no_context_takeover; client_no_context_takeover",
        ),
        ("; server_max_window_bits=8", None),  # zlib cannot
        ("; server_max_window_bits", None),
        ("; server_max_window_bits=16", None),
        ("; server_max_window_bits=09", None),
        ("; client_max_window_bits=7", None),
        ("; server_no_context_takeover=1", None),
        ("; client_no_context_takeover; client_no_context_takeover", None),
        ("; mystery", None),
    ],
)
def test_permessage_deflate_parameters_that_are_accepted(offer, answer):
    handshake = Handshake(request(*GOOD, (b"sec-websocket-extensions", f"x, permessage-deflate{offer}".encode())))
    taken = deflate.negotiate(handshake.offers, 1 << 20)
    assert (taken.answer() if taken else None) == answer


def test_permessage_deflate_takes_the_first_acceptable_offer():
    offers = [("permessage-deflate", [("mystery", None)]), ("permessage-deflate", [("server_max_window_bits", "10")])]
    assert deflate.negotiate(offers, 1).answer() == "permessage-deflate; server_max_window_bits=10"
