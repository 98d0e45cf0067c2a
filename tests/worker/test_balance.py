"""The board on which workers find each other, and the inboxes through which they hand over connections."""

import os
import resource
import socket
import sys
import threading
from collections import deque

import pytest

from pounce.supervisor.plan import has_gil
from pounce.worker.balance import NOT_ACCEPTING, Balancer, ProcessInbox
from tests.support.harness import skipping_loop
from tests.support.workers import pair


def test_a_connection_from_another_process_waits_until_a_descriptor_is_free():
    # Found by `chaos`: with process workers, a connection that was handed to a sibling without a free descriptor was
    # lost, though the client had been accepted.
    loop, _ = skipping_loop()
    inbox, arrived, spent = ProcessInbox(), [], []
    inbox.open(loop, lambda: arrived.append(inbox.take()))
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
    inbox.shut()


# Found by reading the code.
def test_an_inbox_is_shut_once_by_the_last_loop_that_opened_it():
    board = Balancer(1, processes=False)
    loops = [skipping_loop()[0] for _ in range(3)]
    for loop in loops:
        board.open(0, loop, int)
    assert [board.shut(0, loop) for loop in loops] == [False, False, True]
    assert not board.shut(0, loops[2])


# Found by reading the code.
def test_a_connection_given_while_an_inbox_changes_hands_is_taken():
    board = Balancer(1, processes=False)
    loops = [skipping_loop()[0] for _ in range(2)]
    taken = []

    class Parcels(deque):
        def append(self, parcel):  # the successor opens at the worst time
            board.open(0, loops[1], lambda: taken.extend(board.take_all(0)))
            taken.extend(board.take_all(0))
            super().append(parcel)

    board.open(0, loops[0], int)
    board.loads[0] = 0
    board.inboxes[0]._parcels = Parcels()
    ours, parcel = pair()
    assert list(board.transfer(0, parcel)) == []
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
    loads, blocked, waiting, chosen, processes
):
    board = Balancer(3, processes=processes)
    board.inboxes[1].open(skipping_loop()[0], int)
    pairs = [pair() for _ in range(waiting)]
    assert all(board.inboxes[1].put(parcel) for _, parcel in pairs)
    for number, load in enumerate(loads):
        board.loads[number] = load
        board.blocked[number] = number in blocked
    assert board.least_loaded(0) == chosen


def test_numbers_that_threads_share_are_whole_objects():
    """ThreadSanitizer: the items of a memoryview are read and written in C with no care for other threads."""
    board = Balancer(2, processes=False)
    assert type(board.loads) is list
    assert type(board.blocked) is list


@pytest.mark.parametrize("processes", [False, True])
def test_a_connection_is_handed_over_and_taken_once(processes):
    board = Balancer(2, processes=processes)
    loop, _ = skipping_loop()
    arrived = []
    assert list(board.transfer(1, pair()[1])) != []  # nobody is there
    board.inboxes[1].open(loop, lambda: arrived.extend(board.take_all(1)))
    board.loads[1] = 0
    ours, parcel = pair()
    assert list(board.transfer(1, parcel)) == []
    loop.turn(0)
    loop.turn(0)
    assert len(arrived) == 1
    ours.send(b"x")
    assert arrived[0][0].recv(10) == b"x"
    assert list(board.take_all(1)) == []


@pytest.mark.parametrize("processes", [False, True])
def test_a_connection_given_to_an_inbox_that_shuts_comes_back(processes):
    board = Balancer(2, processes=processes)
    loop, _ = skipping_loop()
    board.inboxes[1].open(loop, lambda: None)
    board.loads[1] = NOT_ACCEPTING  # its last look into the inbox may be over
    ours, parcel = pair()
    (back,) = board.transfer(1, parcel)
    ours.send(b"x")
    assert back[0].recv(10) == b"x"


def test_a_full_inbox_of_a_process_gives_the_connection_back():
    board = Balancer(2, processes=True)
    board.loads[1] = 0
    kept = []
    pairs = [pair() for _ in range(400)]
    for _, parcel in pairs:
        kept += board.transfer(1, parcel)
    assert 0 < len(kept) < 400
    assert len(list(board.take_all(1))) == 400 - len(kept)


@pytest.mark.skipif(has_gil(), reason="about threads that run at the same time")
def test_a_connection_is_taken_by_one_thread_only():
    """Givers, a receiver that opens and shuts, and a rescuer: every parcel comes out once."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        board = Balancer(2, processes=False)
        loop, _ = skipping_loop()
        count, out, over = 20_000, [[] for _ in range(4)], threading.Event()
        start = threading.Barrier(4)

        def give(mine):
            start.wait()
            for number in range(count):
                out[mine].extend(board.transfer(1, (mine, number)))

        def receive():
            start.wait()
            while not over.is_set():
                board.inboxes[1].open(loop, int)
                board.loads[1] = 0
                out[2].extend(board.take_all(1))
                board.loads[1] = NOT_ACCEPTING
                board.inboxes[1].shut()
                out[2].extend(board.take_all(1))

        def rescue():
            start.wait()
            while not over.is_set():
                out[3].extend(board.steal(1))

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
