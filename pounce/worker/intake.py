"""Where a worker's connections come from: its own listening sockets, those of a sibling that cannot accept, and
what siblings with more to do hand over.

A worker on a thread that has siblings lets a new connection wait in its lobby until the client says something, and
only then makes it its own. If it is blocked meanwhile, a sibling can take it from there.

Owner: the worker's thread.
"""

import socket
from collections.abc import Callable, Sized
from functools import partial

from pounce.kernel.loop import READ, Loop
from pounce.net.acceptor import Acceptor
from pounce.net.address import Address
from pounce.net.listeners import Listener
from pounce.net.progress import unread
from pounce.worker.balance import Board, Lobby, Parcel

type Connect = Callable[[socket.socket, Address | None, Address], object]

REST = 1.0
"""Seconds after which a connection that asks for nothing no longer counts as load; they are counted as often."""


class Reception:
    def __init__(
        self,
        loop: Loop,
        number: int,
        listeners: list[Listener],
        board: Board | None,
        connections: Sized,
        resting: Callable[[float], int],
        silence: float,
        connect: Connect,
    ) -> None:
        """`resting` tells how many of the worker's connections have asked for nothing since a time; `silence` is
        how long a client may wait, in seconds, before its first word; `connect` takes a connection over."""
        self._loop = loop
        self._number = number
        self._listeners = listeners
        self._board = board
        self._connections = connections
        self._resting_since = resting
        self._resting = 0
        self._weighing = False
        self._connect = connect
        self._acceptors: dict[int, list[Acceptor]] = {}  # by place
        self._last: list[Acceptor] = []  # of all queues, at the end
        self._lobby: Lobby | None = None
        self._silent = loop.deadlines(silence, self._too_silent)
        self._open = False

    def open(self) -> None:
        """Lets clients in."""
        self._open = True
        self._accept_for(self._number)
        board = self._board
        if board is not None:
            if board.lobbies is not None:
                self._lobby = board.lobbies[self._number] = {}
            board.open(self._number, self._loop, self._take)
            self.weigh()
            self._take()  # what a predecessor has left

    def _accept_for(self, number: int) -> None:
        # One socket may be for several places, or for all: it is watched once.
        watched = {acceptor.listening for acceptors in self._acceptors.values() for acceptor in acceptors}
        self._acceptors[number] = [
            self._acceptor(listener, sock)
            for listener in self._listeners
            if (sock := listener.for_worker(number)) not in watched
        ]
        for acceptor in self._acceptors[number]:
            acceptor.start()

    def _acceptor(self, listener: Listener, sock: socket.socket) -> Acceptor:
        # A socket bound to every address of the machine does not know which one a client has used.
        known = None if listener.address[0] in ("0.0.0.0", "::") else listener.address
        return Acceptor(self._loop, sock, partial(self._accepted, known), may_be_shut=not listener.inherited)

    def _accepted(self, known: Address | None, sock: socket.socket, peer: object) -> None:
        client = (peer[0], peer[1]) if isinstance(peer, tuple) else None
        server = known if known is not None else sock.getsockname()[:2]
        if self._board is None or not self._open:
            self._connect(sock, client, server)
            return
        place = self._board.choose(self._number)
        if place == self._number:
            self._admit((sock, client, server))
            return
        for parcel in self._board.give(place, (sock, client, server)):
            self._admit(parcel)

    def _take(self) -> None:
        """Siblings have handed something over."""
        assert self._board is not None
        for parcel in self._board.empty(self._number):
            self._admit(parcel)

    # The load

    def weigh(self) -> None:
        """Tells the siblings how much there is to do. Called whenever a connection has come or gone."""
        if self._board is None or not self._open or not self._board.holds(self._number, self._loop):
            return
        count = len(self._connections) + len(self._lobby or ())
        self._board.loads[self._number] = max(0, count - self._resting)
        if count and not self._weighing:
            self._weighing = True
            self._loop.call_later(REST, self._weigh_again)

    def _weigh_again(self) -> None:
        self._weighing = False
        self._resting = self._resting_since(self._loop.now - REST)
        self.weigh()

    # The lobby

    def _admit(self, parcel: Parcel) -> None:
        if self._lobby is None:
            self._connect(*parcel)
            return
        sock, client, server = parcel
        self._silent.arm(sock)
        self._loop.watch(sock, READ, partial(self._spoken, sock))
        # Last: from here on a sibling may take it and end the watch, were this thread stopped between two steps.
        self._lobby[sock] = (self._loop, client, server)
        self.weigh()

    def _spoken(self, sock: socket.socket, _events: int = READ) -> None:
        """The first word has come, or the end. The connection is this worker's, unless a sibling was quicker."""
        found = self._lobby.pop(sock, None) if self._lobby is not None else None
        self._silent.disarm(sock)
        if found is not None:
            self._loop.unwatch(sock)
            self._connect(sock, found[1], found[2])

    def _too_silent(self, sock: socket.socket) -> None:
        found = self._lobby.pop(sock, None) if self._lobby is not None else None
        if found is None:
            return
        self._loop.unwatch(sock)
        if unread(sock):  # since the loop has looked
            self._connect(sock, found[1], found[2])
        else:
            sock.close()
            self.weigh()

    # For others

    def stand_in(self, number: int) -> None:
        """Accepts for a sibling that cannot, and takes over what that one has accepted and not begun. May be said
        again."""
        if self._open and self._board is not None and number < self._board.size:
            if number not in self._acceptors:
                self._accept_for(number)
            for parcel in self._board.rescue(number):
                self._admit(parcel)

    def step_back(self, number: int) -> None:
        """The sibling can accept again."""
        for acceptor in self._acceptors.pop(number, ()):
            acceptor.stop()

    # The end

    def shut(self) -> None:
        """Takes nothing more from siblings, and everybody in who has been accepted. Accepting goes on."""
        if not self._open:
            return
        self._open = False
        board = self._board
        if board is not None:
            left = board.shut(self._number, self._loop)
            for sock in list(self._lobby or ()):
                self._spoken(sock)
            self._lobby = None
            if left:
                self._take()

    def refuse(self) -> None:
        """Lets no new connection begin, at any socket of the server: it is the server that ends. Sockets that it has
        inherited stay as they are, for the next one."""
        for listener in self._listeners:
            listener.refuse()

    def drain(self) -> bool:
        """Takes everybody in who stands in a queue, be it the queue of a worker that cannot, and shuts the sockets
        then. False when there is no room to accept anybody, so that somebody may stand there still."""
        if not self._last:
            self._last = [self._acceptor(listener, sock) for listener in self._listeners for sock in listener.sockets]
        for listener in self._listeners:
            if listener.address[1] is None:
                listener.shut()  # first: the queue of a Unix socket stays, and nobody can come while it is emptied
        if False in [acceptor.drain() for acceptor in self._last]:
            return False
        for listener in self._listeners:
            listener.shut()
        return True

    def stop(self) -> None:
        """Accepts no more. Clients wait in the queues."""
        for number in list(self._acceptors):
            self.step_back(number)
