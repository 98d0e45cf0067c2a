"""Where a worker's connections come from: its own listening sockets, those of a worker that cannot accept, and what
more loaded workers transfer (`balance`).

On a thread that has siblings a new connection is pending until the client has sent something, and only then becomes
this worker's. If the worker is blocked meanwhile, a sibling takes the pending connection over and serves it. A client
that connects and sends its request at once, as nearly all do, costs one more wait for readiness.

The end has four steps. `leave_balancer`: siblings hand nothing over any more, and what is pending is served here.
`stop_handshakes`: the kernel begins no new connection. `accept_all`: what is in the accept queues is accepted and the
sockets are shut down. `stop`: accepting ends.

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
from pounce.worker.balance import Accepted, Balancer, Pending, client_address

type Connect = Callable[[socket.socket, Address | None, Address], object]

IDLE_AFTER = 1.0
"""Seconds after which a connection that asks for nothing no longer counts as load; they are counted as often."""


class Intake:
    def __init__(
        self,
        loop: Loop,
        number: int,
        listeners: list[Listener],
        balancer: Balancer | None,
        connections: Sized,
        idle_since: Callable[[float], int],
        first_byte_timeout: float,
        connect: Connect,
    ) -> None:
        """`idle_since` gives how many connections of the worker have been idle since a time; a client has
        `first_byte_timeout` seconds to send something; `connect` takes a connection over."""
        self._loop = loop
        self._number = number
        self._listeners = listeners
        self._balancer = balancer
        self._connections = connections
        self._idle_since = idle_since
        self._idle = 0
        self._recount_scheduled = False
        self._connect = connect
        self._acceptors: dict[int, list[Acceptor]] = {}  # by slot
        self._final_acceptors: list[Acceptor] = []  # of all accept queues, at the end
        self._pending: Pending | None = None
        self._first_byte_deadline = loop.deadlines(first_byte_timeout, self._first_byte_timed_out)
        self._open = False

    def open(self) -> None:
        """Lets clients in."""
        self._open = True
        self._accept_for(self._number)
        balancer = self._balancer
        if balancer is not None:
            if balancer.pending is not None:
                self._pending = balancer.pending[self._number] = {}
            balancer.attach(self._number, self._loop, self._inbox_filled)
            self.update_load()
            self._take_inbox()  # what a predecessor has left

    def _accept_for(self, number: int) -> None:
        # One socket may be for several slots, or for all: it is watched once.
        watched = {acceptor.listening for acceptors in self._acceptors.values() for acceptor in acceptors}
        self._acceptors[number] = [
            self._acceptor(listener, sock)
            for listener in self._listeners
            for sock in listener.for_worker(number)
            if sock not in watched
        ]
        for acceptor in self._acceptors[number]:
            acceptor.start()

    def _acceptor(self, listener: Listener, sock: socket.socket) -> Acceptor:
        # A socket that is bound to all addresses of the machine does not tell which of them the client has used.
        bound_address = None if listener.address[0] in ("0.0.0.0", "::") else listener.address
        return Acceptor(self._loop, sock, partial(self._on_accept, bound_address), may_be_shut_down=listener.fd is None)

    def _on_accept(self, bound_address: Address | None, sock: socket.socket, peer: object) -> None:
        client = client_address(peer)
        server = bound_address if bound_address is not None else sock.getsockname()[:2]
        if self._balancer is None or not self._open:
            self._connect(sock, client, server)
            return
        slot = self._balancer.least_loaded(self._number)
        if slot == self._number:
            self._add((sock, client, server))
            return
        for accepted in self._balancer.transfer(slot, (sock, client, server)):
            self._add(accepted)

    def _inbox_filled(self) -> None:
        # Told late, after this worker has left the balancer, it leaves the connections to its successor.
        if self._open:
            self._take_inbox()

    def _take_inbox(self) -> None:
        """Adds the connections that siblings have transferred."""
        assert self._balancer is not None
        for accepted in self._balancer.take_all(self._number):
            self._add(accepted)

    # The load

    def update_load(self) -> None:
        """Publishes this worker's load. Called whenever a connection has come or gone."""
        if self._balancer is None or not self._open or not self._balancer.owns(self._number, self._loop):
            return
        count = len(self._connections) + len(self._pending or ())
        self._balancer.loads[self._number] = max(0, count - self._idle)
        if count and not self._recount_scheduled:
            self._recount_scheduled = True
            self._loop.call_later(IDLE_AFTER, self._recount)

    def _recount(self) -> None:
        self._recount_scheduled = False
        self._idle = self._idle_since(self._loop.now - IDLE_AFTER)
        self.update_load()

    # Pending connections

    def _add(self, accepted: Accepted) -> None:
        if self._pending is None:
            self._connect(*accepted)
            return
        sock, client, server = accepted
        self._first_byte_deadline.arm(sock)
        self._loop.watch(sock, READ, partial(self._first_byte, sock))
        # Last: from here on a sibling may take it and end the watch, whenever this thread is suspended.
        self._pending[sock] = (self._loop, client, server)
        self.update_load()

    def _first_byte(self, sock: socket.socket, _events: int = READ) -> None:
        """The client has sent something, or has closed: the connection is this worker's, if no sibling was quicker."""
        found = self._pending.pop(sock, None) if self._pending is not None else None
        self._first_byte_deadline.disarm(sock)
        if found is not None:
            self._loop.unwatch(sock)
            self._connect(sock, found[1], found[2])

    def _first_byte_timed_out(self, sock: socket.socket) -> None:
        found = self._pending.pop(sock, None) if self._pending is not None else None
        if found is None:
            return
        self._loop.unwatch(sock)
        if unread(sock):  # since the loop last waited
            self._connect(sock, found[1], found[2])
        else:
            sock.close()
            self.update_load()

    # For siblings

    def accept_for(self, number: int) -> None:
        """Accepts for a sibling that cannot, and takes over what it has accepted and not begun. May be called again."""
        if self._open and self._balancer is not None and number < self._balancer.size:
            if number not in self._acceptors:
                self._accept_for(number)
            for accepted in self._balancer.steal(number):
                self._add(accepted)

    def stop_accepting_for(self, number: int) -> None:
        """The sibling can accept again."""
        for acceptor in self._acceptors.pop(number, ()):
            acceptor.stop()

    # The end

    def leave_balancer(self) -> None:
        """Takes nothing more from siblings, and begins what is pending. Accepting goes on."""
        if not self._open:
            return
        self._open = False
        balancer = self._balancer
        if balancer is not None:
            left = balancer.detach(self._number, self._loop)
            for sock in list(self._pending or ()):
                self._first_byte(sock)
            self._pending = None
            if left:
                self._take_inbox()

    def stop_handshakes(self) -> None:
        """Has the kernel begin no new connection, at any socket of the server: the whole server ends. Inherited sockets
        stay as they are, for the next server."""
        for listener in self._listeners:
            listener.stop_handshakes()

    def accept_all(self) -> bool:
        """Accepts what is in the accept queues of all workers, and shuts the sockets down. False when the machine has
        no room for another connection, so that some may be left."""
        if not self._final_acceptors:
            self._final_acceptors = [
                self._acceptor(listener, sock) for listener in self._listeners for sock in listener.sockets
            ]
        for listener in self._listeners:
            if listener.address[1] is None:
                listener.shut_down()  # first: its queue stays, and takes no more while it is emptied
        if False in [acceptor.accept_all() for acceptor in self._final_acceptors]:
            return False
        for listener in self._listeners:
            listener.shut_down()
        return True

    def stop(self) -> None:
        """Accepts no more. Clients wait in the queues."""
        for number in list(self._acceptors):
            self.stop_accepting_for(number)
