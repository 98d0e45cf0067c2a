"""Accepts connections from one listening socket, in batches, and stops when the machine has no room.

Owner: the worker's thread. The listening socket itself belongs to the supervisor.
"""

import errno
import logging
import socket
from collections.abc import Callable

from pounce.kernel.loop import READ, Loop, Timer

MAX_PER_TURN = 64
"""Connections accepted in one turn: enough to empty a burst, few enough not to starve those already open."""

NO_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
RETRY = 1.0  # seconds until the next try when the machine had no room

CLIENT_GONE = frozenset((errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT,
                         errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH,
                         errno.ENONET))  # fmt: skip
"""The client went away while it waited in the queue, or a firewall has refused it: accept(2), "Error handling"."""

logger = logging.getLogger("pounce.error")


class Acceptor:
    """Calls `accepted(socket, peer name)` for each new connection. The socket is non-blocking."""

    def __init__(
        self, loop: Loop, listening: socket.socket, accepted: Callable[[socket.socket, object], object],
        *, may_be_shut_down: bool = False,
    ) -> None:  # fmt: skip
        """`may_be_shut_down`: a server process shuts the socket down when it ends: this one, or one that has it too."""
        self._loop = loop
        self.listening = listening
        self._accepted = accepted
        self._may_be_shut_down = may_be_shut_down
        self._retry: Timer | None = None
        self._exhausted = False  # said once, until accepting works again
        self.accepting = False

    def start(self) -> None:
        if not self.accepting:
            self.accepting = True
            self._loop.watch(self.listening, READ, self._ready)

    def stop(self) -> None:
        """Accepts no more for now. Clients wait in the socket's queue."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self.accepting:
            self.accepting = False
            self._loop.unwatch(self.listening)

    def accept_all(self) -> bool:
        """Accepts every connection in the queue, however many. False when the machine has no room for another."""
        while self._accept_one():
            pass
        return not self._exhausted

    def _ready(self, _events: int) -> None:
        # `stop` may have been called since `select` returned: what is accepted after that is served by nobody.
        for _ in range(MAX_PER_TURN):
            if not self.accepting or not self._accept_one():
                return

    def _accept_one(self) -> bool:
        try:
            sock, name = self.listening.accept()
        except (BlockingIOError, InterruptedError):
            self._exhausted = False  # Linux looks for a descriptor before it looks into the queue
            return False
        except OSError as error:
            if error.errno in NO_RESOURCES:
                self._pause(error)
                return False
            if error.errno in CLIENT_GONE:
                return True
            if error.errno == errno.EINVAL and self._may_be_shut_down:
                self._exhausted = False
                self.stop()
                return False
            raise
        self._exhausted = False
        sock.setblocking(False)
        self._accepted(sock, name)
        return True

    def _pause(self, error: OSError) -> None:
        """The socket stays readable, so without a pause the loop would spin."""
        if not self._exhausted:
            self._exhausted = True
            logger.error(
                "Cannot accept connections: %s. Trying again every second; "
                "raise the limit (ulimit -n) or set --limit-concurrency.",
                (error.strerror or str(error)).lower(),
            )
        if self.accepting:
            self.stop()
            self._retry = self._loop.call_later(RETRY, self.start)
