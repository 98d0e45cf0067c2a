"""A worker that a test turns, and time that a test lets pass."""

import contextlib
import selectors
import socket
from collections.abc import Mapping
from typing import Any, ClassVar

from pounce.app.loading import load
from pounce.config.config import Config
from pounce.kernel.loop import Loop
from pounce.net.address import Address
from pounce.net.listeners import Listener
from pounce.worker.balance import Balancer
from pounce.worker.worker import Report, Worker, WorkerState

CLIENT = ("192.0.2.1", 4711)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class SkippingSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """A real selector that never waits. The time a test lets pass, passes in it, as it does in a real wait."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.skip = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.clock.now += self.skip
        self.skip = 0.0
        return super().select(0)


def skipping_loop() -> tuple[Loop, SkippingSelector]:
    """A loop with real descriptors and a test's own time."""
    clock = Clock()
    selector = SkippingSelector(clock)
    return Loop(selector, clock), selector


class Idle(Exception):
    """The loop would wait for ever."""


class SleepingSelector(selectors.BaseSelector):
    """A selector without descriptors: waiting is nothing but the passing of the clock's time. What a test calls
    ready, with `make_ready`, is ready once."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.keys: dict[Any, selectors.SelectorKey] = {}
        self.ready: list[tuple[selectors.SelectorKey, int]] = []
        self.waits: list[float | None] = []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self.keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self.keys.pop(fileobj)

    def make_ready(self, fileobj: Any, events: int = selectors.EVENT_READ) -> None:
        self.ready.append((self.keys[fileobj], events))

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.waits.append(timeout)
        ready, self.ready = self.ready, []
        if not ready:
            if timeout is None:
                raise Idle
            self.clock.now += max(0.0, timeout)
        return ready

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self.keys

    def close(self) -> None:
        self.keys.clear()


def sleeping_loop() -> tuple[Loop, Clock, SleepingSelector]:
    """A loop without descriptors: only time passes."""
    clock = Clock()
    selector = SleepingSelector(clock)
    return Loop(selector, clock), clock, selector


def run_until_idle(loop: Loop) -> None:
    """Lets time pass until nothing waits any more."""
    with contextlib.suppress(Idle):
        while True:
            loop.turn()


class Rig:
    """A worker on the test's own thread, at the test's own time, with real sockets that are not on a network."""

    def __init__(
        self, app: Any, *, place: tuple[int, list[Listener], Balancer | None] = (0, [], None), serves: bool = True,
        **options: Any,
    ) -> None:  # fmt: skip
        """`serves`: else it is only ready."""
        self.loop, self.selector = skipping_loop()
        self.clock = self.selector.clock
        self.reports: list[Report] = []
        config = Config(app, **{"access_log": False, "lifespan": "off", **options})
        number, listeners, balancer = place
        self.worker = Worker(
            number,
            config,
            lambda: load(config),
            listeners,
            lambda _, what: self.reports.append(what),
            self.loop,
            balancer,
        )
        self.worker.start()
        self.turn()
        if serves:
            self.worker.serve()
        self._sockets: list[socket.socket] = []
        self.made.append(self)

    made: ClassVar[list["Rig"]] = []
    """Those of the present test."""

    @classmethod
    def close_all(cls) -> None:
        while cls.made:
            cls.made.pop().close()

    def close(self) -> None:
        """Closes what the test has left open. Nobody hears of it: the loop turns no more."""
        for sock in (*self._sockets, *(connection.stream.sock for connection in self.worker.connections)):
            sock.close()
        self.loop.close()

    def connect(self, client: Address | None = CLIENT) -> "Client":
        """`client`: the address that the server sees; None as at a Unix socket."""
        ours, theirs = socket.socketpair()
        self.accept(theirs, client)
        self._sockets.append(ours)
        return Client(self, ours)

    def accept(self, sock: socket.socket, client: Address | None = CLIENT) -> None:
        """Gives the worker the server's end of a connection."""
        sock.setblocking(False)
        self._sockets.append(sock)
        self.worker.connect(sock, client, ("192.0.2.2", 80))

    def turn(self, times: int = 8) -> None:
        for _ in range(times):
            if self.worker.state is not WorkerState.ENDED:  # as `Worker.run` does
                self.loop.turn(0)

    def skip(self, seconds: float) -> None:
        """Lets time pass in one piece, as in one long wait of the loop."""
        self.selector.skip = seconds
        self.turn()

    def wait(self, seconds: float) -> None:
        """Lets time pass, no faster than the loop can follow."""
        self.turn()
        end = self.clock.now + seconds
        while self.clock.now < end and self.worker.state is not WorkerState.ENDED:
            self.skip(max(0.001, min(end, self.loop.horizon) - self.clock.now))
        self.turn()


class Client:
    """The other end of a connection."""

    def __init__(self, rig: Rig, sock: socket.socket) -> None:
        self.rig = rig
        self.sock = sock
        sock.setblocking(False)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)
        self.rig.turn()

    def read(self) -> bytes:
        """Everything that has come."""
        self.rig.turn()
        data = bytearray()
        with contextlib.suppress(BlockingIOError):
            while part := self.sock.recv(1 << 20):
                data += part
                self.rig.turn()
        return bytes(data)

    def ask(self, data: bytes) -> bytes:
        self.send(data)
        return self.read()

    @property
    def closed(self) -> bool:
        """Has the server ended the connection, with everything read?"""
        self.rig.turn()
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.sock.close()
        self.rig.turn()
