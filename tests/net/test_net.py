"""Listeners, the acceptor and streams, over real sockets, with time that passes when told to."""

import contextlib
import errno
import os
import socket
import stat
import struct
import sys
import tempfile
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pounce.config.bind import Bind, parse_bind
from pounce.errors import StartupError
from pounce.net.acceptor import BATCH, Acceptor
from pounce.net.listeners import open_listeners, refuse_new_connections
from pounce.net.progress import LOOKS, SETTLE, TCP_NOTSENT_LOWAT, StreamBounds
from pounce.net.stream import (
    CLOSED,
    CLOSING,
    HIGH_WATER,
    LENT_UNSENT,
    LINGER_MOST,
    LINGERING,
    LOW_WATER,
    OPEN,
    Stream,
)
from tests.support.harness import skipping_loop

# Addresses


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80, None, None)),
        ("[::1]:8000", ("::1", 8000, None, None)),
        (":8000", ("", 8000, None, None)),
        ("unix:/run/a.sock", (None, 0, "/run/a.sock", None)),
        ("unix:///run/a.sock", (None, 0, "/run/a.sock", None)),
        ("fd://3", (None, 0, None, 3)),
    ],
)
def test_addresses_that_can_be_bound(text, wanted):
    bind = parse_bind(text)
    assert (bind.host, bind.port, bind.path, bind.fd) == wanted


@pytest.mark.parametrize("text", ["", "8000", "host", "::1:80", "host:port", "host:65536", "unix:", "fd://x", "h:-1"])
def test_addresses_that_cannot(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse_bind(text)


@contextlib.contextmanager
def opened(*binds, workers=1, backlog=100):
    listeners = open_listeners(binds, workers)
    try:
        for listener in listeners:
            listener.listen(backlog)
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


def can_connect(family, address):
    with socket.socket(family) as client:
        client.settimeout(2)
        return client.connect_ex(address) == 0


def test_port_0_picks_one_port_for_all_workers():
    with opened(Bind("", host="127.0.0.1"), workers=4) as (listener,):
        ports = {sock.getsockname()[1] for sock in listener.sockets}
        assert ports == {listener.address[1]}
        assert listener.address[1] > 0
        if sys.platform == "linux":
            assert len(listener.sockets) == 4
        assert can_connect(socket.AF_INET, ("127.0.0.1", listener.address[1]))


def test_two_dual_stacked_ways_to_listen_everywhere():
    with opened(Bind("", host="::")) as (listener,):
        port = listener.address[1]
        assert can_connect(socket.AF_INET6, ("::1", port))
        assert can_connect(socket.AF_INET, ("127.0.0.1", port))
    with opened(Bind("", host="0.0.0.0", port=port), Bind("", host="::", port=port)) as listeners:
        assert [listener.address for listener in listeners] == [("0.0.0.0", port), ("::", port)]
        assert can_connect(socket.AF_INET6, ("::1", port))
        assert can_connect(socket.AF_INET, ("127.0.0.1", port))


def test_a_name_with_several_addresses_gets_one_port_on_all():
    with opened(Bind("", host="localhost"), workers=2) as listeners:
        assert len({listener.address[1] for listener in listeners}) == 1
        for listener in listeners:
            family = socket.AF_INET6 if ":" in listener.address[0] else socket.AF_INET
            assert can_connect(family, listener.address)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("theirs", [1, 3])
def test_a_taken_port_is_refused_even_where_the_kernel_would_share_it(workers, theirs):
    with opened(Bind("", host="127.0.0.1"), workers=theirs) as (listener,):
        port = listener.address[1]
        with pytest.raises(StartupError, match=r"cannot bind \(--port\): address already in use by process"):
            open_listeners([Bind("--port", host="127.0.0.1", port=port)], workers)


def test_a_port_that_was_taken_between_binding_and_listening_is_refused():
    first = open_listeners([Bind("", host="127.0.0.1")], 2)
    second = open_listeners([Bind("", host="127.0.0.1", port=first[0].address[1])], 2)
    first[0].listen(10)
    with pytest.raises(StartupError, match="cannot listen at"):
        second[0].listen(10)
    first[0].close()
    second[0].close()


def test_a_second_address_that_cannot_be_had_gives_the_first_back():
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        taken = Bind("", host="127.0.0.1", port=listener.address[1])
        with pytest.raises(StartupError):
            open_listeners([Bind("", host="127.0.0.1", port=port), taken], 1)
        with opened(Bind("", host="127.0.0.1", port=port)):
            pass


def test_names_and_addresses_that_are_not_here_are_refused_in_one_line():
    with pytest.raises(StartupError, match=r"no-such-host\.invalid: .*not known") as caught:
        open_listeners([Bind("--host", host="no-such-host.invalid")], 1)
    assert "\n" not in str(caught.value)
    with pytest.raises(StartupError, match="cannot assign requested address"):
        open_listeners([Bind("--host", host="192.0.2.1")], 1)


def test_a_port_one_may_not_have_says_what_to_do(monkeypatch):
    def refuse(self, address):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StartupError, match=r"permission denied; choose a port from 1024 up"):
        open_listeners([Bind("--port", host="127.0.0.1", port=80)], 1)


# Unix sockets


def test_a_unix_socket_is_for_everyone_and_goes_with_the_server(tmp_path):
    path = str(tmp_path / "pounce.sock")
    with opened(Bind("", path=path)) as (listener,):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
        assert (listener.address, listener.url) == ((path, None), f"unix:{path}")
        assert can_connect(socket.AF_UNIX, path)
    assert not os.path.exists(path)


def test_a_stale_unix_socket_is_replaced_and_its_mode_kept(tmp_path):
    path = str(tmp_path / "pounce.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    os.chmod(path, 0o600)
    with opened(Bind("", path=path)):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_live_unix_socket_is_refused_and_left_alone(tmp_path):
    path = str(tmp_path / "pounce.sock")
    with opened(Bind("", path=path)):
        with pytest.raises(StartupError, match="a server is listening"):
            open_listeners([Bind("", path=path)], 1)
        assert can_connect(socket.AF_UNIX, path)


def test_a_file_that_is_no_socket_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(StartupError, match="exists and is not a socket"):
        open_listeners([Bind("", path=str(path))], 1)
    assert path.read_text() == "data"


def test_a_unix_socket_that_somebody_has_replaced_is_not_removed(tmp_path):
    path = str(tmp_path / "pounce.sock")
    with opened(Bind("", path=path)):
        os.unlink(path)
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(path)
    assert os.path.exists(path)
    successor.close()


def test_unix_sockets_where_none_can_be(tmp_path):
    with pytest.raises(StartupError, match="no such file or directory"):
        open_listeners([Bind("--uds", path=str(tmp_path / "missing" / "a.sock"))], 1)
    with pytest.raises(StartupError, match="too long"):
        open_listeners([Bind("--uds", path=str(tmp_path / ("a" * 120)))], 1)


def test_an_inherited_socket_is_used_as_it_is():
    inherited = socket.create_server(("127.0.0.1", 0))
    port = inherited.getsockname()[1]
    with opened(Bind("--fd", fd=inherited.detach())) as (listener,):
        assert listener.address == ("127.0.0.1", port)
        assert can_connect(socket.AF_INET, ("127.0.0.1", port))


def test_a_descriptor_that_is_no_socket_is_refused(tmp_path):
    with open(tmp_path / "file", "w") as file, pytest.raises(StartupError, match=r"cannot bind \(--fd"):
        open_listeners([Bind(f"--fd {file.fileno()}", fd=file.fileno())], 1)
    with pytest.raises(StartupError, match="bad file descriptor"):
        open_listeners([Bind("--fd 987", fd=987)], 1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's sockets")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_after_new_connections_are_refused_those_that_have_begun_can_still_be_accepted(host):
    with opened(Bind("", host=host)) as (listener,):
        sock = listener.sockets[0]
        waiting = socket.create_connection(sock.getsockname()[:2])
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        halfway = socket.create_connection(sock.getsockname()[:2])  # its handshake ends with its first word
        listener.refuse()
        listener.refuse()  # as another worker does
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(sock.getsockname()[:2], timeout=5)
        for client in (waiting, halfway):
            client.sendall(b"x")
            accepted, _ = sock.accept()
            accepted.settimeout(5)
            assert accepted.recv(1) == b"x"
            accepted.close()
            client.close()


def test_the_queue_of_a_unix_socket_outlives_its_shutting(tmp_path):
    with opened(Bind("", path=str(tmp_path / "a.sock"))) as (listener,):
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(listener.sockets[0].getsockname())
        listener.shut()
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(listener.sockets[0].getsockname())
        accepting = Accepting(listener.sockets[0])
        assert accepting.acceptor.drain()
        assert len(accepting.sockets) == 1
        waiting.close()
        accepting.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's socket filters")
def test_where_they_cannot_be_refused_new_connections_get_no_answer(monkeypatch):
    monkeypatch.setattr("pounce.net.listeners.NOWHERE", -1)  # which no kernel takes
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        sock = listener.sockets[0]
        waiting = socket.create_connection(sock.getsockname())
        refuse_new_connections(sock)
        late = socket.socket()
        late.setblocking(False)
        late.connect_ex(sock.getsockname())
        accepted, _ = sock.accept()
        with pytest.raises(BlockingIOError):  # the late one has never got so far
            sock.accept()
        assert late.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x02"  # SYN-SENT still
        for each in (waiting, accepted, late):
            each.close()


def test_a_socket_that_is_shut_is_free_for_the_next_server():
    """While whoever has it open already, in whatever process, goes on."""
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        port = listener.sockets[0].getsockname()[1]
        accepting = Accepting(listener.sockets[0].dup())
        listener.shut()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        accepting.loop.turn(1)
        assert not accepting.acceptor.accepting
        with opened(Bind("", host="127.0.0.1", port=port)):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        listener.shut()  # as each worker may ask for it
        accepting.close()


def test_an_inherited_socket_is_not_shut():
    inherited = socket.create_server(("127.0.0.1", 0))
    with opened(Bind("--fd", fd=inherited.detach())) as (listener,):
        listener.shut()
        assert can_connect(socket.AF_INET, listener.address)


# The acceptor


class Accepting:
    def __init__(self, listening):
        self.loop, self.selector = skipping_loop()
        self.sockets = []
        self.acceptor = Acceptor(self.loop, listening, lambda sock, name: self.sockets.append(sock), may_be_shut=True)
        self.acceptor.start()

    def close(self):
        for sock in self.sockets:
            sock.close()
        self.loop.close()


def test_connections_are_accepted_in_bounded_batches():
    with opened(Bind("", host="127.0.0.1"), backlog=200) as (listener,):
        clients = [socket.create_connection(listener.address) for _ in range(BATCH + 10)]
        accepting = Accepting(listener.sockets[0])
        accepting.loop.turn(1)
        assert len(accepting.sockets) == BATCH
        accepting.loop.turn(1)
        assert len(accepting.sockets) == BATCH + 10
        assert all(sock.gettimeout() == 0.0 for sock in accepting.sockets)
        for client in clients:
            client.close()
        accepting.close()


def test_accepted_sockets_send_small_segments_at_once():
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        client = socket.create_connection(listener.address)
        accepting = Accepting(listener.sockets[0])
        accepting.loop.turn(1)
        assert accepting.sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.close()
        accepting.close()


class Refusing:
    """A listening socket whose accept fails as told."""

    def __init__(self, sock, *errors):
        self.sock = sock
        self.errors = list(errors)
        self.calls = 0

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def accept(self):
        self.calls += 1
        if self.errors:
            raise OSError(self.errors.pop(0), "as told")
        return self.sock.accept()


def test_without_room_accepting_pauses_says_so_once_and_does_not_spin(caplog):
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        client = socket.create_connection(listener.address)
        refusing = Refusing(listener.sockets[0], errno.EMFILE, errno.EMFILE)
        accepting = Accepting(refusing)
        for _ in range(20):
            accepting.loop.turn(0)
        assert refusing.calls == 1
        accepting.selector.skip = 1.01
        for _ in range(20):
            accepting.loop.turn(0)
        assert (refusing.calls, accepting.sockets) == (2, [])
        accepting.selector.skip = 1.01
        for _ in range(5):
            accepting.loop.turn(0)
        assert len(accepting.sockets) == 1
        assert [record.message for record in caplog.records if "Cannot accept" in record.message] == [
            "Cannot accept connections: as told. Trying again every second; "
            "raise the limit (ulimit -n) or set --limit-concurrency."
        ]
        client.close()
        accepting.close()


def test_a_client_that_went_away_in_the_queue_does_not_stop_the_others():
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        client = socket.create_connection(listener.address)
        accepting = Accepting(Refusing(listener.sockets[0], errno.ECONNABORTED))
        accepting.loop.turn(1)
        assert len(accepting.sockets) == 1
        client.close()
        accepting.close()


# Streams


class Owner:
    def __init__(self):
        self.events = []

    def received(self, data):
        self.events.append(data)

    def ended(self):
        self.events.append("ended")

    def drained(self):
        self.events.append("drained")

    def lost(self, error):
        self.events.append(("lost", None if error is None else error.errno))


class Pair:
    """A stream and the client's end of it, over TCP, where resets exist."""

    def __init__(self):
        self.loop, self.selector = skipping_loop()
        self.owner = Owner()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
            self.client = socket.socket()
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
            self.client.connect(listening.getsockname())
            ours, _ = listening.accept()
        ours.setblocking(False)
        self.client.settimeout(10)
        self.bounds = StreamBounds(self.loop, write=30.0, linger=5.0, senders=())
        self.stream = Stream(self.loop, ours, self.owner, self.bounds)

    def turn(self, times=3, timeout=0.05):
        for _ in range(times):
            self.loop.turn(timeout)

    def close(self):
        self.stream.abort()
        self.client.close()
        self.loop.close()


@pytest.fixture
def pair():
    pair = Pair()
    yield pair
    pair.close()


def read_all(pair, count):
    """Reads `count` bytes at the client's end, on a thread, while the loop turns."""
    got = bytearray()

    def reader():
        while len(got) < count:
            part = pair.client.recv(65536)
            if not part:
                return
            got.extend(part)

    thread = threading.Thread(target=reader)
    thread.start()
    while thread.is_alive():
        pair.turn(1, 0.01)
    return bytes(got)


def test_little_pieces_that_wait_are_few_objects(pair):
    pair.stream.write(bytes(1 << 22))  # more than the kernel takes
    expected = bytearray(1 << 22)
    for number in range(5000):
        piece = b"%d" % number * (number % 5)
        (pair.stream.write if number % 2 else lambda data: pair.stream.write_soon((data,)))(piece)
        expected += piece
    pair.stream.write(b"x" * 1000)
    assert len(pair.stream._buffer) < 20
    assert read_all(pair, len(expected) + 1000) == expected + b"x" * 1000


@pytest.mark.skipif(not TCP_NOTSENT_LOWAT, reason="this system has no bound to lend from")
def test_the_kernel_may_hold_more_for_a_few_who_are_sent_much():
    pairs = [Pair() for _ in range(3)]
    bounds = pairs[0].bounds
    bounds.loans = 2
    for pair in pairs:
        pair.stream._bounds = bounds
        pair.stream.write(b"little")
    assert bounds.loans == 2

    def unsent():
        return [pair.stream.sock.getsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT) for pair in pairs]

    before = unsent()
    for pair in pairs:
        for _ in range(3):
            pair.stream.write(bytes(1 << 20))  # more than any buffer takes
    assert bounds.loans == 0
    assert unsent() == [LENT_UNSENT, LENT_UNSENT, before[2]]
    for pair in pairs:
        pair.close()
    assert bounds.loans == 2


def test_what_arrives_is_handed_on_and_so_is_the_end(pair):
    pair.client.sendall(b"hello")
    pair.turn()
    pair.client.shutdown(socket.SHUT_WR)
    pair.turn()
    assert pair.owner.events == [b"hello", "ended"]
    assert pair.stream.state is OPEN  # the client may still be reading
    pair.stream.write(b"bye")
    assert pair.client.recv(10) == b"bye"


def test_the_end_of_the_input_does_not_spin_the_loop(pair):
    pair.client.shutdown(socket.SHUT_WR)
    pair.turn()
    assert pair.owner.events == ["ended"]
    events = pair.loop.selector.select(0)
    assert events == []


def test_a_paused_stream_reads_nothing_until_it_is_resumed(pair):
    pair.stream.pause_reading()
    pair.client.sendall(b"hello")
    pair.turn()
    assert pair.owner.events == []
    pair.stream.resume_reading()
    pair.turn()
    assert pair.owner.events == [b"hello"]


def test_more_than_the_kernel_takes_is_kept_in_order(pair):
    data = bytes(range(256)) * 8192
    pair.stream.write(data)
    assert pair.stream.buffered > HIGH_WATER
    pair.stream.write(b"tail")
    assert read_all(pair, len(data) + 4) == data + b"tail"
    assert pair.stream.buffered == 0
    assert pair.owner.events == ["drained"]


def test_parts_leave_together_and_large_ones_are_kept_in_order(pair):
    pair.stream.write_parts([b"a", b"b", b"c"])
    assert pair.client.recv(10) == b"abc"
    parts = [b"x" * 300_000, b"y" * 10, b"z" * 300_000]
    pair.stream.write_parts(parts)
    assert read_all(pair, 600_010) == b"".join(parts)


def test_what_is_written_soon_leaves_at_the_end_of_the_turn_in_one_piece(pair):
    pair.client.setblocking(False)
    pair.stream.write_soon([b"a", b"b"])
    pair.stream.write_soon([b"c"])
    with pytest.raises(BlockingIOError):
        pair.client.recv(10)
    pair.turn(1)
    assert pair.client.recv(10) == b"abc"
    assert pair.stream.buffered == 0
    assert len(pair.bounds.write) == 0
    assert pair.owner.events == []


@pytest.mark.parametrize(
    "then",
    [
        lambda stream: stream.write(b"z"),
        lambda stream: stream.write_parts([b"y", b"z"]),
        lambda stream: stream.write_file(b"head", os.open(__file__, os.O_RDONLY), 0, 5),
        lambda stream: stream.close(),
        lambda stream: stream.close(linger=True),
        lambda stream: stream.write_soon([b"x" * HIGH_WATER]),
    ],
)
def test_what_was_to_be_written_soon_is_written_before_what_does_not_wait(pair, then):
    pair.stream.write_soon([b"a"])
    then(pair.stream)
    assert pair.client.recv(1) == b"a"
    pair.turn()
    assert pair.owner.events in ([], [("lost", None)])


def test_what_was_to_be_written_soon_to_a_client_that_has_gone(pair):
    pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pair.client.close()
    pair.stream.write_soon([b"a"])
    pair.turn()
    assert pair.stream.state is CLOSED
    pair.stream.write_soon([b"b"])
    pair.turn()
    assert [event[0] for event in pair.owner.events] == ["lost"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(("write", "parts", "soon", "file", "turn")), st.integers(0, 90_000)), max_size=9)
)
def test_however_it_is_written_it_arrives_in_order(steps):
    pair = Pair()
    said = bytearray()
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(90_000))
        file.flush()
        for place, (step, size) in enumerate(steps):
            data = bytes([place]) * size
            if step == "write":
                pair.stream.write(data)
            elif step == "parts":
                pair.stream.write_parts([data[:7], data[7:]])
            elif step == "soon":
                pair.stream.write_soon([data[:9], data[9:]])
            elif step == "file":
                pair.stream.write_file(b"head", os.dup(file.fileno()), 0, size)
                data = b"head" + os.pread(file.fileno(), size, 0)
            else:
                pair.turn(1)
                continue
            said += data
    assert read_all(pair, len(said)) == said
    pair.turn(1)
    assert pair.stream.buffered == 0
    assert len(pair.bounds.write) == 0
    pair.close()


def test_a_file_is_sent_between_what_was_written_before_and_after(pair, tmp_path):
    path = tmp_path / "file"
    content = os.urandom(500_000)
    path.write_bytes(content)
    pair.stream.write(b"head")
    fd = os.open(path, os.O_RDONLY)
    pair.stream.write_file(b"", fd, 100, 400_000)
    pair.stream.write(b"tail")
    assert read_all(pair, 400_008) == b"head" + content[100:400_100] + b"tail"
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_a_file_that_shrinks_while_it_is_sent_cuts_the_connection(pair, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    pair.stream.write_file(b"", os.open(path, os.O_RDONLY), 0, 2000)
    pair.turn()
    assert pair.stream.state is CLOSED
    assert len(read_all(pair, 2000)) == 1000


def test_the_low_water_mark_is_below_the_high_one():
    assert 0 < LOW_WATER < HIGH_WATER


def test_closing_writes_what_is_left_first(pair):
    pair.stream.write(b"x" * 1_000_000)
    pair.stream.close()
    assert pair.stream.state is CLOSING
    pair.stream.write(b"too late")
    assert read_all(pair, 2_000_000) == b"x" * 1_000_000
    pair.selector.skip = 2 * SETTLE  # the client may not have acknowledged all of it at once
    pair.turn(timeout=0)
    assert pair.owner.events == [("lost", None)]


def pass_time(pair, seconds, step=0.25):
    """No faster than the loop would turn."""
    while seconds > 0:
        pair.selector.skip = min(step, seconds)
        pair.turn(timeout=0)
        seconds -= step


@pytest.mark.parametrize("takes", [0, 12_000])
def test_a_client_that_takes_nothing_is_cut_off_at_the_deadline(pair, takes):
    """Not before it, if it has taken something meanwhile; where the kernel tells that, an eighth later."""
    pair.stream.write(b"x" * 10_000_000)
    if takes:
        pass_time(pair, 6)
        pair.client.recv(takes)
    pass_time(pair, 29)
    assert pair.stream.state is OPEN
    pass_time(pair, 30 / LOOKS + 2)
    assert pair.owner.events == [("lost", None)]
    with pytest.raises(ConnectionResetError):
        while pair.client.recv(65536):
            pass


def test_a_slow_client_that_takes_something_is_not_cut_off(pair):
    pair.stream.write(b"x" * 10_000_000)
    for _ in range(5):
        pair.selector.skip = 20
        got = 0
        while got < 1_000_000:
            got += len(pair.client.recv(65536))
            pair.turn(1, timeout=0)
        pair.turn(timeout=0)
    assert pair.stream.state is OPEN


def test_lingering_lets_the_last_words_arrive_although_the_client_still_sends(pair):
    pair.client.sendall(b"x" * 1000)
    pair.turn()
    pair.client.sendall(b"unread" * 1000)
    pair.stream.write(b"last words")
    pair.stream.close(linger=True)
    pair.client.sendall(b"more" * 1000)
    pair.turn()
    assert pair.client.recv(100) == b"last words"
    assert pair.client.recv(100) == b""
    assert pair.stream.state is LINGERING
    pair.client.close()
    pair.turn()
    assert pair.owner.events[-1] == ("lost", None)


def test_lingering_has_an_end(pair):
    """Who goes on sending has longer than who does not, but not for ever."""
    pair.stream.close(linger=True)
    for turn in range(60):
        pair.client.sendall(b"x")
        pair.selector.skip = 0.6
        pair.turn(timeout=0)
        if pair.stream.state is CLOSED:
            assert 25 < turn * 0.6 <= LINGER_MOST
            return
    pytest.fail("a client that never stops sending is held for ever")


def test_who_lingers_without_a_word_has_less_time(pair):
    pair.stream.close(linger=True)
    pair.client.sendall(b"x")
    pair.turn(timeout=0)
    pair.selector.skip = 5.1
    pair.turn(2, timeout=0)
    assert pair.stream.state is CLOSED


def test_a_reset_is_told_once(pair):
    pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.client.close()
    pair.turn()
    pair.stream.write(b"x")
    pair.stream.close()
    pair.stream.abort()
    assert pair.owner.events == [("lost", errno.ECONNRESET)]


def test_writing_to_a_client_that_is_gone_is_told(pair):
    pair.client.close()
    pair.turn()
    for _ in range(10):
        pair.stream.write(b"x" * 1000)
        pair.turn()
    assert pair.owner.events[0] == "ended"
    assert pair.owner.events[1] in [("lost", errno.EPIPE), ("lost", errno.ECONNRESET)]
    assert len(pair.owner.events) == 2


def test_files_that_were_never_sent_are_closed(pair, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000_000)
    first, second = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    pair.stream.write_file(b"", first, 0, 10_000_000)
    pair.stream.write_file(b"", second, 0, 10_000_000)
    pair.stream.abort()
    for fd in (first, second):
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
