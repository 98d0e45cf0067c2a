"""What a server that ends still waits for, for the log: its running requests, by name, and its open connections.

    Waiting for connections to close. (CTRL+C to force quit)
    2 requests still running: GET /events, WebSocket /chat; 29 s left, Ctrl-C again to stop now

An end that takes no longer than anybody notices says nothing.

Owner: the supervisor's thread. What it reads of a worker may belong to another thread.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pounce.asgi.exchange import Exchange
from pounce.asgi.stages import COMPLETE
from pounce.connections.http1 import HTTP1Connection
from pounce.kernel.loop import Loop, Timer
from pounce.worker.worker import Worker

LOOK = 0.5
"""Seconds between two looks. The first asks worker processes, the second has their answers."""
AGAIN = 10.0
"""Seconds until what has changed is said again."""
MOST_NAMES = 5
"""Names in one line."""
MOST_ASKED = 20
"""Names that a worker process answers with; with LONGEST_NAME, that fits into one read of its line."""
LONGEST_NAME = 100

logger = logging.getLogger("pounce.error")


class Unfinished(NamedTuple):
    """What one worker, or several, have not finished."""

    names: Counter[str]
    """Requests whose application runs, by name. The empty name stands for all that are not named."""
    connections: int

    def encode(self) -> bytes:
        """In one line, for a supervisor in another process."""
        named = dict(self.names.most_common(MOST_ASKED))
        rest = self.names.total() - sum(named.values())
        return json.dumps([{**named, "": rest + named.get("", 0)}, self.connections]).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "Unfinished":
        names, connections = json.loads(line)
        return cls(+Counter(names), connections)


NOTHING = Unfinished(Counter(), 0)


def unfinished(worker: Worker) -> Unfinished:
    """What this worker has not finished. Any thread may ask: the worker's tables are copied whole, which is one step,
    and of a request only what never changes is read, and whether it is over."""
    connections = list(worker.connections)
    running: set[Exchange] = set(worker.exchanges)
    for connection in connections:  # in its first step a request is in no table
        begun = connection.exchange if isinstance(connection, HTTP1Connection) else None
        if begun is not None and begun.task is None and not begun.queued and begun.stage is not COMPLETE:
            running.add(begun)
    return Unfinished(Counter(exchange.name[:LONGEST_NAME] for exchange in running), len(connections))


class Farewell:
    """Tells people what the end of the server waits for, once it takes a while."""

    def __init__(self, loop: Loop, ask: Callable[[], Iterable[Unfinished]]) -> None:
        """`ask` gives what each worker that is left has not finished, as far as it is known, and asks again."""
        self._loop = loop
        self._ask = ask
        self._until: float | None = None
        self._next = 0.0  # when something may be said
        self._said: Counter[str] | None = None
        self._waits_for = ""
        self._timer: Timer | None = None

    def start(self, patience: float | None) -> None:
        """The end has begun. What runs has `patience` seconds; None: for ever."""
        now = self._loop.clock()
        self._until = None if patience is None else now + patience
        self._next = now + LOOK * 1.5  # at the second look
        self._timer = self._loop.call_later(LOOK, self._look)
        self._ask()  # so that the first look has answers

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK, self._look)
        names: Counter[str] = Counter()
        connections = 0
        for part in self._ask():
            names += part.names
            connections += part.connections
        now = self._loop.clock()
        if now < self._next or not (names or connections):
            return
        waits_for = "connections to close" if connections else "background tasks to complete"
        if waits_for != self._waits_for:
            logger.info("Waiting for %s. (CTRL+C to force quit)", waits_for)
            self._waits_for = waits_for
        elif names == self._said:
            return
        left = "waiting for ever" if self._until is None else f"{max(0.0, self._until - now):.0f} s left"
        what = _describe(names) if names else f"{connections} connection{'s' * (connections != 1)} still open"
        logger.info("%s; %s, Ctrl-C again to stop now", what, left)
        self._said = names
        self._next = now + AGAIN


def _describe(names: Counter[str]) -> str:
    total = names.total()
    named = sorted(((name, count) for name, count in names.items() if name), key=lambda item: (-item[1], item[0]))
    words = [f"{_visible(name)} ({count})" if count > 1 else _visible(name) for name, count in named[:MOST_NAMES]]
    rest = total - sum(count for _, count in named[:MOST_NAMES])
    more = f" and {rest} more" if rest else ""
    return f"{total} request{'s' * (total != 1)} still running: {', '.join(words)}{more}"


def _visible(name: str) -> str:
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)
