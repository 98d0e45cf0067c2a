"""What every `Transport` keeps: the sentences of its docstrings, and the calls of the `Handler`."""

import contextlib
import os

import h11
import pytest
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from pounce.net.byte_stream import HIGH_WATER
from pounce.protocols.events import ApplicationError
from tests.contracts.byte_stream import is_open
from tests.contracts.transport import IMPLEMENTATIONS

TEXT = [(b"content-type", b"text/plain")]


@pytest.fixture(params=IMPLEMENTATIONS)
def ends(request):
    ends = IMPLEMENTATIONS[request.param]()
    yield ends
    ends.close()
    for handler in ends.handlers:
        assert handler.events.count("start") <= 1
        assert handler.events.count("lost") <= 1
        assert "after the loss" not in handler.events


def response(events):
    """Status, content, and trailers of the final response."""
    heads = [event for event in events if type(event) is h11.Response]
    assert len(heads) == 1
    assert type(events[-1]) is h11.EndOfMessage
    data = b"".join(bytes(event.data) for event in events if type(event) is h11.Data)
    return heads[0].status_code, data, list(events[-1].headers)


def test_a_response_in_parts_arrives_whole(ends):
    handler = ends.ask()
    assert handler.events == ["start"]
    handler.transport.send_head(200, TEXT, False)
    handler.transport.send_body(b"one", True)
    handler.transport.send_body(b"two", True)
    handler.transport.send_body(b"", False)
    assert response(ends.read()) == (200, b"onetwo", [])
    assert "lost" not in handler.events


def test_a_head_is_held_back_until_it_is_flushed(ends):
    handler = ends.ask()
    handler.transport.send_head(200, [(b"content-length", b"3")], False)
    ends.ends.turn()
    assert not ends.ends.stream.buffered
    ends.ends.client.setblocking(False)
    with pytest.raises(BlockingIOError):
        ends.ends.client.recv(1)
    ends.ends.client.settimeout(20)
    handler.transport.flush_head()
    assert ends.ends.read(1)[0] == b"H"
    ends.parser.receive_data(b"H")
    handler.transport.send_body(b"one", False)
    assert response(ends.read()) == (200, b"one", [])


def test_a_head_that_is_not_legal_changes_nothing(ends):
    handler = ends.ask()
    for status, fields in ((99, []), ("200", []), (200, [(b"a b", b"c")]), (200, [(b"a", b"b\r\nc")])):
        with pytest.raises(ApplicationError):
            handler.transport.send_head(status, fields, False)
    handler.transport.send_head(200, TEXT, False)
    handler.transport.send_body(b"one", False)
    assert response(ends.read()) == (200, b"one", [])


def test_content_of_the_wrong_length_changes_nothing_and_the_held_head_can_be_replaced(ends):
    handler = ends.ask()
    handler.transport.send_head(200, [(b"content-length", b"3")], False)
    with pytest.raises(ApplicationError):
        handler.transport.send_body(b"four", False)
    handler.transport.send_error(500, "Internal Server Error")
    assert response(ends.read()) == (500, b"Internal Server Error", [])


def test_send_file_takes_the_descriptor_over_unless_it_raises(ends, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    fd = os.open(path, os.O_RDONLY)
    file = os.fstat(fd)
    handler = ends.ask()
    handler.transport.send_head(200, [(b"content-length", b"9")], False)
    with pytest.raises(ApplicationError):
        handler.transport.send_file(fd, 5)
    assert is_open(fd, file)
    handler.transport.send_head(200, TEXT, False)
    handler.transport.send_file(fd, 5)
    assert response(ends.read()) == (200, b"12345", [])
    assert not is_open(fd, file)


def test_trailers_follow_the_content_where_the_client_takes_them(ends):
    handler = ends.ask(fields=(("te", "trailers"),))
    handler.transport.send_head(200, TEXT, True)
    handler.transport.send_body(b"one", False)
    handler.transport.send_trailers([(b"a", b"1")], True)
    handler.transport.send_trailers([(b"b", b"2")], False)
    assert response(ends.read()) == (200, b"one", [(b"a", b"1"), (b"b", b"2")])


def test_trailers_are_left_out_for_another_client(ends):
    handler = ends.ask()
    handler.transport.send_head(200, TEXT, True)
    handler.transport.send_body(b"one", False)
    handler.transport.send_trailers([(b"a", b"1")], False)
    assert response(ends.read()) == (200, b"one", [])


def test_early_hints_come_before_the_response(ends):
    handler = ends.ask()
    with pytest.raises(ApplicationError):
        handler.transport.send_early_hints([b"a\r\nb"])
    handler.transport.send_early_hints([b"</a.css>; rel=preload"])
    handler.transport.send_head(200, TEXT, False)
    handler.transport.send_body(b"one", False)
    hints, *rest = ends.read()
    assert hints.status_code == 103
    assert list(hints.headers) == [(b"link", b"</a.css>; rel=preload")]
    assert response(rest) == (200, b"one", [])


@pytest.mark.parametrize("fields", [TEXT, [(b"content-length", b"9")]])
def test_after_abort_the_client_sees_no_whole_response(ends, fields):
    handler = ends.ask()
    handler.transport.send_head(200, fields, False)
    handler.transport.send_body(b"one", True)
    ends.ends.turn()
    handler.transport.abort()
    assert isinstance(ends.read()[-1], Exception)
    assert "lost" not in handler.events  # it has ended the response itself


def test_a_congested_transport_tells_when_it_is_writable(ends):
    handler = ends.ask()
    handler.transport.send_head(200, TEXT, False)
    assert not handler.transport.congested
    handler.transport.send_body(bytes(1 << 21), True)
    assert handler.transport.congested
    assert "writable" not in handler.events
    ends.ends.read(1 << 21)
    ends.ends.until(lambda: "writable" in handler.events)
    assert not handler.transport.congested


def test_content_comes_in_order_and_complete_with_its_last_part(ends):
    handler = ends.ask("POST", fields=(("content-length", "6"),), body=b"one")
    ends.ends.until(lambda: handler.content == b"one")
    assert not handler.content_complete
    handler.transport.read_more(3)
    ends.ends.client.sendall(b"two")
    ends.ends.until(lambda: handler.content_complete)
    assert handler.content == b"onetwo"
    assert handler.events.count("start") == 1


def test_content_that_is_not_taken_is_not_read_without_bound(ends):
    handler = ends.ask("POST", fields=(("content-length", "10000000"),))
    ends.ends.client.setblocking(False)
    for _ in range(100):
        with contextlib.suppress(BlockingIOError):
            ends.ends.client.send(bytes(65536))
        ends.ends.turn()
    held = len(handler.content)
    assert HIGH_WATER < held < 1 << 20
    handler.transport.read_more(held)
    ends.ends.until(lambda: len(handler.content) > held)


def test_100_continue_is_sent_once_when_content_is_first_asked_for(ends):
    handler = ends.ask("POST", fields=(("content-length", "3"), ("expect", "100-continue")))
    handler.transport.read_more(0)
    handler.transport.read_more(0)
    ends.ends.client.sendall(b"one")
    ends.ends.until(lambda: handler.content_complete)
    handler.transport.send_head(200, TEXT, False)
    handler.transport.send_body(b"x", False)
    ends.parser.send(h11.Data(data=b"one"))
    interim, *rest = ends.read()
    assert interim.status_code == 100
    assert response(rest) == (200, b"x", [])


def test_the_end_of_what_the_client_sends_is_told_and_it_can_be_answered(ends):
    handler = ends.ask()
    ends.ends.client.shutdown(1)
    ends.ends.until(lambda: "eof" in handler.events)
    handler.transport.send_head(200, TEXT, False)
    handler.transport.send_body(b"one", False)
    assert response(ends.read()) == (200, b"one", [])


def test_a_lost_client_is_told_once_and_last(ends):
    handler = ends.ask()
    ends.ends.stream.abort()
    ends.ends.turn()
    assert handler.events[-1] == "lost"


def test_illegal_content_loses_the_handler_and_is_answered_where_it_is_answerable(ends):
    handler = ends.ask("POST", fields=(("transfer-encoding", "chunked"),))
    ends.ends.client.sendall(b"illegal\r\n")
    ends.ends.until(lambda: "lost" in handler.events)
    events = ends.read()
    assert events[0].status_code == 400


def test_a_response_given_within_start_is_followed_by_the_next_request(ends):
    def answer(handler):
        handler.transport.send_head(200, TEXT, False)
        handler.transport.send_body(b"one", False)

    ends.on_start = answer
    for _ in range(3):
        ends.ask()
        assert response(ends.read()) == (200, b"one", [])
        ends.parser.start_next_cycle() if ends.parser.our_state is h11.DONE else None
    assert len(ends.handlers) == 3


def test_illegal_content_cuts_off_a_response_that_has_begun(ends):
    handler = ends.ask("POST", fields=(("transfer-encoding", "chunked"),))
    handler.transport.send_head(200, TEXT, False)
    handler.transport.send_body(b"one", True)
    handler.answerable = False
    ends.ends.client.sendall(b"illegal\r\n")
    ends.ends.until(lambda: "lost" in handler.events)
    head, *rest = ends.read()
    assert head.status_code == 200
    assert isinstance(rest[-1], Exception)


@pytest.mark.parametrize("field", [(b"content-length", b"3"), (b"a b", b"c"), (b"a", b"b\r\nc")])
@pytest.mark.parametrize("client", [(("te", "trailers"),), ()], ids=["taken", "not taken"])
def test_trailers_that_are_not_legal_change_nothing(ends, client, field):
    handler = ends.ask(fields=client)
    handler.transport.send_head(200, TEXT, True)
    handler.transport.send_body(b"one", False)
    with pytest.raises(ApplicationError):
        handler.transport.send_trailers([(b"a", b"1"), field], False)
    handler.transport.send_trailers([(b"a", b"1")], False)
    assert response(ends.read()) == (200, b"one", [(b"a", b"1")] if client else [])


@pytest.mark.parametrize("close", [False, True])
def test_send_error_ends_the_connection_where_it_is_told_to(ends, close):
    handler = ends.ask()
    handler.transport.send_error(503, "Service Unavailable", [(b"retry-after", b"1")], close=close)
    events = ends.read()
    assert response(events) == (503, b"Service Unavailable", [])
    assert (b"retry-after", b"1") in list(events[0].headers)
    assert "lost" not in handler.events
    assert ends.goes_on is not close


# WebSockets


def accepted(ends, *early, fields=()):
    """An accepted WebSocket: its handler, and its transport of messages."""
    handler, handshake = ends.ask_for_websocket(*early)
    messages = handler.transport.upgrade(handler, handshake, "chat", fields)
    messages.begin()
    status, sent = ends.read_accepted()
    assert status == ends.accepted_status
    assert (b"sec-websocket-protocol", b"chat") in sent
    assert all(field in sent for field in fields)
    return handler, messages


def test_upgrade_accepts_a_websocket_which_carries_messages_both_ways(ends):
    handler, messages = accepted(ends, fields=[(b"x-own", b"1")])
    assert messages.next_message() is None
    for data, event in (("text", TextMessage), (b"bytes", BytesMessage)):
        messages.send(data)
        assert ends.read_frame().data == data
        ends.say(event(data))
        ends.ends.until(lambda: handler.events.count("message"))
        assert messages.next_message() == data
        handler.events.remove("message")
    assert messages.disconnect is None
    assert "lost" not in handler.events


def test_what_the_client_sends_behind_its_handshake_is_the_first_message(ends):
    handler, messages = accepted(ends, "early", "also")
    ends.ends.until(lambda: handler.events.count("message") == 2)
    assert [messages.next_message(), messages.next_message(), messages.next_message()] == ["early", "also", None]


@pytest.mark.parametrize(
    ("subprotocol", "fields"),
    [("unknown", []), ("chat", [(b"a b", b"c")]), ("chat", [(b"a", b"b\r\nc")]), ("chat", [(b"a", "b")])],
)
def test_an_upgrade_that_is_not_legal_changes_nothing(ends, subprotocol, fields):
    handler, handshake = ends.ask_for_websocket()
    with pytest.raises(ApplicationError):
        handler.transport.upgrade(handler, handshake, subprotocol, fields)
    handler.transport.send_error(403, "Forbidden")
    assert response(ends.read()) == (403, b"Forbidden", [])
    assert "lost" not in handler.events


def test_close_by_the_application_reaches_the_client_and_is_the_disconnect(ends):
    handler, messages = accepted(ends)
    messages.close_by_application(4000, "enough")
    event = ends.read_frame()
    assert (event.code, event.reason) == (4000, "enough")
    assert messages.disconnect == (4000, "enough")
    assert messages.closed_by_application
    assert handler.events[-1] == "lost"
    messages.application_ended(1000)
    ends.say(event.response())
    ends.ends.until(lambda: not ends.ends.stream.is_open)


def test_close_by_the_client_is_the_disconnect_and_is_answered(ends):
    handler, messages = accepted(ends)
    ends.say(CloseConnection(4001, "bye"))
    ends.ends.until(lambda: "lost" in handler.events)
    assert messages.disconnect == (4001, "bye")
    assert not messages.closed_by_application
    assert ends.read_frame().code == 4001


def test_the_end_of_the_application_closes_with_its_code_and_is_the_last_call(ends):
    handler, messages = accepted(ends)
    messages.application_ended(1011)
    assert ends.read_frame().code == 1011
    assert "lost" not in handler.events
    assert messages.disconnect == (1011, "")


def test_a_websocket_whose_client_has_gone_tells_its_handler_once(ends):
    handler, messages = accepted(ends)
    ends.ends.stream.abort()
    ends.ends.turn()
    assert messages.disconnect == (1006, "")
    assert handler.events.count("lost") == 1


def test_a_websocket_that_is_congested_tells_when_it_is_writable(ends):
    handler, messages = accepted(ends)
    assert not messages.congested
    messages.send(bytes(1 << 21))
    assert messages.congested
    assert "writable" not in handler.events
    got = 0
    while got < 1 << 21:
        got += len(ends.read_frame().data)
    ends.ends.until(lambda: "writable" in handler.events)
    assert not messages.congested
