"""The access log as JSON: one object on each line, with the same members in the same order.

Owner: the worker's thread; each worker has its own.
"""

import time
from json.encoder import encode_basestring_ascii as quoted

from pounce.observe.access_texts import BODILESS, CLIENT_GONE, ByFields, Clock, content_size, value_of
from pounce.observe.observer import Observed, Outcome
from pounce.protocols.events import Request
from pounce.protocols.fields import Field

MILLISECONDS = tuple(f"{number:03d}" for number in range(1000))


class JSONFormat:
    needs_times = True
    needs_response_fields = False

    def __init__(self, worker: int, clock: Clock) -> None:
        self._clock = clock
        self._agents = ByFields(_agent)
        self._second = -1.0
        """When this second of the wall clock has begun, by the clock of the loop."""
        self._date = ""
        self._end = f',"worker":{worker},"request_id":'

    def line(self, exchange: Observed, outcome: Outcome) -> str:
        end = self._clock()
        milliseconds = int((end - self._second) * 1000)
        if milliseconds > 999:
            milliseconds = self._begin_second(end)
        request, peer, status = exchange.request, exchange.peer, exchange.status
        client, root, received, identity = peer.client, exchange.root_path, exchange.received, exchange.request_id
        method, target = request.log_texts or self._texts(request)
        size = exchange.bytes_sent
        if request.special or status in BODILESS:
            size = content_size(exchange)
        first_byte = duration = f"{end - received:.6f}"
        if exchange.first_byte:
            first_byte = f"{exchange.first_byte - received:.6f}"
        elif not status:
            first_byte = "null"
        # A request that was not admitted has waited in the queue to its end. `value` of an enumeration's member is a
        # property that is written in Python, `_value_` is the same.
        return (
            f'{{"time":"{self._date}{MILLISECONDS[milliseconds]}Z",'
            f'"client":{quoted(client[0]) if client is not None else "null"},'
            f'{method}{quoted(root)[1:-1] if root else ""}{target},"status":{status or CLIENT_GONE},'
            f'"outcome":"{outcome._value_}","bytes_in":{exchange.bytes_received},"bytes_out":{size},'
            f'"duration":{duration},"time_to_first_byte":{first_byte},'
            f'"time_in_queue":{(exchange.started or end) - received:.6f}'
            f"{self._end}{quoted(identity) if identity is not None else 'null'}}}\n"
        )

    def _texts(self, request: Request) -> tuple[str, str]:
        """What depends on the request alone: what is before the root path, and what is behind it."""
        path, query = quoted(request.path.decode("ascii")), quoted(request.query.decode("ascii"))
        texts = request.log_texts = (
            f'"method":"{request.method}","path":"',
            f'{path[1:]},"query":{query},"http_version":"{request.version}","user_agent":{self._agents.of(request.fields)}',
        )
        return texts

    def _begin_second(self, now: float) -> int:
        """Reads the wall clock, and returns the milliseconds of its second."""
        wall = time.time()
        part = wall % 1
        self._second = now - part
        self._date = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(wall))
        return int(part * 1000)


def _agent(fields: list[Field]) -> str:
    """The client's User-Agent, quoted. Bytes that are not UTF-8 are read as ISO-8859-1."""
    value = value_of(fields, b"user-agent")
    if value is None:
        return "null"
    try:
        return quoted(value.decode())
    except UnicodeDecodeError:
        return quoted(value.decode("latin-1"))
