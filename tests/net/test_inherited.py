"""Sockets that a server process has from the one before it: which listener takes which, and who closes them."""

import errno
import os
import socket
import sys

import pytest

from pounce.config.bind import Bind
from pounce.errors import StartupError
from pounce.net.inherited import InheritedSockets
from pounce.net.listeners import close_to_clients, open_listeners, words
from tests.support.sockets import opened

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs sockets that share a port, as Linux has them")


def inherited(listeners):
    """What another process would have of them: other numbers for the same sockets."""
    copies = []
    for word in words(listeners):
        prefix, equals, fd = word.rpartition("=")
        copies.append(f"{prefix}{equals}{os.dup(int(fd))}")
    return InheritedSockets(" ".join(copies))


def ends(fd):
    try:
        os.fstat(fd)
    except OSError as error:
        return error.errno == errno.EBADF
    return False


def same(one, other):
    return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))


def tcp(port, host="127.0.0.1"):
    return Bind("--bind", host=host, port=port)


@pytest.mark.parametrize("before", [1, 3])
def test_the_sockets_of_an_address_are_taken_and_none_is_bound(before):
    with opened(tcp(0), workers=before) as (old,):
        (new,) = open_listeners([tcp(old.address[1])], before, inherited([old]))
        assert new.address == old.address
        assert len(new.sockets) == before
        assert all(same(*pair) for pair in zip(old.sockets, new.sockets, strict=True))
        assert not any(sock.get_inheritable() for sock in new.sockets)
        new.close()


@linux
def test_with_fewer_workers_than_sockets_each_worker_has_several_and_none_is_left_out():
    with opened(tcp(0), workers=5) as (old,):
        (new,) = open_listeners([tcp(old.address[1])], 2, inherited([old]))
        shares = [new.for_worker(number) for number in (0, 1)]
        assert sorted(map(len, shares)) == [2, 3]
        assert {sock for share in shares for sock in share} == set(new.sockets)
        assert new.for_worker(2) == shares[0]  # a worker that is added shares with another
        new.close()


@linux
def test_with_more_workers_than_sockets_more_are_bound_beside_the_taken_ones():
    with opened(tcp(0), workers=2) as (old,):
        (new,) = open_listeners([tcp(old.address[1])], 4, inherited([old]))
        assert len(new.sockets) == 4
        new.listen(100)  # the predecessor's, which listen there, do not count as another server's
        assert [len(new.for_worker(number)) for number in range(4)] == [1, 1, 1, 1]
        new.close()


def test_a_single_worker_s_socket_cannot_be_bound_beside_and_is_shared():
    with opened(tcp(0), workers=1) as (old,):
        (new,) = open_listeners([tcp(old.address[1])], 3, inherited([old]))
        assert len(new.sockets) == 1
        assert [new.for_worker(number) for number in range(3)] == [new.sockets] * 3
        new.close()


def test_port_0_takes_whichever_port_the_predecessor_has():
    with opened(tcp(0)) as (old,):
        (new,) = open_listeners([tcp(0)], 1, inherited([old]))
        assert new.address == old.address
        new.close()


def test_a_host_with_several_addresses_finds_each_of_them():
    with opened(Bind("", host="localhost")) as old:
        new = open_listeners([Bind("", host="localhost")], 1, inherited(old))
        assert [listener.address for listener in new] == [listener.address for listener in old]
        assert all(same(a.sockets[0], b.sockets[0]) for a, b in zip(old, new, strict=True))
        for listener in new:
            listener.close()


def test_an_ipv6_socket_that_serves_ipv4_too_is_not_taken_for_one_that_does_not():
    with opened(Bind("", host="::")) as (old,):
        port = old.address[1]
        binds = [Bind("", host="0.0.0.0", port=port), Bind("", host="::", port=port)]
        with pytest.raises(StartupError, match="address already in use"):
            open_listeners(binds, 1, inherited([old]))


def test_what_no_address_asks_for_is_closed_here_and_goes_on_there():
    with opened(tcp(0)) as (old,), opened(tcp(0)) as (other,):
        given = inherited([old, other])
        left = given._left[1][1]
        (new,) = open_listeners([tcp(old.address[1])], 1, given)
        assert left.fileno() == -1
        socket.create_connection(other.address, timeout=5).close()
        new.close()


def test_uds_is_taken_by_its_path_and_its_file_is_the_predecessor_s_until_it_is_taken_over(tmp_path):
    path = str(tmp_path / "a.sock")
    with opened(Bind("", path=path)) as (old,):
        (failed,) = open_listeners([Bind("", path=path)], 1, inherited([old]))
        failed.close()  # as a new process that does not start
        assert os.path.exists(path)
        (new,) = open_listeners([Bind("", path=path)], 1, inherited([old]))
        new.take_over()
        old.hand_on()
        old.close()
        assert os.path.exists(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        new.close()
        assert not os.path.exists(path)


def test_uds_whose_file_another_server_has_replaced_is_not_given_on(tmp_path):
    path = str(tmp_path / "a.sock")
    with opened(Bind("", path=path)) as (old,):
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            assert words([old]) == []


def test_fd_is_taken_by_its_number_and_stays_the_operator_s():
    with socket.create_server(("127.0.0.1", 0)) as operators:
        (old,) = open_listeners([Bind("", fd=operators.fileno())], 1)
        (new,) = open_listeners([Bind("", fd=operators.fileno())], 1, inherited([old]))
        assert same(new.sockets[0], operators)
        new.take_over()
        assert new.inherited
        for listener in (old, new):
            listener.close()


def test_fd_is_not_taken_for_an_address_that_is_bound():
    with socket.create_server(("127.0.0.1", 0)) as operators:
        port = operators.getsockname()[1]
        (old,) = open_listeners([Bind("", fd=operators.fileno())], 1)
        with pytest.raises(StartupError, match="address already in use"):
            open_listeners([tcp(port)], 1, inherited([old]))
        old.close()


def test_numbers_that_are_no_sockets_are_left_out(tmp_path):
    with open(tmp_path / "file", "w") as file:
        found = InheritedSockets(f"{file.fileno()} 987654 fd3= x")
        found.close_rest()
        assert not file.closed
        assert not ends(file.fileno())


# Who may close the sockets to clients


def test_what_is_handed_on_is_left_to_the_other_process():
    with opened(tcp(0), workers=2) as (listener,):
        listener.hand_on()
        close_to_clients([listener])
        listener.shut_down()
        for _ in range(10):  # over both sockets
            socket.create_connection(listener.address, timeout=5).close()
        listener.take_over()
        close_to_clients([listener])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.address, timeout=5)


def test_a_process_that_was_forked_before_sees_that_a_socket_was_handed_on():
    """Worker processes stop their sockets' handshakes themselves."""
    with opened(tcp(0)) as (listener,):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(writer)
            os.read(reader, 1)
            os._exit(listener.inherited)
        os.close(reader)
        listener.hand_on()
        os.close(writer)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


@linux
def test_a_queue_outlives_a_predecessor_that_hands_on_and_not_one_that_only_closes():
    """Why sockets are handed on: beside another socket at the same port, a closed one still resets its queue."""

    def lost(hand_on):
        with opened(tcp(0), workers=2) as (old,):
            clients = [socket.create_connection(old.address, timeout=5) for _ in range(20)]
            if hand_on:
                (new,) = open_listeners([tcp(old.address[1])], 2, inherited([old]))
                new.listen(100)
            old.sockets[0].close()
            resets = 0
            for client in clients:
                client.setblocking(False)
                try:
                    client.recv(1)
                except ConnectionResetError:
                    resets += 1
                except BlockingIOError:
                    pass
                client.close()
            if hand_on:
                new.close()
        return resets

    assert lost(hand_on=True) == 0
    assert 0 < lost(hand_on=False) < 20  # the kernel had spread them over both
