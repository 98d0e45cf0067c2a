"""What an application's call ended with, as the log tells it.

Whatever an object of the application's does when it is looked at, it ends nothing else.

Owner: none; called on the thread of the worker that ran the application.
"""

import contextlib
import logging
import os
import threading

from pounce.errors import ClientDisconnected
from pounce.kernel.task import Interrupted

logger = logging.getLogger("pounce.error")

MAX_CAUSES = 100
"""Errors of one chain that are looked at."""

MAX_PATH = 200
"""Characters of a path that one line of the log shows."""

_OTHER_LOOP_TEXTS = ("bound to a different event loop", "attached to a different loop")
_hint_logged = threading.Event()  # once per process: set by the first worker that has seen it


def innermost_line(error: BaseException) -> str:
    """The innermost line that the error has passed, but for what the signal itself has called."""
    place = "?"
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] != "pounce":
            place = f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place


def path_in_log(path: bytes) -> str:
    """The path of a request, still percent-encoded and so without control characters, as far as a line has room."""
    text = path.decode("ascii")
    return text if len(text) <= MAX_PATH else text[:MAX_PATH] + "..."


def log_failure(error: BaseException, where: str) -> None:
    """The application has raised `error`. The line begins as uvicorn's, for which people search."""
    if issubclass(type(error), Interrupted):
        logger.error("Interrupted: %s", innermost_line(error))
        return
    try:
        logger.error("Exception in %s\n", where, exc_info=error)
        _log_loop_hint(error)
    except BaseException as another:
        logger.error("Exception in %s: %s, and %s on looking at it", where, type(error), type(another))


def log_returned(name: str, value: object) -> None:
    """The application has returned `value` for the request called `name`."""
    try:
        text = str(value)
    except BaseException as another:
        text = f"{type(value)}, and {type(another)} on looking at it"
    logger.error("ASGI callable should return None, but returned '%s': %s", text, name)


def log_disconnect(name: str, error: BaseException) -> None:
    """The application has ended with `error` because the client of the request called `name` had gone."""
    logger.debug("The client of %s has disconnected, and the application ended with %s.", name, type(error).__name__)


def is_disconnect(error: BaseException) -> bool:
    """Does `error` only say that the client has gone? Frameworks put an exception of their own in place of
    ClientDisconnected, or a group around it; whichever it is, ours is its cause or its context."""
    left = MAX_CAUSES

    def tells(error: BaseException | None) -> bool:
        nonlocal left
        left -= 1
        if error is None or left < 0:
            return False
        # Of its type, because a class of the application's may do anything when an instance is asked.
        if issubclass(type(error), ClientDisconnected):
            return True
        if issubclass(type(error), BaseExceptionGroup):
            return all(tells(each) for each in error.exceptions)  # type: ignore[attr-defined]
        return tells(error.__cause__) or tells(error.__context__)  # of one that was raised `from None` too: Quart's

    with contextlib.suppress(BaseException):
        return tells(error)
    return False


def _log_loop_hint(error: BaseException) -> None:
    """Says what to do about an object of another worker's loop, once."""
    if any(words in str(error) for words in _OTHER_LOOP_TEXTS) and not _hint_logged.is_set():
        _hint_logged.set()
        logger.error(
            "An object that belongs to one worker's event loop was used in another's. Give each worker thread its own: "
            "--app-copies worker, or pounce.per_worker; or use --worker-kind process."
        )
