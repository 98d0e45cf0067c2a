"""The loggers `pounce`, `pounce.error`, `pounce.access` and `pounce.asgi`, their formatters and their configuration.

The names, the levels and the five arguments of an access record are uvicorn's, in its order. So a logging configuration
that was written for uvicorn works when the names are changed.

The access log has a fast lane, because making a LogRecord for each request takes longer than parsing the request. In
the default configuration the worker formats the line itself and writes the lines of one turn of the loop together. In
any other configuration (another handler, a filter, propagation, a library that has replaced logging's methods) ordinary
records are made. Both write the same text. In the formats other than uvicorn's the line is made before the record: a
formatter finds it as the message, and a filter has uvicorn's five arguments all the same.

Must never let a broken log break the server. Users name this module in their configurations, so its public names stay.
Owner: the thread that configures; an `AccessLog` belongs to its worker's thread.
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
from pounce.log_pieces import PIPE_BUF, is_pipe, pieces
from pounce.log_records import NO_REQUEST, AccessLine, access_record, makes_plain_records, stamp_records
from pounce.log_records import request_id as request_id

TRACE = TRACE_LOG_LEVEL = LOG_LEVELS["trace"]
ACCESS_FORMAT = '%s - "%s %s HTTP/%s" %d'
"""The access record's message: client, method, path with query, HTTP version, status."""

_COLOURS = {TRACE: 34, logging.DEBUG: 36, logging.INFO: 32, logging.WARNING: 33, logging.ERROR: 31,
            logging.CRITICAL: 91}  # fmt: skip
_STATUS_COLOURS = {1: 97, 2: 32, 3: 33, 4: 31, 5: 91}


_OUR_RESORT = "pounce.lastResort"
_RESORT = logging.lastResort  # what writes the lines of an application that configures nothing


class Logger(logging.Logger):
    """A logger that never raises. Handlers and filters are the operator's, and logging passes on what a filter raises,
    and some of what a handler raises. That would end a worker."""

    def handle(self, record: logging.LogRecord) -> None:
        try:
            super().handle(record)
        except BaseException as error:
            with contextlib.suppress(BaseException):
                sys.stderr.write(f"pounce: {type(error).__name__} in logging, of {record.msg!r}\n")


# Code that looks for the line that has logged something, as loguru's recipe does, skips the frames of logging's file.
Logger.handle.__code__ = Logger.handle.__code__.replace(co_filename=logging.__file__)
for _name in ("pounce", "pounce.error", "pounce.access", "pounce.asgi"):
    with contextlib.suppress(TypeError):  # the program has set another class of loggers
        logging.getLogger(_name).__class__ = Logger  # they may be in use already
access_logger = logging.getLogger("pounce.access")


def _paint(text: str, colour: int) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"


def bold(text: str, colour: str = "") -> str:
    """For the `color_message` of a record."""
    return f"\x1b[{colour}{';' if colour else ''}1m{text}\x1b[0m"


CYAN = "36"


def _wants_colours(stream: Any) -> bool:
    """Are colours wanted in the stream? By no-color.org and force-color.net, else if it is a terminal that has them."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream is not None and os.environ.get("TERM") != "dumb" and bool(stream.isatty())


class ColourizedFormatter(logging.Formatter):
    """Adds `%(levelprefix)s`: the level, a colon, and blanks that align the messages. In colour, a record's extra
    `color_message` replaces its message."""

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
        record.__dict__["levelprefix"] = self._prefix(record, painted)
        return super().formatMessage(record)

    def _prefix(self, record: logging.LogRecord, painted: str) -> str:
        return f"{painted}:{' ' * (8 - len(record.levelname))}"


class DefaultFormatter(ColourizedFormatter):
    """For everything but requests. With --request-id, `%(levelprefix)s` names the request in whose context the line was
    logged, unless the format has a place of its own for `%(request_id)s`."""

    stream = "stderr"

    def _prefix(self, record: logging.LogRecord, painted: str) -> str:
        prefix = super()._prefix(record, painted)
        identity = getattr(record, "request_id", NO_REQUEST)
        return prefix if identity == NO_REQUEST or "%(request_id)" in (self._fmt or "") else f"{prefix} [{identity}]"


class AccessFormatter(ColourizedFormatter):
    """Adds `%(client_addr)s`, `%(request_line)s` and `%(status_code)s` from the record's arguments. A line that is
    made already, in another format of --access-log-format or by a handler of a queue, is written as it is."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        arguments: Any = record.args
        if isinstance(record.msg, AccessLine) or not isinstance(arguments, tuple) or len(arguments) != 5:
            return record.getMessage()
        record = copy(record)
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
"""The default, as a dictionary for logging.config. Copy it, change it, pass it as `log_config`."""

_DEFAULT_CONFIG = deepcopy(LOGGING_CONFIG)  # programs change the one above in place


def __getattr__(name: str) -> Any:
    if name == "JSONFormatter":
        from pounce.log_json import JSONFormatter  # most servers do not need it

        return JSONFormatter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def configure(config: Config) -> None:
    """Configures logging from the options. Raises ConfigError for an invalid file or dictionary."""
    logging.addLevelName(TRACE, "TRACE")
    if config.request_id is not None:
        stamp_records()
    given = config.log_config
    translated = False
    if given == "default" and LOGGING_CONFIG == _DEFAULT_CONFIG:
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
            # Of the errors that are chained, the innermost names the mistake in the file, in its first line.
            reason = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"--log-config: {given if isinstance(given, str) else 'the dictionary'}: {reason}"
            ) from None
    _set_format(config)
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
    """Configures what LOGGING_CONFIG says without importing logging.config, which takes 0.8 MiB."""
    formats = LOGGING_CONFIG["formatters"]
    for name, stream, formatter in (
        ("default", sys.stderr, DefaultFormatter(formats["default"]["fmt"], use_colors=use_colors)),
        ("access", sys.stdout, AccessFormatter(formats["access"]["fmt"], use_colors=use_colors)),
    ):
        # Without the stream (pythonw, `>&-`) nothing is written, and no line may raise because of that.
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


def _set_format(config: Config) -> None:
    """With --log-format json, has the handlers of the server's and of the root logger write JSON, but for those that
    have a formatter of the operator's own. The lines of an application that configures nothing look like the server's,
    where these say more than their message."""
    formatter: logging.Formatter | None = None
    if config.log_format == "json":
        from pounce.log_json import JSONFormatter

        formatter = JSONFormatter()
        for logger in map(logging.getLogger, ("", "pounce", "pounce.error", "pounce.asgi", "uvicorn", "uvicorn.error")):
            for handler in logger.handlers:
                if handler.formatter is None or type(handler.formatter) in (DefaultFormatter, ColourizedFormatter):
                    handler.setFormatter(formatter)
    elif config.request_id is not None:
        formatter = DefaultFormatter(LOGGING_CONFIG["formatters"]["default"]["fmt"], use_colors=config.use_colors)
    if _RESORT is not None and (
        logging.lastResort is _RESORT or getattr(logging.lastResort, "name", "") == _OUR_RESORT
    ):
        resort = _RESORT
        if formatter is not None:
            resort = copy(_RESORT)  # a handler for standard error, whatever that is when a line comes
            resort.name = _OUR_RESORT
            resort.setFormatter(formatter)
        logging.lastResort = resort


def flush_streams() -> None:
    """Flushes standard output and error, before something that would lose or repeat what they buffer."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # a broken pipe; closed
                stream.flush()


class AccessLog:
    """The access log of one worker.

    It is not in `observe`: that room imports this module, so this module could not pass the class on under the name by
    which programs may know it, `pounce.logging.AccessLog`."""

    def __init__(self, *, whole_lines: bool = False) -> None:
        """`whole_lines`: in another format than uvicorn's, which has been made already."""
        self.enabled = access_logger.hasHandlers()
        self._whole_lines = whole_lines
        self.lines: list[str] = []
        """Whole lines that wait for `flush`, where there is a `handler`."""
        self._statuses: dict[int, str] = {}
        self._prefix = ""
        self._piece = PIPE_BUF  # characters to write in one call
        self.handler: logging.StreamHandler[Any] | None = None
        """Set if the fast lane may be used."""
        self._formatter: AccessFormatter | None = None
        self.recheck()

    def recheck(self) -> None:
        """Checks that the access log still has the default configuration: before each batch, because the application
        may configure logging at any time."""
        handlers = access_logger.handlers
        handler = handlers[0] if len(handlers) == 1 else None
        formatter = handler.formatter if handler is not None else None
        plain = (
            type(handler) is logging.StreamHandler
            and type(formatter) is AccessFormatter
            and (self._whole_lines or formatter._fmt == DEFAULT_ACCESS_FORMAT)
            and not handler.filters
            and handler.level <= logging.INFO
            and not access_logger.filters
            and not access_logger.propagate
            and access_logger.isEnabledFor(logging.INFO)
            and type(access_logger) is Logger
            and logging.Logger.callHandlers is _CALL_HANDLERS
            and makes_plain_records()
        )
        self.handler = handler if plain and isinstance(handler, logging.StreamHandler) else None
        if self.handler is not None and formatter is not self._formatter:
            assert isinstance(formatter, AccessFormatter)
            self._formatter = formatter
            self._prefix = (_paint("INFO", _COLOURS[logging.INFO]) if formatter.use_colors else "INFO") + ":     "
            self._statuses.clear()
            self._piece = PIPE_BUF if is_pipe(self.handler.stream) else sys.maxsize

    def record(self, client: str, method: str, path: str, version: str, status: int) -> bool:
        """Logs a request in uvicorn's format. Is this the first line that waits for `flush`?"""
        if self.handler is None:
            access_logger.info(ACCESS_FORMAT, client, method, path, version, status)
            return False
        assert self._formatter is not None
        text = self._statuses.get(status)
        if text is None:
            text = self._statuses[status] = status_text(status, self._formatter.use_colors)
        line = f"{method} {path} HTTP/{version}"
        if self._formatter.use_colors:
            line = bold(line)
        self.lines.append(f'{self._prefix}{client} - "{line}" {text}\n')
        return len(self.lines) == 1

    def emit(self, line: str, arguments: tuple[str, str, str, str, int], identity: str | None) -> None:
        """Makes a record of a whole line. `arguments`: of the record in uvicorn's format."""
        self.recheck()
        if not access_logger.isEnabledFor(logging.INFO):
            return
        access_logger.handle(access_record(line.rstrip("\n"), arguments, identity))

    def flush(self) -> None:
        """Writes the lines that wait, in one call or a few."""
        lines, self.lines = self.lines, []
        handler = self.handler
        if lines and handler is not None:
            text = "".join(lines)
            handler.acquire()
            try:
                for piece in (text,) if len(text) <= self._piece else pieces(lines):
                    handler.stream.write(piece)
                    handler.flush()
            except Exception:  # as logging does
                handler.handleError(logging.makeLogRecord({"msg": "access log"}))
            finally:
                handler.release()
        self.recheck()


_CALL_HANDLERS = logging.Logger.callHandlers
