"""Listening sockets and streams over TCP, for tests."""

import contextlib

from pounce.net.acceptor import Acceptor
from pounce.net.listeners import open_listeners
from tests.support.harness import skipping_loop


@contextlib.contextmanager
def opened(*binds, workers=1, backlog=100):
    listeners = open_listeners(binds, workers)
    try:
        for listener in listeners:
            listener.listen(backlog)
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


class Accepting:
    def __init__(self, listening):
        self.loop, self.selector = skipping_loop()
        self.sockets = []
        self.acceptor = Acceptor(
            self.loop, listening, lambda sock, name: self.sockets.append(sock), may_be_shut_down=True
        )
        self.acceptor.start()

    def close(self):
        for sock in self.sockets:
            sock.close()
        self.loop.close()


class Refusing:
    """A listening socket whose accept fails as told."""

    def __init__(self, sock, *errors):
        self.sock = sock
        self.errors = list(errors)
        self.calls = 0

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def accept(self):
        self.calls += 1
        if self.errors:
            raise OSError(self.errors.pop(0), "as told")
        return self.sock.accept()
