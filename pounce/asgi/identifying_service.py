"""The service of a worker whose requests have identifiers.

Owner: the worker's thread.
"""

from contextvars import Context, copy_context
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
        context = Context() if self._resets_context else copy_context()
        context.run(request_id.set, identity)
        super().run(exchange, scope, context)
