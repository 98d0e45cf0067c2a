"""What a worker still has to finish: its running requests, by name, and its open connections.

Any thread may ask. A worker's tables are copied whole, which is one step, and of a request only what never changes is
read, and whether its response is complete.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from pounce.asgi.exchange import Exchange
from pounce.asgi.service import Call
from pounce.asgi.stages import COMPLETE
from pounce.worker.worker import Worker

MAX_SENT_NAMES = 20
"""Names that a worker process sends; with MAX_NAME, they fit into one read of the side channel."""
MAX_NAME = 100
"""Characters of a name."""


class InFlight(NamedTuple):
    """What one worker, or several, have not finished."""

    names: Counter[str]
    """Requests whose application runs, by name. The empty name stands for all that are not named."""
    connections: int

    def encode(self) -> bytes:
        """One line of JSON, for a supervisor in another process."""
        named = dict(self.names.most_common(MAX_SENT_NAMES))
        rest = self.names.total() - sum(named.values())
        return json.dumps([{**named, "": rest + named.get("", 0)}, self.connections]).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "InFlight":
        names, connections = json.loads(line)
        return cls(+Counter(names), connections)


NONE_IN_FLIGHT = InFlight(Counter(), 0)


def in_flight(worker: Worker) -> InFlight:
    """What this worker has not finished."""
    return InFlight(Counter(exchange.name[:MAX_NAME] for exchange in _running(worker)), len(worker.connections))


def running(worker: Worker) -> int:
    """How many requests it has not finished."""
    return len(_running(worker))


def _running(worker: Worker) -> set[Call]:
    found: set[Call] = set(worker.exchanges)
    found.update(exchange for exchange in _in_first_step(worker) if exchange.stage is not COMPLETE)
    return found


def current_request(worker: Worker) -> str:
    """The name of the request whose application runs at this moment, in a worker that is blocked."""
    for exchange in list(worker.exchanges):
        if exchange.task is not None and exchange.task.running:
            return exchange.name
    for exchange in _in_first_step(worker):
        return exchange.name
    return "what belongs to no request"


def _in_first_step(worker: Worker) -> Iterator[Exchange]:
    """Exchanges whose application has not had to wait yet. They are in no table of the worker."""
    for connection in list(worker.connections):
        exchange = connection.handler
        if isinstance(exchange, Exchange) and exchange.task is None and not exchange.queued:
            yield exchange
