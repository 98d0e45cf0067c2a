"""The message log: the messages between server and application, at level trace, as uvicorn's MessageLoggerMiddleware
logs them, with contents replaced by their length.

Must never be imported unless that level is on: only then is the application wrapped. Owner: none; nothing here changes
but a counter.
"""

import itertools
import logging
from collections.abc import Mapping
from typing import Any

from pounce.app.types import Application, Message, Receive, Scope, Send
from pounce.logging import TRACE

logger = logging.getLogger("pounce.asgi")

_SHORT = {"body": "<%d bytes>", "bytes": "<%d bytes>", "text": "<%d chars>", "headers": "<...>"}


def _shortened(message: Any) -> Any:
    if not isinstance(message, Mapping):
        return message  # an error of the application, which `send` reports
    shown = dict(message)
    for key, form in _SHORT.items():
        if (content := shown.get(key)) is not None:
            shown[key] = form % len(content) if "%" in form and hasattr(content, "__len__") else form
    return shown


def logged(application: Application) -> Application:
    """The application, wrapped so that each message makes a log record."""
    numbers = itertools.count(1)  # shared by all workers: `next` is atomic

    async def with_messages_logged(scope: Scope, receive: Receive, send: Send) -> object:
        number = next(numbers)
        client = scope.get("client")
        prefix = f"{client[0]}:{client[1]} - ASGI" if client else "ASGI"

        def trace(text: str, *arguments: object) -> None:
            logger.log(TRACE, "%s [%d] " + text, prefix, number, *arguments)

        async def logged_receive() -> Message:
            message = await receive()
            trace("Receive %s", _shortened(message))
            return message

        async def logged_send(message: Message) -> None:
            trace("Send %s", _shortened(message))
            await send(message)

        trace("Started scope=%s", _shortened(scope))
        try:
            value = await application(scope, logged_receive, logged_send)
        except BaseException:
            trace("Raised exception")
            raise
        trace("Completed")
        return value

    return with_messages_logged
