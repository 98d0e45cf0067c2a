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
        assert self.request_ids is not None
        identity, field = exchange.request_id, self.request_ids.field
        assert identity is not None
        value = identity.encode("ascii")
        if (field, value) not in scope["headers"]:
            scope["headers"] = [*(each for each in scope["headers"] if each[0] != field), (field, value)]
        scope["extensions"]["request_id"] = {"id": identity}
        context = Context() if self._resets_context else copy_context()
        context.run(request_id.set, identity)
        super().run(exchange, scope, context)
