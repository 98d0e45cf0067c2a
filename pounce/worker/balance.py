"""The balance between the workers of a server: what they know of each other's load, and how they hand connections on.

The kernel spreads connections over the workers' sockets without knowing what each worker does. It gives a busy worker
as many as an idle one, and goes on giving to a worker that is blocked. So the worker that accepts a connection looks at
the loads of all, and hands the connection to the least loaded. There is no queue that all would contend for, and no
lock on that way.

Each worker has a slot with a number. For each slot there are

    an owner   the loop of the worker that has the slot. A worker that was given up may run again beside its successor,
               and then is not the owner
    a load     the number of connections that are not idle; NOT_ACCEPTING while the worker accepts none. Written by the
               owner alone
    blocked    whether the worker is blocked. Written by the supervisor alone
    an inbox   connections that other workers have accepted for this one
    pending    connections that it has accepted and that have sent nothing yet (threads only)

Loads are read without a lock and may be a moment old. Then a connection goes to a worker that is not quite the least
loaded, and nothing else is lost. A connection in an inbox or in `pending` belongs to the worker that removes it there:
two workers cannot remove the same one, so what a blocked worker has not begun can be begun by another.

Between threads a connection crosses as an entry of a deque, between processes as a descriptor over a Unix socket.

Owner: shared by all workers, as said for each part.
"""

import contextlib
import mmap
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from pounce.kernel.loop import READ, Loop, Timer
from pounce.net.acceptor import RETRY
from pounce.net.address import Address
from pounce.net.progress import unread

type Accepted = tuple[socket.socket, Address | None, Address]
"""An accepted, non-blocking socket, its client and the address it came to."""
type Pending = dict[socket.socket, tuple[Loop, Address | None, Address]]
"""Connections that have sent nothing yet, and the loop that watches for their first byte."""

NOT_ACCEPTING = -1
LOAD_BYTES = 8  # bytes of a load


class Inbox(Protocol):
    def attach(self, loop: Loop, on_arrival: Callable[[], object]) -> None:
        """From now on `on_arrival` is called on this loop when there is something to take."""

    def detach(self) -> None:
        """Ends that. What is in the inbox stays there."""

    def put(self, accepted: Accepted) -> bool:
        """From any worker. False when there is no room."""

    def take(self) -> Accepted | None:
        """By any worker. None when there is nothing."""

    def count(self) -> int:
        """How many there are to take."""

    def close(self) -> None:
        """The server has ended."""


class ThreadInbox:
    def __init__(self) -> None:
        self._accepted: deque[Accepted] = deque()
        self._listener: tuple[Loop, Callable[[], object]] | None = None

    def attach(self, loop: Loop, on_arrival: Callable[[], object]) -> None:
        self._listener = loop, on_arrival

    def detach(self) -> None:
        self._listener = None

    def put(self, accepted: Accepted) -> bool:
        if self._listener is None:
            return False
        self._accepted.append(accepted)
        listener = self._listener  # read again: a worker that has attached before this finds the connection by itself
        if listener is not None:
            loop, on_arrival = listener
            with contextlib.suppress(RuntimeError):  # the worker has ended; `Balancer.transfer` checks that next
                loop.post(on_arrival)
        return True

    def take(self) -> Accepted | None:
        try:
            return self._accepted.popleft()
        except IndexError:
            return None

    def count(self) -> int:
        return len(self._accepted)

    def close(self) -> None: ...


class ProcessInbox:
    """Both ends are made before the first worker is forked, so every worker and every successor has them."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._loop: Loop | None = None
        self._on_arrival: Callable[[], object] | None = None
        self._retry: Timer | None = None

    def attach(self, loop: Loop, on_arrival: Callable[[], object]) -> None:
        self._loop = loop
        self._on_arrival = on_arrival
        self._watch()

    def _watch(self) -> None:
        self._retry = None
        if self._loop is not None:
            self._loop.watch(self._reader, READ, lambda _events: self._on_arrival and self._on_arrival())

    def detach(self) -> None:
        if self._loop is not None:
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            else:
                self._loop.unwatch(self._reader)
            self._loop = None

    def put(self, accepted: Accepted) -> bool:
        try:
            socket.send_fds(self._writer, [b"c"], [accepted[0].fileno()])
        except OSError:
            return False
        accepted[0].close()
        return True

    def count(self) -> int:
        return unread(self._reader)  # each is one byte

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _descriptor_free(self) -> bool:
        """Is a descriptor free? Where none is, one that comes in a message is lost for good (unix(7), SCM_RIGHTS), so
        the message has to wait, as clients wait in the accept queue."""
        try:
            os.close(os.dup(self._reader.fileno()))
        except OSError:
            if self._loop is not None and self._retry is None:
                self._loop.unwatch(self._reader)
                self._retry = self._loop.call_later(RETRY, self._watch)
            return False
        return True

    def take(self) -> Accepted | None:
        while self._descriptor_free():
            try:
                word, fds, _, _ = socket.recv_fds(self._reader, 1, 1)
            except OSError:
                return None
            if not fds:  # the last descriptor went to another thread meanwhile
                if not word:
                    return None
                continue
            sock = socket.socket(fileno=fds[0])
            sock.setblocking(False)
            try:
                return sock, client_address(sock.getpeername()), _server_address(sock.getsockname())
            except OSError:  # the client has left
                sock.close()
        return None


def client_address(name: object) -> Address | None:
    """None for a client at a Unix socket, also for one that has a path of its own."""
    return (name[0], name[1]) if isinstance(name, tuple) else None


def _server_address(name: object) -> Address:
    return client_address(name) or (name if isinstance(name, str) else "", None)


class Balancer:
    def __init__(self, count: int, *, processes: bool) -> None:
        # Between threads a list, because C reads and writes the items of a memoryview without any order.
        self.loads: list[int] | memoryview[int] = [NOT_ACCEPTING] * count
        self.blocked: list[bool] | memoryview[int] = [False] * count
        if processes:
            memory = memoryview(mmap.mmap(-1, count * (LOAD_BYTES + 1)))
            self.loads, self.blocked = memory[: count * LOAD_BYTES].cast("q"), memory[count * LOAD_BYTES :]
            for number in range(count):
                self.loads[number] = NOT_ACCEPTING
        self.inboxes: list[Inbox] = [ProcessInbox() if processes else ThreadInbox() for _ in range(count)]
        self.pending: list[Pending] | None = None if processes else [{} for _ in range(count)]
        self._owners: list[Loop | None] = [None] * count
        self.size = count
        """How many slots it knows; workers that are added later do without."""
        self._lock = threading.Lock()  # around a change of owners, which two threads may begin

    def attach(self, number: int, loop: Loop, on_arrival: Callable[[], object]) -> None:
        """The worker with this loop owns the slot now; `on_arrival` is called on it when its inbox has something."""
        with self._lock:
            self._owners[number] = loop
            self.inboxes[number].attach(loop, on_arrival)

    def close(self) -> None:
        """The server has ended."""
        for inbox in self.inboxes:
            inbox.close()

    def owns(self, number: int, loop: Loop) -> bool:
        """Is the slot this worker's, and not its successor's? For a process always: one that is given up is killed."""
        return self._owners[number] is loop

    def detach(self, number: int, loop: Loop) -> bool:
        """The worker with this loop leaves the slot. False if a successor owns it already."""
        with self._lock:
            if not self.owns(number, loop):
                return False
            self._owners[number] = None
            self.loads[number] = NOT_ACCEPTING
            self.inboxes[number].detach()
        return True

    def least_loaded(self, number: int) -> int:
        """The slot of the worker that should have the connection that the one at `number` has just accepted: its own,
        unless another is less loaded."""
        best, least = number, self.loads[number]
        if least > 0:
            for other, load in enumerate(self.loads):
                if NOT_ACCEPTING < load < least and not self.blocked[other]:
                    load += self.inboxes[other].count()  # its load does not count those yet
                    if load < least:
                        best, least = other, load
        return best

    def transfer(self, number: int, accepted: Accepted) -> Iterator[Accepted]:
        """Hands a connection to the worker at `number`. Gives back what the caller has to serve after all."""
        inbox = self.inboxes[number]
        if not inbox.put(accepted):
            yield accepted
        elif self.loads[number] == NOT_ACCEPTING:
            # `detach` sets the load first and the worker empties its inbox then; here the order is the other way round.
            # So one of the two finds the connection.
            yield from self.take_all(number)

    def take_all(self, number: int) -> Iterator[Accepted]:
        """All connections in the inbox of the worker at `number`."""
        while (accepted := self.inboxes[number].take()) is not None:
            yield accepted

    def steal(self, number: int) -> Iterator[Accepted]:
        """All connections that the worker at `number`, which is blocked, has accepted and not begun."""
        yield from self.take_all(number)
        if self.pending is None:
            return
        pending = self.pending[number]
        for sock in list(pending):
            found = pending.pop(sock, None)
            if found is not None:
                loop, client, server = found
                with contextlib.suppress(KeyError):
                    loop.unwatch(
                        sock
                    )  # its thread is blocked; should it run again meanwhile, each of these steps is atomic
                yield sock, client, server
