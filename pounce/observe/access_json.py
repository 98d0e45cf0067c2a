"""The access log as JSON: one object on each line, with the same members in the same order.

Owner: the worker's thread; each worker has its own.
"""

import time
from json.encoder import encode_basestring_ascii as quoted

from pounce.observe.access_texts import BODILESS, CLIENT_GONE, ByFields, Clock, content_size, value_of
from pounce.observe.observer import Observed, Outcome
from pounce.protocols.events import Request
from pounce.protocols.fields import Field

EMPTY = '""'
MILLISECONDS = tuple(f"{number:03d}" for number in range(1000))


class JSONFormat:
    needs_times = True
    needs_response_fields = False

    def __init__(self, worker: int, root_path: str, clock: Clock) -> None:
        self._root = root_path
        """The service's."""
        self._clock = clock
        self._agents = ByFields(_agent)
        self._second = -1.0
        """When this second of the wall clock has begun, by the clock of the loop."""
        self._date = ""
        self._worker = f',"worker":{worker},"request_id":'

    def line(self, exchange: Observed, outcome: Outcome) -> str:
        end = self._clock()
        milliseconds = int((end - self._second) * 1000)
        if milliseconds > 999:
            milliseconds = self._begin_second(end)
        request, status, size = exchange.request, exchange.status, exchange.bytes_sent
        received, identity = exchange.received, exchange.request_id
        if exchange.seen is None:
            client = exchange.transport.peer.client
            asked = request.log_texts or self._text(request, self._root)
        else:
            client, root = exchange.peer.client, exchange.root_path
            asked = (request.log_texts if root == self._root else None) or self._text(request, root)
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
            f'"client":{quoted(client[0]) if client is not None else "null"},{asked},"status":{status or CLIENT_GONE},'
            f'"outcome":"{outcome._value_}","bytes_in":{exchange.bytes_received},"bytes_out":{size},'
            f'"duration":{duration},"time_to_first_byte":{first_byte},'
            f'"time_in_queue":{(exchange.started or end) - received:.6f}'
            f"{self._worker}{quoted(identity) if identity is not None else 'null'}}}\n"
        )

    def _text(self, request: Request, root: str) -> str:
        """What depends on the request and the root path alone; kept, if that is the service's."""
        query = request.query
        text = (
            f'"method":"{request.method}","path":{quoted(root + request.path.decode("ascii"))},'
            f'"query":{quoted(query.decode("ascii")) if query else EMPTY},'
            f'"http_version":"{request.version}","user_agent":{self._agents.of(request.fields)}'
        )
        if root == self._root:
            request.log_texts = text
        return text

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
