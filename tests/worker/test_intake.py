"""How connections find their worker: loads, hand-over between siblings, the queue of a blocked or ending worker."""

import errno
import math
import socket
import sys

import pytest

from pounce.config.bind import Bind
from pounce.kernel.loop import READ
from pounce.net.listeners import Listener
from pounce.worker.balance import NOT_ACCEPTING, Balancer
from pounce.worker.control import Report
from pounce.worker.intake import Intake
from tests.support import proxy_headers as encode
from tests.support.applications import body, hello, start, waits_behind
from tests.support.harness import Rig, skipping_loop
from tests.support.requests import CLOSE, GET
from tests.support.sockets import Refusing, opened
from tests.support.workers import Siblings, pair


def test_a_connection_that_a_sibling_rescues_is_watched_by_the_sibling_only():
    # Found by `races`: a worker that was stopped by the machine between "it is in my lobby" and "I watch it" watched
    # a socket that was a sibling's by then, and failed later when that number was given to another connection.
    loop, selector = skipping_loop()
    balancer = Balancer(2, processes=False)
    reception = Intake(loop, 0, [], balancer, (), lambda _since: 0, math.inf, lambda *_: None)
    reception.open()
    ours, theirs = socket.socketpair()
    taken = []

    def watch(*arguments):
        taken.extend(balancer.steal(0))  # the other thread is as quick as it can be
        type(loop).watch(loop, *arguments)
        taken.extend(balancer.steal(0))

    loop.watch = watch
    with ours, theirs:
        reception._add((ours, None, ("", None)))
        watched = ours.fileno() in selector.get_map()
        assert watched != bool(taken)
        taken.extend(balancer.steal(0))
        assert [parcel[0] for parcel in taken] == [ours]
        assert ours.fileno() not in selector.get_map()


# Found by reading the code.
def test_a_lost_worker_that_turns_again_leaves_its_successors_inbox_alone():
    with Siblings(2) as siblings:
        old = siblings.rigs[0]
        successor = Rig(hello, place=(0, [siblings.listener], siblings.balancer))
        before = siblings.connect(0, GET)
        old.turn(2)  # it turns again, and serves
        assert siblings.balancer.loads[0] == 0  # which is the successor's
        old.worker.retire()
        ours, parcel = pair()
        assert list(siblings.balancer.transfer(0, parcel)) == []  # the inbox is open
        successor.turn()
        ours.sendall(GET)
        successor.turn()
        assert ours.recv(1000).endswith(b"hello")
        before.close()
        ours.close()


def test_a_worker_that_has_retired_leaves_its_inbox_to_its_successor_though_it_was_told_before():
    loop, _ = skipping_loop()
    successor, _ = skipping_loop()
    balancer = Balancer(2, processes=False)
    served = []
    intake = Intake(loop, 0, [], balancer, (), lambda _since: 0, math.inf, lambda *accepted: served.append(accepted))
    order, control = socket.socketpair()
    pairs = [pair(), pair()]

    def retire(_events):
        loop.unwatch(order)
        intake.leave_balancer()
        balancer.attach(0, successor, int)
        balancer.loads[0] = 0
        assert list(balancer.transfer(0, pairs[1][1])) == []

    with order, control:
        intake.open()
        loop.watch(order, READ, retire)
        control.send(b"retire")  # before the connection comes: `select` tells of it first
        assert list(balancer.transfer(0, pairs[0][1])) == []
        for _ in range(3):
            loop.turn(0)
        assert len(served) == 1  # what was there when it retired
        left = list(balancer.take_all(0))
        assert len(left) == 1
        for sock in (*(ours for ours, _ in pairs), served[0][0], left[0][0]):
            sock.close()
    balancer.detach(0, successor)
    balancer.close()


# Found by reading the code.
def test_timeout_request_head_does_not_run_on_after_a_sibling_took_the_connection():
    with Siblings(2, timeout_request_head=4.0) as siblings:
        one, two = siblings.rigs
        silent = siblings.connect(0)
        one.turn()
        two.worker.intake.accept_for(0)  # it is blocked
        silent.sendall(CLOSE)
        two.turn()
        assert silent.recv(1000).endswith(b"hello")
        silent.close()
        two.turn()
        one.wait(5)
        assert one.reports == [Report.READY]


# Found by reading the code.
@pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")
def test_an_inherited_socket_is_left_without_filter_and_listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        listener = Listener([sock], sock.getsockname()[:2], inherited=True)
        rig = Rig(hello, place=(0, [listener], None))
        rig.worker.stop()
        rig.wait(1)
        assert rig.worker.state.value == "ended"
        socket.create_connection(sock.getsockname(), timeout=5).close()  # the next server's client


# Seen in a test on a busy machine: the server was told to end while a new process took over, and that ended first. Its
# worker then waited for the whole graceful timeout.
def test_a_worker_ends_though_the_process_that_took_the_socket_over_has_shut_it_down():
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        rig = Rig(hello, place=(0, [listener], None))
        rig.worker.stop()
        listener.hand_on()  # before the worker accepts what is in the queue
        listener.sockets[0].shutdown(socket.SHUT_RD)
        rig.wait(1)
        assert rig.worker.state.value == "ended"
        assert rig.worker.exit_code == 0


# Found by reading the code.
def test_stop_without_descriptors_serves_the_queue_once_there_are_some():
    """The server ends, and shuts no socket before that."""
    with opened(Bind("", host="127.0.0.1")) as (listener,):
        events = []
        rig = Rig(waits_behind(0, events), place=(0, [listener], None))
        rig.turn()
        busy = socket.create_connection(listener.address)
        busy.sendall(GET)
        rig.turn()
        waiting = socket.create_connection(listener.address)
        waiting.sendall(GET)
        (sock,) = listener.sockets
        listener.sockets[0] = refusing = Refusing(sock, *[errno.EMFILE] * 3)
        rig.worker.intake.stop()  # nor does it accept before its end
        rig.worker.stop()
        rig.wait(1)
        assert refusing.calls == 3 + 2
        assert len(rig.worker.connections) == 2
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x07"  # CLOSE
        for client in (busy, waiting):
            client.close()


def test_a_new_connection_goes_to_the_least_loaded_worker():
    with Siblings(4) as siblings:
        for _ in range(8):  # all come to the first, as chance may have it
            siblings.connect(0, GET)
        siblings.turn()
        assert min(siblings.counts) > 0
        assert max(siblings.counts) < 4
        assert sum(siblings.counts) == 8
        assert all(client.recv(1000).endswith(b"hello") for client in siblings.clients)
        assert max(siblings.balancer.loads) < 4


def test_an_idle_worker_keeps_what_it_accepts():
    with Siblings(2) as siblings:
        for _ in range(10):
            client = siblings.connect(0, GET)
            siblings.turn()
            assert siblings.counts == [1, 0]
            client.close()
            siblings.turn()
        assert list(siblings.balancer.loads) == [0, 0]


def test_an_idle_connection_is_no_load():
    with Siblings(2) as siblings:
        for _ in range(3):
            siblings.connect(1, GET)
            siblings.turn()
        assert sum(siblings.balancer.loads) == 3
        for rig in siblings.rigs:
            rig.wait(2.5)
        assert list(siblings.balancer.loads) == [0, 0]
        assert sum(siblings.counts) == 3


def test_siblings_take_over_the_queue_of_a_blocked_worker_but_no_request_it_has_begun():
    with Siblings(2) as siblings:
        one, two = siblings.rigs
        begun = siblings.connect(0, GET)
        one.turn()
        assert begun.recv(1000).endswith(b"hello")
        silent = siblings.connect(0)
        one.turn()  # accepted; it has not said anything
        assert silent in siblings.clients
        spoken = siblings.connect(0, GET)
        ours, parcel = pair()
        assert list(siblings.balancer.transfer(0, parcel)) == []
        # From here on the first worker does not turn.
        two.worker.intake.accept_for(0)
        two.turn()
        silent.sendall(GET)
        ours.sendall(GET)
        two.turn()
        for client in (silent, spoken, ours):
            assert client.recv(1000).endswith(b"hello")
        assert siblings.counts == [1, 3]
        one.turn()  # it finds nothing of what was taken
        begun.sendall(GET)
        one.turn()
        assert begun.recv(1000).endswith(b"hello")
        two.worker.intake.stop_accepting_for(0)
        last = siblings.connect(0, GET)
        two.turn()
        assert siblings.counts == [1, 3]
        one.turn()
        siblings.turn()
        assert last.recv(1000).endswith(b"hello")
        ours.close()


def test_retire_serves_or_hands_on_what_was_accepted_but_has_sent_nothing():
    with Siblings(2) as siblings:
        silent = siblings.connect(0)
        siblings.rigs[0].turn()
        assert siblings.counts == [0, 0]
        ours, parcel = pair()
        assert list(siblings.balancer.transfer(0, parcel)) == []
        siblings.rigs[0].worker.retire()
        assert siblings.counts == [2, 0]
        assert siblings.balancer.loads[0] == NOT_ACCEPTING
        silent.sendall(GET)
        siblings.turn()
        assert b"connection: close" in silent.recv(1000)
        ours.close()


def test_timeout_request_head_closes_an_accepted_connection_that_is_silent():
    with Siblings(2, timeout_request_head=4.0) as siblings:
        silent = siblings.connect(0)
        siblings.rigs[0].turn()
        assert siblings.balancer.loads[0] == 1
        siblings.rigs[0].wait(3.9)
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.recv(1)
        siblings.rigs[0].wait(0.2)
        assert silent.recv(1) == b""
        assert siblings.balancer.loads[0] == 0


def test_stop_serves_the_queue_of_a_blocked_worker():
    with Siblings(2) as siblings:
        clients = [siblings.connect(number, GET) for number in (0, 0, 1)]
        siblings.rigs[1].worker.stop()  # the other one is blocked, and hears nothing
        siblings.rigs[1].wait(0.3)
        assert all(client.recv(1000).endswith(b"hello") for client in clients)


def test_stop_after_retire_serves_the_queue():
    with Siblings(1) as siblings:
        slow = siblings.connect(0, b"GET / HTTP/1.1\r\n")  # keeps it from ending
        siblings.turn()
        siblings.rigs[0].worker.retire()
        late = siblings.connect(0, GET)
        siblings.turn()
        siblings.rigs[0].worker.stop()
        siblings.rigs[0].wait(0.3)
        assert late.recv(1000).endswith(b"hello")
        slow.close()


PROXIED = {"proxy_protocol": True, "proxy_protocol_allow_ips": "127.0.0.1"}
HEADER = encode.v1(("192.0.2.9", 7), ("192.0.2.1", 80))


def test_proxy_protocol_closes_an_accepted_connection_that_is_silent_also_without_timeout_request_head():
    with Siblings(2, timeout_request_head=None, **PROXIED) as siblings:
        client = siblings.connect(0)
        siblings.turn()
        assert len(siblings.balancer.pending[0]) == 1
        siblings.rigs[0].wait(10.1)
        assert client.recv(100) == b""
        assert not siblings.balancer.pending[0]


def test_a_connection_that_a_sibling_takes_over_before_its_header_has_the_client_of_the_header():
    async def app(scope, receive, send):
        await send(start())
        await send(body(repr(scope["client"]).encode()))

    with Siblings(2, app, **PROXIED) as siblings:
        client = siblings.connect(0)
        siblings.rigs[0].turn()
        siblings.balancer.blocked[0] = True
        siblings.rigs[1].worker.intake.accept_for(0)
        client.sendall(HEADER + GET)
        siblings.rigs[1].turn()
        assert client.recv(1000).endswith(b"('192.0.2.9', 7)")


@pytest.mark.parametrize("cut", [0, 5, len(HEADER)])
def test_a_connection_in_its_header_counts_as_load(cut):
    with Siblings(2, **PROXIED) as siblings:
        siblings.connect(0, HEADER[:cut])
        siblings.turn()
        assert siblings.balancer.loads[0] == 1
