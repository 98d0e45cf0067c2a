"""The records of the log: what the server adds to them.

Every record says for which request it was made, where requests have identifiers. One of the access log may have its
line already.

Owner: none; records are made on any thread.
"""

import functools
import logging
from contextvars import ContextVar
from typing import Any

request_id: ContextVar[str | None] = ContextVar("pounce_request_id", default=None)
"""With --request-id: the identifier of the request that the calling code serves. Tasks and `to_thread` inherit it."""

NO_REQUEST = "-"
"""Of a record that was not made for a request, in place of its identifier."""


def stamp_records() -> None:
    """Gives every record from now on, as `request_id`, the identifier of the request in whose context it is made: a
    formatter of the application's has `%(request_id)s` as well.

    What the application passes as `extra`, or its own factory of records sets, stays. So this is no factory: a record
    that has the attribute already would have logging refuse it in `extra`."""
    make = logging.Logger.makeRecord
    if hasattr(make, "stamps"):
        return

    @functools.wraps(make)
    def stamped(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.__dict__.setdefault("request_id", request_id.get() or NO_REQUEST)
        return record

    stamped.stamps = True  # type: ignore[attr-defined]
    logging.Logger.makeRecord = stamped  # type: ignore[method-assign]


def makes_plain_records() -> bool:
    """Is what makes records logging's own, so that nobody misses those that are not made?"""
    return logging.getLogRecordFactory() is logging.LogRecord


class AccessLine(str):
    """The message of a record of the access log whose line has been made already. Its arguments are uvicorn's all the
    same, for filters; as a format it takes them and shows none, because libraries make records of their own from the
    message and the arguments of another."""

    line: str

    @classmethod
    def of(cls, line: str) -> "AccessLine":
        made = cls(line.replace("%", "%%") + "%.0s" * 5)
        made.line = line
        return made


def access_record(line: str, arguments: tuple[str, str, str, str, int], identity: str | None) -> logging.LogRecord:
    """`arguments`: of the record in uvicorn's format."""
    make = logging.getLogRecordFactory()
    record = make("pounce.access", logging.INFO, "(access log)", 0, AccessLine.of(line), arguments, None)
    if identity is not None:
        record.request_id = identity
    return record
