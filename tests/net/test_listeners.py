"""Listeners: ports, Unix sockets and inherited sockets, how they are opened, refused, shut down and left."""

import errno
import os
import socket
import stat
import sys

import pytest

from pounce.config.bind import Bind
from pounce.errors import StartupError
from pounce.net.handshakes import stop_handshakes
from pounce.net.listeners import open_listeners
from tests.support.sockets import Accepting, opened


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


def test_a_host_with_several_addresses_gets_one_port_on_all():
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


def test_a_second_address_that_cannot_be_bound_releases_the_first():
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        taken = Bind("", host="127.0.0.1", port=listener.address[1])
        with pytest.raises(StartupError):
            open_listeners([Bind("", host="127.0.0.1", port=port), taken], 1)
        with opened(Bind("", host="127.0.0.1", port=port)):
            pass


def test_host_that_is_unknown_or_of_another_machine_is_refused_in_one_line():
    with pytest.raises(StartupError, match=r"no-such-host\.invalid: .*not known") as caught:
        open_listeners([Bind("--host", host="no-such-host.invalid")], 1)
    assert "\n" not in str(caught.value)
    with pytest.raises(StartupError, match="cannot assign requested address"):
        open_listeners([Bind("--host", host="192.0.2.1")], 1)


def test_port_without_permission_says_what_to_do(monkeypatch):
    def refuse(self, address):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StartupError, match=r"permission denied; choose a port from 1024 up"):
        open_listeners([Bind("--port", host="127.0.0.1", port=80)], 1)


def test_uds_is_open_to_everyone_and_removed_with_the_server(tmp_path):
    path = str(tmp_path / "pounce.sock")
    with opened(Bind("", path=path)) as (listener,):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
        assert (listener.address, listener.url) == ((path, None), f"unix:{path}")
        assert can_connect(socket.AF_UNIX, path)
    assert not os.path.exists(path)


def test_uds_that_is_stale_is_replaced_and_keeps_its_mode(tmp_path):
    path = str(tmp_path / "pounce.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    os.chmod(path, 0o600)
    with opened(Bind("", path=path)):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_uds_in_use_is_refused_and_left_alone(tmp_path):
    path = str(tmp_path / "pounce.sock")
    with opened(Bind("", path=path)):
        with pytest.raises(StartupError, match="a server is listening"):
            open_listeners([Bind("", path=path)], 1)
        assert can_connect(socket.AF_UNIX, path)


def test_uds_that_is_a_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(StartupError, match="exists and is not a socket"):
        open_listeners([Bind("", path=str(path))], 1)
    assert path.read_text() == "data"


def test_uds_that_another_server_has_replaced_is_not_removed(tmp_path):
    path = str(tmp_path / "pounce.sock")
    with opened(Bind("", path=path)):
        os.unlink(path)
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(path)
    assert os.path.exists(path)
    successor.close()


def test_uds_where_none_can_be_is_refused(tmp_path):
    with pytest.raises(StartupError, match="no such file or directory"):
        open_listeners([Bind("--uds", path=str(tmp_path / "missing" / "a.sock"))], 1)
    with pytest.raises(StartupError, match="too long"):
        open_listeners([Bind("--uds", path=str(tmp_path / ("a" * 120)))], 1)


def test_fd_inherited_is_used_as_it_is():
    inherited = socket.create_server(("127.0.0.1", 0))
    port = inherited.getsockname()[1]
    with opened(Bind("--fd", fd=inherited.detach())) as (listener,):
        assert listener.address == ("127.0.0.1", port)
        assert can_connect(socket.AF_INET, ("127.0.0.1", port))


def test_fd_that_is_no_socket_is_refused(tmp_path):
    with open(tmp_path / "file", "w") as file, pytest.raises(StartupError, match=r"cannot bind \(--fd"):
        open_listeners([Bind(f"--fd {file.fileno()}", fd=file.fileno())], 1)
    with pytest.raises(StartupError, match="bad file descriptor"):
        open_listeners([Bind("--fd 987", fd=987)], 1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's sockets")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_after_handshakes_are_stopped_connections_in_the_queue_can_be_accepted(host):
    with opened(Bind("", host=host)) as (listener,):
        sock = listener.sockets[0]
        waiting = socket.create_connection(sock.getsockname()[:2])
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        halfway = socket.create_connection(sock.getsockname()[:2])  # its handshake ends with its first word
        listener.stop_handshakes()
        listener.stop_handshakes()  # as another worker does
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


def test_uds_queue_outlives_its_shutdown(tmp_path):
    with opened(Bind("", path=str(tmp_path / "a.sock"))) as (listener,):
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(listener.sockets[0].getsockname())
        listener.shut_down()
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(listener.sockets[0].getsockname())
        accepting = Accepting(listener.sockets[0])
        assert accepting.acceptor.accept_all()
        assert len(accepting.sockets) == 1
        waiting.close()
        accepting.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's socket filters")
def test_without_socket_filters_new_connections_get_no_answer(monkeypatch):
    monkeypatch.setattr("pounce.net.handshakes.NO_INTERFACE", -1)  # which no kernel takes
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        sock = listener.sockets[0]
        waiting = socket.create_connection(sock.getsockname())
        stop_handshakes(sock)
        late = socket.socket()
        late.setblocking(False)
        late.connect_ex(sock.getsockname())
        accepted, _ = sock.accept()
        with pytest.raises(BlockingIOError):  # the late one has never got so far
            sock.accept()
        assert late.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x02"  # SYN-SENT still
        for each in (waiting, accepted, late):
            each.close()


def test_a_socket_that_is_shut_down_is_free_for_the_next_server():
    """While every process that has it open goes on."""
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        port = listener.sockets[0].getsockname()[1]
        other = listener.sockets[0].dup()
        accepting = Accepting(other)
        listener.shut_down()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        accepting.loop.turn(1)
        assert not accepting.acceptor.accepting
        with opened(Bind("", host="127.0.0.1", port=port)):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        listener.shut_down()  # as each worker may ask for it
        accepting.close()
        other.close()


def test_fd_inherited_is_not_shut_down():
    inherited = socket.create_server(("127.0.0.1", 0))
    with opened(Bind("--fd", fd=inherited.detach())) as (listener,):
        listener.shut_down()
        assert can_connect(socket.AF_INET, listener.address)
