"""The acceptor: batches, a queue somebody else has emptied, and a machine without descriptors or memory."""

import errno
import os
import socket

import pytest

from pounce.config.bind import Bind
from pounce.kernel.loop import READ, Loop
from pounce.net.acceptor import MAX_PER_TURN, Acceptor
from tests.support.harness import skipping_loop
from tests.support.sockets import Accepting, Refusing, opened


# Found by reading the code.
def test_an_accept_queue_that_a_sibling_has_emptied_is_empty():
    """Also where this worker had no free descriptor when it last accepted."""
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        acceptor = Acceptor(Loop(), Refusing(listener.sockets[0], errno.EMFILE), lambda _sock, _name: None)
        assert not acceptor.accept_all()
        assert acceptor.accept_all()


def test_connections_are_accepted_in_bounded_batches():
    with opened(Bind("", host="127.0.0.1"), backlog=200) as (listener,):
        clients = [socket.create_connection(listener.address) for _ in range(MAX_PER_TURN + 10)]
        accepting = Accepting(listener.sockets[0])
        accepting.loop.turn(1)
        assert len(accepting.sockets) == MAX_PER_TURN
        accepting.loop.turn(1)
        assert len(accepting.sockets) == MAX_PER_TURN + 10
        assert all(sock.gettimeout() == 0.0 for sock in accepting.sockets)
        for client in clients:
            client.close()
        accepting.close()


def test_accepted_sockets_have_tcp_nodelay():
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        client = socket.create_connection(listener.address)
        accepting = Accepting(listener.sockets[0])
        accepting.loop.turn(1)
        assert accepting.sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.close()
        accepting.close()


def test_emfile_pauses_accepting_is_logged_once_and_does_not_spin(caplog):
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


def test_econnaborted_does_not_stop_accepting():
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        client = socket.create_connection(listener.address)
        accepting = Accepting(Refusing(listener.sockets[0], errno.ECONNABORTED))
        accepting.loop.turn(1)
        assert len(accepting.sockets) == 1
        client.close()
        accepting.close()


def test_stop_leaves_a_connection_in_the_queue_that_select_has_told_of_already():
    """A worker retires in the turn in which a client connects: the connection is its successor's."""
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        accepting = Accepting(listener.sockets[0])
        order, control = socket.socketpair()
        accepting.loop.watch(order, READ, lambda _events: accepting.acceptor.stop())
        control.send(b"stop")  # before the client connects: `select` tells of it first
        with socket.create_connection(listener.address), order, control:
            accepting.loop.turn(1)
            assert accepting.sockets == []
            listener.sockets[0].accept()[0].close()
        accepting.close()


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_emfile_enfile_enobufs_and_enomem_pause_accepting(error, caplog):
    class Full:
        accepts = 0

        def __init__(self, sock):
            self.sock = sock

        def fileno(self):
            return self.sock.fileno()

        def accept(self):
            self.accepts += 1
            if self.accepts < 4:
                raise OSError(error, os.strerror(error))
            return self.sock.accept()

    loop, selector = skipping_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        full, accepted = Full(listening), []
        acceptor = Acceptor(loop, full, lambda sock, _peer: accepted.append(sock))
        acceptor.start()
        with socket.create_connection(listening.getsockname()):
            for second in range(1, 4):
                for _ in range(10):
                    loop.turn(0)
                assert full.accepts == second
                selector.skip = 1.01
            loop.turn(0)
            loop.turn(0)
            assert len(accepted) == 1
            assert caplog.text.count("Cannot accept connections") == 1
            accepted[0].close()
