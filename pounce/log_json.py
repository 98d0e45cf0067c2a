"""The log as JSON: one object on each line.

Must never raise for anything that an application logs. Owner: none; a handler calls it on any thread.
"""

import json
import logging
import math
import time

from pounce.log_records import NO_REQUEST, AccessLine

_STANDARD = frozenset((*logging.makeLogRecord({}).__dict__, "message", "asctime", "color_message", "request_id"))
"""What records have without `extra`."""
_PLAIN = (str, int, bool, type(None))


class JSONFormatter(logging.Formatter):
    """Time, level, logger, message, process and thread; where there are any the request's identifier, the exception,
    the stack, and whatever was passed as `extra`. A line of the access log that is JSON already stays as it is."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.msg, AccessLine) and record.msg.line.startswith("{"):
            return record.msg.line
        entry: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage().rstrip("\n"),
            "process": record.process,
            "thread": record.threadName,
        }
        identity = record.__dict__.get("request_id", NO_REQUEST)
        if identity != NO_REQUEST:
            entry["request_id"] = identity
        if record.exc_info:
            record.exc_text = entry["exception"] = record.exc_text or self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                entry.setdefault(name, value)
        return _line(entry)


def _line(entry: dict[str, object]) -> str:
    try:
        return json.dumps(entry, default=str, allow_nan=False)
    except Exception:  # of a value of `extra`: it refers to itself, has a NaN in it, or cannot be shown
        return json.dumps({str(name): _text(value) for name, value in entry.items()})


def _text(value: object) -> object:
    if type(value) in _PLAIN or (type(value) is float and math.isfinite(value)):
        return value
    try:
        return str(value)
    except Exception as error:
        return f"{type(value)}, and {type(error)} on looking at it"
