"""The balancer on which workers find each other, and the inboxes through which they hand over connections."""

import os
import resource
import socket
import sys
import threading
from collections import deque

import pytest

from pounce.supervisor.plan import has_gil
from pounce.worker.balance import NOT_ACCEPTING, Balancer, ProcessInbox, client_address
from tests.support.harness import skipping_loop
from tests.support.workers import pair


@pytest.fixture
def make_balancer():
    balancers = []

    def make(count, *, processes):
        balancers.append(Balancer(count, processes=processes))
        return balancers[-1]

    yield make
    for balancer in balancers:
        balancer.close()


@pytest.fixture
def make_pair():
    """As `pair`, closed at the end of the test."""
    socks = []

    def make():
        ours, accepted = pair()
        socks.extend((ours, accepted[0]))
        return ours, accepted

    yield make
    for sock in socks:
        sock.close()


def test_a_connection_from_another_process_waits_until_a_descriptor_is_free():
    # Found by `chaos`: with process workers, a connection that was handed to a sibling without a free descriptor was
    # lost, though the client had been accepted.
    loop, _ = skipping_loop()
    inbox, arrived, spent = ProcessInbox(), [], []
    inbox.attach(loop, lambda: arrived.append(inbox.take()))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    ours, theirs = socket.socketpair()
    assert inbox.put((ours, None, ("", None)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                spent.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(5):
            loop.turn(0)
        assert arrived == [None]  # and does not try again and again
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in spent:
            os.close(fd)
    parcel = inbox.take()
    assert parcel is not None
    with parcel[0] as sock, theirs:
        sock.sendall(b"still there")
        assert theirs.recv(100) == b"still there"
    inbox.detach()
    inbox.close()


# Found by reading the code.
@pytest.mark.parametrize("bound", [False, True])
def test_a_client_at_a_unix_socket_has_no_address_in_another_process_either(bound, tmp_path):
    inbox, path = ProcessInbox(), str(tmp_path / "server")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as ours:
        listening.bind(path)
        listening.listen()
        if bound:
            ours.bind(str(tmp_path / "client"))
        ours.connect(path)
        sock, name = listening.accept()
        assert client_address(name) is None
        assert inbox.put((sock, None, (path, None)))
    parcel = inbox.take()
    assert parcel is not None
    assert parcel[1:] == (None, (path, None))
    parcel[0].close()
    inbox.close()


# Found by reading the code.
def test_an_inbox_is_shut_once_by_the_last_loop_that_opened_it(make_balancer):
    balancer = make_balancer(1, processes=False)
    loops = [skipping_loop()[0] for _ in range(3)]
    for loop in loops:
        balancer.attach(0, loop, int)
    assert [balancer.detach(0, loop) for loop in loops] == [False, False, True]
    assert not balancer.detach(0, loops[2])


# Found by reading the code.
def test_a_connection_given_while_an_inbox_changes_hands_is_taken(make_balancer, make_pair):
    balancer = make_balancer(1, processes=False)
    loops = [skipping_loop()[0] for _ in range(2)]
    taken = []

    class Accepting(deque):
        def append(self, parcel):  # the successor opens at the worst time
            balancer.attach(0, loops[1], lambda: taken.extend(balancer.take_all(0)))
            taken.extend(balancer.take_all(0))
            super().append(parcel)

    balancer.attach(0, loops[0], int)
    balancer.loads[0] = 0
    balancer.inboxes[0]._accepted = Accepting()
    ours, parcel = make_pair()
    assert list(balancer.transfer(0, parcel)) == []
    for loop in loops:
        loop.turn(0)
        loop.turn(0)
    assert taken == [parcel]
    ours.close()
    parcel[0].close()


@pytest.mark.parametrize(
    ("loads", "blocked", "waiting", "chosen"),
    [
        ([0, 0, 0], [], 0, 0),
        ([1, 0, 0], [], 0, 1),
        ([1, 1, 1], [], 0, 0),
        ([3, 1, 2], [], 0, 1),
        ([3, 1, 1], [], 1, 2),  # somebody has given one to the first already
        ([3, 1, 2], [1], 0, 2),
        ([3, 1, 3], [1], 0, 0),
        ([9, NOT_ACCEPTING, NOT_ACCEPTING], [], 0, 0),
        ([NOT_ACCEPTING, 0, 0], [], 0, 0),
    ],
)
@pytest.mark.parametrize("processes", [False, True])
def test_the_least_loaded_worker_that_is_not_blocked_gets_the_next_connection(
    loads, blocked, waiting, chosen, processes, make_balancer, make_pair
):
    balancer = make_balancer(3, processes=processes)
    balancer.inboxes[1].attach(skipping_loop()[0], int)
    pairs = [make_pair() for _ in range(waiting)]
    assert all(balancer.inboxes[1].put(parcel) for _, parcel in pairs)
    for number, load in enumerate(loads):
        balancer.loads[number] = load
        balancer.blocked[number] = number in blocked
    assert balancer.least_loaded(0) == chosen


def test_numbers_that_threads_share_are_whole_objects(make_balancer):
    """ThreadSanitizer: the items of a memoryview are read and written in C with no care for other threads."""
    balancer = make_balancer(2, processes=False)
    assert type(balancer.loads) is list
    assert type(balancer.blocked) is list


@pytest.mark.parametrize("processes", [False, True])
def test_a_connection_is_handed_over_and_taken_once(processes, make_balancer, make_pair):
    balancer = make_balancer(2, processes=processes)
    loop, _ = skipping_loop()
    arrived = []
    ((back, *_),) = balancer.transfer(1, make_pair()[1])  # nobody is there
    back.close()
    balancer.inboxes[1].attach(loop, lambda: arrived.extend(balancer.take_all(1)))
    balancer.loads[1] = 0
    ours, parcel = make_pair()
    assert list(balancer.transfer(1, parcel)) == []
    loop.turn(0)
    loop.turn(0)
    assert len(arrived) == 1
    ours.send(b"x")
    with arrived[0][0] as theirs:
        assert theirs.recv(10) == b"x"
    assert list(balancer.take_all(1)) == []


@pytest.mark.parametrize("processes", [False, True])
def test_a_connection_given_to_an_inbox_that_shuts_comes_back(processes, make_balancer, make_pair):
    balancer = make_balancer(2, processes=processes)
    loop, _ = skipping_loop()
    balancer.inboxes[1].attach(loop, lambda: None)
    balancer.loads[1] = NOT_ACCEPTING  # its last look into the inbox may be over
    ours, parcel = make_pair()
    (back,) = balancer.transfer(1, parcel)
    ours.send(b"x")
    with back[0] as theirs:
        assert theirs.recv(10) == b"x"


def test_a_full_inbox_of_a_process_gives_the_connection_back(make_balancer, make_pair):
    balancer = make_balancer(2, processes=True)
    balancer.loads[1] = 0
    kept = []
    pairs = [make_pair() for _ in range(400)]
    for _, parcel in pairs:
        kept += balancer.transfer(1, parcel)
    assert 0 < len(kept) < 400
    taken = list(balancer.take_all(1))
    assert len(taken) == 400 - len(kept)
    for sock, *_ in taken:
        sock.close()


@pytest.mark.skipif(has_gil(), reason="about threads that run at the same time")
def test_a_connection_is_taken_by_one_thread_only(make_balancer):
    """Givers, a receiver that opens and shuts, and a rescuer: every parcel comes out once."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        balancer = make_balancer(2, processes=False)
        loop, _ = skipping_loop()
        count, out, over = 20_000, [[] for _ in range(4)], threading.Event()
        start = threading.Barrier(4)

        def give(mine):
            start.wait()
            for number in range(count):
                out[mine].extend(balancer.transfer(1, (mine, number)))

        def receive():
            start.wait()
            while not over.is_set():
                balancer.inboxes[1].attach(loop, int)
                balancer.loads[1] = 0
                out[2].extend(balancer.take_all(1))
                balancer.loads[1] = NOT_ACCEPTING
                balancer.inboxes[1].detach()
                out[2].extend(balancer.take_all(1))

        def rescue():
            start.wait()
            while not over.is_set():
                out[3].extend(balancer.steal(1))

        others = [threading.Thread(target=receive), threading.Thread(target=rescue)]
        givers = [threading.Thread(target=give, args=(mine,)) for mine in range(2)]
        for thread in others + givers:
            thread.start()
        for thread in givers:
            thread.join()
        over.set()
        for thread in others:
            thread.join()
        assert sorted(parcel for part in out for parcel in part) == [(m, n) for m in range(2) for n in range(count)]
    finally:
        sys.setswitchinterval(interval)
