"""What every `ByteStream` keeps: the sentences of its docstrings, one after the other."""

import os
import socket
import struct

import pytest

from pounce.net.byte_stream import HIGH_WATER, LOW_WATER
from tests.contracts.byte_stream import IMPLEMENTATIONS, WRITE_TIMEOUT, Recorder, is_open

LARGE = bytes(range(256)) * 8192  # 2 MiB: more than the kernel takes


@pytest.fixture(params=IMPLEMENTATIONS)
def ends(request):
    ends = IMPLEMENTATIONS[request.param]()
    yield ends
    ends.close()
    assert len(ends.owner.lost) <= 1
    assert "after the loss" not in ends.owner.events


@pytest.fixture
def opened(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(LARGE)

    def opened():
        fd = os.open(path, os.O_RDONLY)
        return fd, os.fstat(fd)

    return opened


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# Writing


@pytest.mark.parametrize("turns", [0, 1])
def test_bytes_arrive_complete_and_in_the_order_of_the_calls_whatever_the_way_of_writing(ends, opened, turns):
    stream, expected = ends.stream, b""
    for round_ in range(2):
        for size in (0, 1, 600, 9000, 200_000):
            stream.write(b"w" * size)
            stream.write_soon((b"s" * size, b"", b"t" * size))
            stream.write_parts((b"p" * size, b"q" * size))
            fd, _ = opened()
            stream.write_file(b"head", fd, size, size)
            stream.write_soon((b"%d" % round_,))
            expected += b"w" * size + b"s" * size + b"t" * size + b"p" * size + b"q" * size
            expected += b"head" + LARGE[size : 2 * size] + b"%d" % round_
            ends.turn(turns)
    stream.close()
    assert ends.read() == (expected, None)
    ends.client.close()  # else the stream may look for acknowledgements again, at a time that does not come by itself
    ends.until(lambda: ends.owner.lost)


def test_what_is_written_soon_leaves_without_another_call(ends):
    ends.stream.write_soon((b"a", b"b"))
    ends.stream.write_soon((b"c",))
    assert ends.read(3) == (b"abc", None)
    assert not ends.stream.buffered


def test_write_resumed_comes_once_when_a_full_buffer_has_fallen_to_low_water(ends):
    ends.stream.write(LARGE)
    assert HIGH_WATER < ends.stream.buffered <= len(LARGE)
    ends.turn()
    assert not ends.owner.events
    assert ends.read(len(LARGE)) == (LARGE, None)
    ends.until(lambda: not ends.stream.buffered)
    [(event, buffered)] = ends.owner.events
    assert event == "resumed"
    assert buffered <= LOW_WATER


def test_write_resumed_does_not_come_for_a_buffer_that_was_never_full(ends):
    ends.stream.write_soon((b"x" * (LOW_WATER - 1),))
    assert ends.stream.buffered == LOW_WATER - 1
    ends.read(LOW_WATER - 1)
    ends.stream.write(b"x")
    ends.read(1)
    assert not ends.owner.events


def test_the_rest_of_a_file_counts_as_buffered(ends, opened):
    fd, _ = opened()
    ends.stream.write_file(b"", fd, 0, len(LARGE))
    assert HIGH_WATER < ends.stream.buffered <= len(LARGE)


# Reading


def test_data_comes_in_order_and_nothing_while_reading_is_paused(ends):
    ends.client.sendall(b"one")
    ends.until(lambda: ends.owner.data == b"one")
    ends.stream.pause_reading()
    assert not ends.stream.reading
    assert not ends.stream.unread
    ends.client.sendall(b"two")
    ends.until(lambda: ends.stream.unread)
    ends.stream.poll()
    ends.turn()
    assert ends.owner.data == b"one"
    ends.stream.resume_reading()
    assert ends.stream.reading
    assert ends.owner.data == b"one"  # from the next turn on
    ends.turn()
    assert ends.owner.data == b"onetwo"


def test_poll_passes_on_what_has_arrived_before_it_returns(ends):
    ends.stream.poll()
    assert not ends.owner.events
    ends.client.sendall(b"one")
    ends.until(lambda: ends.owner.data or ends.stream.unread)
    ends.stream.poll()
    assert ends.owner.data == b"one"


def test_a_client_that_sends_no_more_is_noticed_once_and_can_still_be_answered(ends):
    ends.client.sendall(b"one")
    ends.client.shutdown(socket.SHUT_WR)
    ends.until(lambda: "eof" in ends.owner.events)
    ends.turn()
    assert ends.owner.events == [b"one", "eof"]
    assert ends.stream.is_open
    ends.stream.write(LARGE)
    ends.stream.close()
    assert ends.read() == (LARGE, None)
    ends.until(lambda: ends.owner.lost)
    assert ends.owner.lost == [None]


@pytest.mark.parametrize("paused_before", [False, True])
def test_eof_received_is_called_once_whatever_the_owner_resumes_or_polls_later(ends, paused_before):
    """Found by reading the code: a socket at its end stays readable."""
    if paused_before:
        ends.stream.pause_reading()
        ends.client.shutdown(socket.SHUT_WR)
        ends.turn()
        ends.stream.resume_reading()
    else:
        ends.client.shutdown(socket.SHUT_WR)
    ends.until(lambda: ends.owner.events)
    for _ in range(2):
        ends.stream.resume_reading()
        assert not ends.stream.reading
        ends.stream.poll()
        ends.stream.pause_reading()
        ends.turn()
    assert ends.owner.events == ["eof"]
    second = Recorder(ends.stream)
    ends.stream.set_owner(second)
    ends.stream.resume_reading()
    ends.turn()
    assert not second.events
    ends.stream.close(linger=True)
    ends.client.close()
    ends.until(lambda: second.lost)
    assert second.events == ["lost"]


def test_the_end_is_not_told_while_reading_is_paused(ends):
    ends.stream.pause_reading()
    ends.client.shutdown(socket.SHUT_WR)
    ends.turn()
    assert not ends.owner.events
    ends.stream.resume_reading()
    ends.until(lambda: ends.owner.events == ["eof"])


def test_only_the_present_owner_is_called(ends):
    ends.client.sendall(b"one")
    ends.until(lambda: ends.owner.data)
    second = Recorder(ends.stream)
    ends.stream.set_owner(second)
    ends.client.sendall(b"two")
    ends.until(lambda: second.data)
    ends.stream.abort()
    assert ends.owner.events == [b"one"]
    assert second.events == [b"two", "lost"]


def test_an_owner_can_be_replaced_while_it_is_called(ends):
    second = Recorder(ends.stream)
    ends.owner.data_received = lambda data: ends.stream.set_owner(second)
    ends.client.sendall(b"one")
    ends.turn()
    ends.client.sendall(b"two")
    ends.until(lambda: second.data == b"two")
    assert not ends.owner.events


# Ends


@pytest.mark.parametrize("linger", [False, True])
def test_close_sends_what_is_buffered_and_the_client_sees_an_end(ends, linger):
    ends.stream.write(LARGE)
    assert ends.stream.is_open
    ends.stream.close(linger=linger)
    assert not ends.stream.is_open
    assert not ends.owner.lost
    assert ends.read() == (LARGE, None)
    ends.client.close()
    ends.until(lambda: ends.owner.lost)
    assert ends.owner.events == ["lost"]
    assert ends.owner.lost == [None]


def test_close_with_linger_does_not_destroy_the_response_of_a_client_that_still_sends(ends):
    ends.stream.pause_reading()
    ends.client.sendall(b"unread")
    ends.stream.write(LARGE)
    ends.stream.close(linger=True)
    assert ends.read(send=bytes(1 << 20)) == (LARGE, None)
    assert not ends.owner.data
    ends.client.close()
    ends.until(lambda: ends.owner.lost)
    assert ends.owner.lost == [None]


def test_close_without_linger_does_not_destroy_the_response_of_a_client_that_has_sent_more(ends):
    ends.stream.pause_reading()
    ends.client.sendall(b"unread")
    ends.until(lambda: ends.stream.unread)
    ends.stream.write(LARGE)
    ends.stream.close()
    assert ends.read() == (LARGE, None)


def test_a_client_that_does_not_end_is_not_lingered_for_without_end(ends):
    ends.stream.close(linger=True)
    ends.pass_time(60)
    assert ends.owner.lost == [None]


def test_close_now_returns_closed_and_loses_nothing_that_the_kernel_has_taken(ends):
    ends.stream.write(b"x" * 1000)
    assert not ends.stream.buffered
    ends.stream.close_now()
    assert not ends.stream.is_open
    assert ends.owner.events == ["lost"]
    assert ends.owner.lost == [None]
    assert ends.read() == (b"x" * 1000, None)


def test_close_now_throws_away_what_is_buffered(ends):
    ends.stream.write(LARGE)
    ends.stream.close_now()
    assert ends.stream.buffered == 0
    assert ends.owner.events == ["lost"]
    got, error = ends.read()
    assert error is None
    assert len(got) < len(LARGE)
    assert LARGE.startswith(got)


def test_after_abort_the_client_sees_an_error_where_it_can_see_one(ends):
    ends.stream.write(LARGE)
    ends.stream.abort()
    assert not ends.stream.is_open
    assert ends.owner.events == ["lost"]
    assert ends.owner.lost == [None]
    got, error = ends.read()
    assert len(got) < len(LARGE)
    assert isinstance(error, ConnectionError) == ends.abort_visible


def test_a_reset_is_told_with_its_error(ends):
    if not ends.abort_visible:
        pytest.skip("a Unix socket has no reset")
    reset(ends.client)
    ends.until(lambda: ends.owner.lost)
    assert isinstance(ends.owner.lost[0], ConnectionError)
    assert ends.owner.events == ["lost"]


def test_a_client_that_has_gone_is_noticed_by_writing(ends):
    ends.stream.pause_reading()
    reset(ends.client)

    def write():
        ends.stream.write(b"x" * 1000)
        return ends.owner.lost

    ends.until(write)
    assert ends.owner.events == ["lost"]
    assert isinstance(ends.owner.lost[0], ConnectionError)


@pytest.mark.parametrize("end", ["close", "close_now", "abort"])
def test_after_its_end_every_call_is_ignored(ends, opened, end):
    getattr(ends.stream, end)()
    fd, file = opened()
    for _ in range(2):
        ends.stream.write(b"x")
        ends.stream.write_soon((b"x",))
        ends.stream.write_parts((b"x", b"y" * 9000))
        ends.stream.poll()
        ends.stream.pause_reading()
        ends.stream.resume_reading()
        ends.stream.close()
        ends.stream.close(linger=True)
        ends.turn()
    ends.stream.write_file(b"head", fd, 0, 100)
    assert not is_open(fd, file)
    assert ends.stream.buffered == 0
    got, error = ends.read()
    assert got == b""
    assert (error is None) == (end != "abort" or not ends.abort_visible)
    for _ in range(2):
        ends.stream.abort()
        ends.stream.close_now()
    assert ends.owner.events == ["lost"]


def test_write_file_closes_the_file_when_it_has_been_sent(ends, opened):
    for count in (0, 1, len(LARGE)):
        fd, file = opened()
        ends.stream.write_file(b"head", fd, 0, count)
        assert ends.read(4 + count) == (b"head" + LARGE[:count], None)
        ends.until(lambda fd=fd, file=file: not is_open(fd, file))


@pytest.mark.parametrize("end", ["close_now", "abort", "reset"])
def test_write_file_closes_the_file_when_the_stream_ends_before_it_has_been_sent(ends, opened, end):
    fds = [opened(), opened()]
    for fd, _ in fds:
        ends.stream.write_file(b"head", fd, 0, len(LARGE))
    assert all(is_open(*each) for each in fds)
    if end == "reset":
        reset(ends.client)
    else:
        getattr(ends.stream, end)()
    ends.until(lambda: ends.owner.lost)
    assert not any(is_open(*each) for each in fds)


# Progress


def test_expect_progress_a_client_that_acknowledges_nothing_is_aborted(ends):
    ends.stream.write(LARGE)
    ends.stream.expect_progress()
    ends.pass_time(WRITE_TIMEOUT / 2)
    assert not ends.owner.lost
    ends.pass_time(WRITE_TIMEOUT)
    assert ends.owner.events == ["lost"]


def test_expect_progress_a_client_that_acknowledges_slowly_is_not_aborted(ends):
    ends.stream.write(LARGE)
    ends.stream.expect_progress()
    for _ in range(5):
        ends.pass_time(WRITE_TIMEOUT / 2)
        before = ends.stream.buffered
        ends.read(131072)
        ends.until(lambda before=before: ends.stream.buffered < before)
    assert ends.stream.is_open


# Giving a stream up


def continued(ends, detached):
    """Another stream that goes on, in the same loop."""
    ends.stream = ends.continue_stream(detached)
    ends.owner = Recorder(ends.stream)
    ends.stream.set_owner(ends.owner)


@pytest.mark.parametrize("turns", [0, 1])
def test_a_stream_that_is_given_up_loses_nothing_of_either_direction(ends, opened, turns):
    owner, stream = ends.owner, ends.stream
    ends.client.sendall(b"one")
    ends.until(lambda: owner.data == b"one")
    stream.write(LARGE)
    fd, file = opened()
    stream.write_file(b"head", fd, 10, 1000)
    stream.write_soon((b"soon",))
    ends.turn(turns)
    ends.client.sendall(b"two")
    detached = stream.detach()
    if detached is None:
        pytest.skip("this stream cannot be given up")
    assert not stream.is_open
    for _ in range(2):  # whatever is called now is ignored
        stream.poll()
        stream.resume_reading()
        stream.write(b"x")
        stream.close()
        stream.abort()
        ends.turn()
    assert owner.data == b"one"
    assert not owner.lost
    continued(ends, detached)
    ends.until(lambda: ends.owner.data == b"two")
    expected = LARGE + b"head" + LARGE[10:1010] + b"soon"
    assert ends.read(len(expected)) == (expected, None)
    assert not is_open(fd, file)
    ends.stream.write(b"more")
    assert ends.read(4) == (b"more", None)


def test_what_is_unsent_of_a_stream_that_was_given_up_has_its_deadline_again(ends):
    ends.stream.write(LARGE)
    detached = ends.stream.detach()
    if detached is None:
        pytest.skip("this stream cannot be given up")
    continued(ends, detached)
    ends.pass_time(WRITE_TIMEOUT * 1.3)
    assert ends.owner.events == ["lost"]


@pytest.mark.parametrize("end", ["close", "close_now", "abort"])
def test_a_stream_that_has_ended_cannot_be_given_up(ends, end):
    ends.stream.write(LARGE)
    getattr(ends.stream, end)()
    assert ends.stream.detach() is None


def test_a_stream_whose_client_has_gone_is_lost_and_not_given_up(ends):
    ends.stream.write_soon((b"x",))
    reset(ends.client)
    if (detached := ends.stream.detach()) is not None:  # the kernel may not know it yet
        continued(ends, detached)
    ends.until(lambda: ends.owner.lost)
