"""The service of a worker whose requests have identifiers.

Owner: the worker's thread.
"""

from contextvars import Context
from typing import Any

from pounce.app.types import Scope
from pounce.asgi.request_id import RequestIds
from pounce.asgi.service import Call, Service
from pounce.config.config import Config
from pounce.log_records import request_id


class IdentifyingService(Service):
    """The service where requests have identifiers."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        config: Config = args[1]
        self.request_ids = RequestIds(config)
        self._resets_context, self._empty_context = config.reset_contextvars, False

    def run(self, exchange: Call, scope: Scope, context: Context | None = None) -> None:
        identity = exchange.request_id
        assert self.request_ids is not None
        assert identity is not None
        self.request_ids.amend(scope, exchange.request, identity)
        if self._resets_context:
            context = Context()
            context.run(request_id.set, identity)
        # Here too: the call itself may log, before there is a coroutine. A copy of this context is the coroutine's.
        token = request_id.set(identity)
        try:
            super().run(exchange, scope, context)
        finally:
            request_id.reset(token)
