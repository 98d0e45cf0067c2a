"""The records of the log: what the server adds to them.

Every record says for which request it was made, where requests have identifiers. One of the access log may have its
line already.

Owner: none; records are made on any thread.
"""

import logging
from contextvars import ContextVar
from typing import Any

request_id: ContextVar[str | None] = ContextVar("pounce_request_id", default=None)
"""With --request-id: the identifier of the request that the calling code serves. Tasks and `to_thread` inherit it."""

NO_REQUEST = "-"
"""Of a record that was not made for a request, in place of its identifier."""


def stamp_records() -> None:
    """Gives every record from now on, as `request_id`, the identifier of the request in whose context it is made: a
    formatter of the application's has `%(request_id)s` as well."""
    make = logging.getLogRecordFactory()
    if hasattr(make, "makes_plain_records"):
        return

    def stamped(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.request_id = request_id.get() or NO_REQUEST
        return record

    stamped.makes_plain_records = make is logging.LogRecord  # type: ignore[attr-defined]
    logging.setLogRecordFactory(stamped)


def makes_plain_records() -> bool:
    """Is what makes records logging's own, so that nobody misses those that are not made?"""
    make = logging.getLogRecordFactory()
    return make is logging.LogRecord or getattr(make, "makes_plain_records", False) is True


class AccessRecord(logging.LogRecord):
    """A record of the access log that has its line already. Its arguments are uvicorn's all the same, for filters."""

    access_line = ""

    def getMessage(self) -> str:
        return self.access_line


def access_record(line: str, message: str, arguments: tuple[object, ...], identity: str | None) -> logging.LogRecord:
    """`message` and `arguments`: of the same record in uvicorn's format."""
    make = logging.getLogRecordFactory()
    record = make("pounce.access", logging.INFO, "(access log)", 0, message, arguments, None)
    record.access_line = line
    if type(record) is logging.LogRecord:
        record.__class__ = AccessRecord
    else:  # of a class of the application's
        record.msg, record.args = line, None
    if identity is not None:
        record.request_id = identity
    return record
