"""What the server writes: loggers `pounce`, `pounce.error`, `pounce.access` and `pounce.asgi`.

The names, the levels and the five arguments of an access record are uvicorn's, in its order, so that a logging
configuration written for it works when the names are changed.

The access log has a short cut. Where it is configured as by default, making a LogRecord per request would cost
more than parsing the request; so the worker formats the line itself, once, and writes the lines of a whole loop
turn together. Any other configuration (another handler, a filter, propagation, a library that has replaced
logging's methods) gets ordinary records. Both look the same.
"""

import contextlib
import http
import logging
import os
import sys
from copy import copy, deepcopy
from typing import Any

from pounce.config.config import Config
from pounce.config.kinds import LOG_LEVELS
from pounce.errors import ConfigError

TRACE = TRACE_LOG_LEVEL = LOG_LEVELS["trace"]
ACCESS_FORMAT = '%s - "%s %s HTTP/%s" %d'
"""The access record's message: client, method, path with query, HTTP version, status."""

_COLOURS = {TRACE: 34, logging.DEBUG: 36, logging.INFO: 32, logging.WARNING: 33, logging.ERROR: 31,
            logging.CRITICAL: 91}  # fmt: skip
_STATUS_COLOURS = {1: 97, 2: 32, 3: 33, 4: 31, 5: 91}


class Logger(logging.Logger):
    """A broken log breaks no server. Handlers and filters are the operator's, and logging lets what a filter raises
    get out, and some of what a handler raises: that would end a worker."""

    def handle(self, record: logging.LogRecord) -> None:
        try:
            super().handle(record)
        except BaseException as error:
            with contextlib.suppress(BaseException):
                sys.stderr.write(f"pounce: {type(error).__name__} in logging, of {record.msg!r}\n")


# Who looks for the place that has logged something, as loguru's recipe does, passes over the frames of this file.
Logger.handle.__code__ = Logger.handle.__code__.replace(co_filename=logging.__file__)
for _name in ("pounce", "pounce.error", "pounce.access", "pounce.asgi"):
    with contextlib.suppress(TypeError):  # a program has made logging's loggers of another kind
        logging.getLogger(_name).__class__ = Logger  # they may be in use already
access_logger = logging.getLogger("pounce.access")


def _paint(text: str, colour: int) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"


def bold(text: str, colour: str = "") -> str:
    """For the `color_message` of a record."""
    return f"\x1b[{colour}{';' if colour else ''}1m{text}\x1b[0m"


CYAN = "36"


def _wants_colours(stream: Any) -> bool:
    """Does whoever reads the stream want colours? no-color.org and force-color.net, then a terminal that can."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream is not None and os.environ.get("TERM") != "dumb" and bool(stream.isatty())


class ColourizedFormatter(logging.Formatter):
    """Adds `%(levelprefix)s`: the level, a colon, and as many blanks as line the messages up. In colour, a record's
    extra `color_message` takes the place of its message."""

    stream = "stdout"

    def __init__(self, fmt: str | None = None, datefmt: str | None = None, style: Any = "%",
                 use_colors: bool | None = None) -> None:  # fmt: skip
        super().__init__(fmt=fmt, datefmt=datefmt, style=style)
        self.use_colors = _wants_colours(getattr(sys, self.stream)) if use_colors is None else use_colors

    def formatMessage(self, record: logging.LogRecord) -> str:
        record = copy(record)
        name = record.levelname
        colour = _COLOURS.get(record.levelno)
        painted = name
        if self.use_colors:
            painted = _paint(name, colour) if colour else name
            if "color_message" in record.__dict__:
                record.msg = record.__dict__["color_message"]
                record.message = record.getMessage()
        record.__dict__["levelprefix"] = f"{painted}:{' ' * (8 - len(name))}"
        return super().formatMessage(record)


class DefaultFormatter(ColourizedFormatter):
    """For everything but requests."""

    stream = "stderr"


class AccessFormatter(ColourizedFormatter):
    """Adds `%(client_addr)s`, `%(request_line)s` and `%(status_code)s` from the record's arguments."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record = copy(record)
        arguments: Any = record.args
        client, method, path, version, status = arguments
        line = f"{method} {path} HTTP/{version}"
        record.__dict__.update(
            client_addr=client,
            request_line=bold(line) if self.use_colors else line,
            status_code=status_text(int(status), self.use_colors),
        )
        return super().formatMessage(record)


def status_text(status: int, use_colors: bool) -> str:
    try:
        text = f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        text = f"{status} "
    return _paint(text, _STATUS_COLOURS.get(status // 100, 91)) if use_colors else text


DEFAULT_ACCESS_FORMAT = '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'

LOGGING_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "default": {"()": "pounce.logging.DefaultFormatter", "fmt": "%(levelprefix)s %(message)s", "use_colors": None},
        "access": {"()": "pounce.logging.AccessFormatter", "fmt": DEFAULT_ACCESS_FORMAT, "use_colors": None},
    },
    "handlers": {
        "default": {"formatter": "default", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"},
        "access": {"formatter": "access", "class": "logging.StreamHandler", "stream": "ext://sys.stdout"},
    },
    "loggers": {
        "pounce": {"handlers": ["default"], "level": "INFO", "propagate": False},
        "pounce.error": {"level": "INFO"},
        "pounce.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}
"""The default, as a dictionary for logging.config: copy it, change it, give it as `log_config`."""

_AS_IT_WAS = deepcopy(LOGGING_CONFIG)  # people change the one above in place


def configure(config: Config) -> None:
    """Configures logging as the options say. Raises ConfigError for a file that cannot be used."""
    logging.addLevelName(TRACE, "TRACE")
    given = config.log_config
    translated = False
    if given == "default" and LOGGING_CONFIG == _AS_IT_WAS:
        _configure_default(config.use_colors)
        given = None
    elif given == "default":
        given = LOGGING_CONFIG
    if isinstance(given, dict) and config.use_colors is not None:
        given = {**given, "formatters": {k: {**v, "use_colors": config.use_colors} if _takes_colours(v) else v
                                         for k, v in given.get("formatters", {}).items()}}  # fmt: skip
    if given is not None:
        try:
            from pounce.config import log_config

            translated = log_config.apply(given)
        except ConfigError:
            raise
        except Exception as error:
            # A mistake in the file shows in many ways; the first line of the innermost one says the most.
            reason = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"--log-config: {given if isinstance(given, str) else 'the dictionary'}: {reason}"
            ) from None
    if config.log_level is not None:
        level = config.log_level if isinstance(config.log_level, int) else LOG_LEVELS[config.log_level]
        for name in ("pounce.error", "pounce.access", "pounce.asgi"):
            logging.getLogger(name).setLevel(level)
    if not config.access_log:
        access_logger.handlers = []
        access_logger.propagate = False
    if translated:
        logging.getLogger("pounce.error").info(
            "--log-config: what it says of uvicorn's loggers is applied to pounce's."
        )


def _takes_colours(formatter: Any) -> bool:
    made_by = formatter.get("()") if isinstance(formatter, dict) else None
    return isinstance(made_by, str) and made_by.startswith(("pounce.logging.", "uvicorn.logging."))


def _configure_default(use_colors: bool | None) -> None:
    """What LOGGING_CONFIG says, without logging.config: that costs 0.8 MiB, pickle and sockets among them."""
    formats = LOGGING_CONFIG["formatters"]
    for name, stream, formatter in (
        ("default", sys.stderr, DefaultFormatter(formats["default"]["fmt"], use_colors=use_colors)),
        ("access", sys.stdout, AccessFormatter(formats["access"]["fmt"], use_colors=use_colors)),
    ):
        # Without the stream (pythonw, `>&-`) nothing is said, and nobody is to be told so for each line.
        handler = logging.StreamHandler(stream) if stream is not None else logging.NullHandler()
        handler.name = name
        handler.setFormatter(formatter)
        logger = logging.getLogger("pounce" if name == "default" else "pounce.access")
        logger.handlers = [handler] if stream is not None or name == "default" else []
        logger.propagate = False
    logging.getLogger("pounce.error").handlers = []
    logging.getLogger("pounce.asgi").setLevel(logging.NOTSET)
    for name in LOGGING_CONFIG["loggers"]:
        logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger(name).disabled = False


def flush_streams() -> None:
    """Writes what waits in standard output and error, before something that would lose or repeat it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # a broken pipe; closed
                stream.flush()


class AccessLog:
    """The access log of one worker. Owner: the worker's thread."""

    def __init__(self) -> None:
        self.enabled = access_logger.hasHandlers()
        self._lines: list[str] = []
        self._statuses: dict[int, str] = {}
        self._prefix = ""
        self._handler: logging.StreamHandler[Any] | None = None  # set where the short cut may be taken
        self._formatter: AccessFormatter | None = None
        self.recheck()

    def recheck(self) -> None:
        """Is the access log still configured as by default? Looked at before each batch, because the
        application may configure logging at any time."""
        handlers = access_logger.handlers
        handler = handlers[0] if len(handlers) == 1 else None
        formatter = handler.formatter if handler is not None else None
        plain = (
            type(handler) is logging.StreamHandler
            and type(formatter) is AccessFormatter
            and formatter._fmt == DEFAULT_ACCESS_FORMAT
            and not handler.filters
            and handler.level <= logging.INFO
            and not access_logger.filters
            and not access_logger.propagate
            and access_logger.isEnabledFor(logging.INFO)
            and type(access_logger) is Logger
            and logging.Logger.callHandlers is _CALL_HANDLERS
            and logging.getLogRecordFactory() is logging.LogRecord
        )
        self._handler = handler if plain and isinstance(handler, logging.StreamHandler) else None
        if self._handler is not None and formatter is not self._formatter:
            assert isinstance(formatter, AccessFormatter)
            self._formatter = formatter
            self._prefix = (_paint("INFO", _COLOURS[logging.INFO]) if formatter.use_colors else "INFO") + ":     "
            self._statuses.clear()

    def record(self, client: str, method: str, path: str, version: str, status: int) -> bool:
        """Logs a request. True for the first line that waits to be written with `flush`."""
        if self._handler is None:
            access_logger.info(ACCESS_FORMAT, client, method, path, version, status)
            return False
        assert self._formatter is not None
        text = self._statuses.get(status)
        if text is None:
            text = self._statuses[status] = status_text(status, self._formatter.use_colors)
        line = f"{method} {path} HTTP/{version}"
        if self._formatter.use_colors:
            line = bold(line)
        self._lines.append(f'{self._prefix}{client} - "{line}" {text}\n')
        return len(self._lines) == 1

    def flush(self) -> None:
        """Writes what waits, in one call."""
        lines, self._lines = self._lines, []
        handler = self._handler
        if lines and handler is not None:
            handler.acquire()
            try:
                handler.stream.write("".join(lines))
                handler.flush()
            except Exception:  # as logging does: a broken log must not break the server
                handler.handleError(logging.makeLogRecord({"msg": "access log"}))
            finally:
                handler.release()
        self.recheck()


_CALL_HANDLERS = logging.Logger.callHandlers
