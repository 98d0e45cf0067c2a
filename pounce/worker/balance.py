"""What the workers of a server know of each other, and how they hand each other connections.

Each worker has a place with a number. For each place there are

    a holder  the loop of the worker that has the place: one that was given up may turn again, behind its successor
    a load    how many connections its worker has; -1 while nobody accepts there. Written by that worker alone.
    a mark    is its worker blocked? Written by the supervisor alone.
    an inbox  connections that others have accepted for it
    a lobby   connections that it has accepted and that have not said anything yet (threads only)

Numbers are read without a lock, and what is read may be a moment old: then a connection is one step from where it
would be best, and nothing else. A connection in an inbox or a lobby is taken by whoever removes it there, in one
step that two threads cannot both do, so what a blocked worker has not begun can be begun by another.

Between threads a connection crosses as an entry of a deque, between processes as a descriptor over a Unix socket.
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

type Parcel = tuple[socket.socket, Address | None, Address]
"""An accepted, non-blocking socket, its client and the address it came to."""
type Lobby = dict[socket.socket, tuple[Loop, Address | None, Address]]
"""Silent connections, and the loop that watches for their first word."""

SHUT = -1
CELL = 8  # bytes of a load


class Inbox(Protocol):
    def open(self, loop: Loop, arrived: Callable[[], object]) -> None:
        """From now on `arrived` is called on this loop when there is something to take."""

    def shut(self) -> None:
        """Ends that. What lies in the inbox stays there."""

    def put(self, parcel: Parcel) -> bool:
        """From any worker. False when there is no room."""

    def take(self) -> Parcel | None:
        """By any worker. None when there is nothing."""

    def count(self) -> int:
        """How many there are to take."""

    def close(self) -> None:
        """Nobody uses it any more."""


class ThreadInbox:
    def __init__(self) -> None:
        self._parcels: deque[Parcel] = deque()
        self._told: tuple[Loop, Callable[[], object]] | None = None

    def open(self, loop: Loop, arrived: Callable[[], object]) -> None:
        self._told = loop, arrived

    def shut(self) -> None:
        self._told = None

    def put(self, parcel: Parcel) -> bool:
        if self._told is None:
            return False
        self._parcels.append(parcel)
        if (told := self._told) is not None:  # asked again: whoever has opened it before this finds what is there
            loop, arrived = told
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile, which whoever gives looks at next
                loop.post(arrived)
        return True

    def take(self) -> Parcel | None:
        try:
            return self._parcels.popleft()
        except IndexError:
            return None

    def count(self) -> int:
        return len(self._parcels)

    def close(self) -> None: ...


class ProcessInbox:
    """Both ends are made before the first worker is forked, so every worker has them, and so has each successor."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._loop: Loop | None = None
        self._arrived: Callable[[], object] | None = None
        self._retry: Timer | None = None

    def open(self, loop: Loop, arrived: Callable[[], object]) -> None:
        self._loop = loop
        self._arrived = arrived
        self._watch()

    def _watch(self) -> None:
        self._retry = None
        if self._loop is not None:
            self._loop.watch(self._reader, READ, lambda _events: self._arrived and self._arrived())

    def shut(self) -> None:
        if self._loop is not None:
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            else:
                self._loop.unwatch(self._reader)
            self._loop = None

    def put(self, parcel: Parcel) -> bool:
        try:
            socket.send_fds(self._writer, [b"c"], [parcel[0].fileno()])
        except OSError:
            return False
        parcel[0].close()
        return True

    def count(self) -> int:
        return unread(self._reader)  # each is one byte

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _room(self) -> bool:
        """Is a descriptor free? Where none is, one that comes in a message is lost for good (unix(7), SCM_RIGHTS), so
        the message has to wait, as clients do whom nobody can accept."""
        try:
            os.close(os.dup(self._reader.fileno()))
        except OSError:
            if self._loop is not None and self._retry is None:
                self._loop.unwatch(self._reader)
                self._retry = self._loop.call_later(RETRY, self._watch)
            return False
        return True

    def take(self) -> Parcel | None:
        while self._room():
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
                return sock, _address(sock.getpeername()), _address(sock.getsockname()) or ("", None)
            except OSError:  # the client has left
                sock.close()
        return None


def _address(name: object) -> Address | None:
    if isinstance(name, tuple):
        return name[0], name[1]
    return (name, None) if isinstance(name, str) and name else None


class Board:
    def __init__(self, count: int, *, processes: bool) -> None:
        # A list between threads, because what lies in bytes is read and written in C without any care for others.
        self.loads: list[int] | memoryview[int] = [SHUT] * count
        self.blocked: list[bool] | memoryview[int] = [False] * count
        if processes:
            memory = memoryview(mmap.mmap(-1, count * (CELL + 1)))
            self.loads, self.blocked = memory[: count * CELL].cast("q"), memory[count * CELL :]
            for number in range(count):
                self.loads[number] = SHUT
        self.inboxes: list[Inbox] = [ProcessInbox() if processes else ThreadInbox() for _ in range(count)]
        self.lobbies: list[Lobby] | None = None if processes else [{} for _ in range(count)]
        self._holders: list[Loop | None] = [None] * count
        self.size = count
        """Of how many places it knows; workers that are added later do without."""
        self._lock = threading.Lock()  # around a change of holders, which two threads may begin

    def open(self, number: int, loop: Loop, arrived: Callable[[], object]) -> None:
        """The worker with this loop has the place now; `arrived` is called on it when its inbox has something."""
        with self._lock:
            self._holders[number] = loop
            self.inboxes[number].open(loop, arrived)

    def close(self) -> None:
        """The server has ended."""
        for inbox in self.inboxes:
            inbox.close()

    def holds(self, number: int, loop: Loop) -> bool:
        """Is the place this worker's, and not its successor's? Always, between processes: what is lost is killed."""
        return self._holders[number] is loop

    def shut(self, number: int, loop: Loop) -> bool:
        """The worker with this loop leaves the place. False if a successor has it already."""
        with self._lock:
            if not self.holds(number, loop):
                return False
            self._holders[number] = None
            self.loads[number] = SHUT
            self.inboxes[number].shut()
        return True

    def choose(self, number: int) -> int:
        """Who should have the connection that the worker at `number` has just accepted: itself, unless somebody has
        less to do."""
        best, least = number, self.loads[number]
        if least > 0:
            for other, load in enumerate(self.loads):
                if SHUT < load < least and not self.blocked[other]:
                    load += self.inboxes[other].count()  # it does not know of those yet
                    if load < least:
                        best, least = other, load
        return best

    def give(self, number: int, parcel: Parcel) -> Iterator[Parcel]:
        """Hands a connection to the worker at `number`. What comes back has to be served by the giver after all."""
        inbox = self.inboxes[number]
        if not inbox.put(parcel):
            yield parcel
        elif self.loads[number] == SHUT:
            # It shuts first and empties its inbox then; this looks the other way round. So one of the two sees it.
            yield from self.empty(number)

    def empty(self, number: int) -> Iterator[Parcel]:
        """Everything that has been given to the worker at `number` and that it has not taken."""
        while (parcel := self.inboxes[number].take()) is not None:
            yield parcel

    def rescue(self, number: int) -> Iterator[Parcel]:
        """Everything that the worker at `number`, which does not turn, has accepted and not begun."""
        yield from self.empty(number)
        if self.lobbies is None:
            return
        lobby = self.lobbies[number]
        for sock in list(lobby):
            found = lobby.pop(sock, None)
            if found is not None:
                loop, client, server = found
                with contextlib.suppress(KeyError):
                    loop.unwatch(sock)  # its thread does not turn; if it begins to, each step of this is one of its own
                yield sock, client, server
