"""An exchange whose request has an identifier: a part of a class, as those of `detailed`.

What the server logs of such a request is logged in a context that has its identifier, as what the application logs.

Owner: the worker's thread.
"""

import contextlib
from collections.abc import Iterator

from pounce.asgi.exchange import Exchange
from pounce.asgi.service import Service
from pounce.asgi.stages import COMPLETE
from pounce.connections.interface import Transport
from pounce.log_records import request_id
from pounce.protocols.events import Request


class Identified(Exchange):
    def __init__(self, service: Service, transport: Transport, request: Request) -> None:
        super().__init__(service, transport, request)
        ids = service.request_ids
        assert ids is not None
        self.request_id = ids.of(transport.peer, request)
        transport.add_field(ids.field, self.request_id.encode("ascii"))

    def time_out(self) -> bool:
        with self._identified():
            return super().time_out()

    def log_and_cancel(self, level: int) -> None:
        with self._identified():
            super().log_and_cancel(level)

    def finished(self, value: object, error: BaseException | None) -> None:
        if error is None and value is None and self.stage is COMPLETE:
            super().finished(value, error)  # which logs nothing
            return
        with self._identified():
            super().finished(value, error)

    def _response_started(self) -> None:
        with self._identified():
            super()._response_started()

    @contextlib.contextmanager
    def _identified(self) -> Iterator[None]:
        token = request_id.set(self.request_id)
        try:
            yield
        finally:
            request_id.reset(token)
