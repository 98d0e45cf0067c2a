"""The options: what they are called, what they may be, where their values come from.

One frozen `Config` for the whole server, made before anything else happens and only read afterwards. Each field
carries its own description (`Option`), from which the command line, the environment, the configuration file and
the README's table are made: an option exists in one place.

What uvicorn has and this version has not are options too, of a group of their own: each is accepted at the values at
which uvicorn would do nothing either, and refused at any other, from whatever source.
"""

import os
from dataclasses import MISSING, InitVar, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Unpack

from pounce.config import env_file
from pounce.config.bind import Bind, parse_bind
from pounce.config.kinds import (
    BINDS,
    FLAG,
    HEADERS,
    LEVEL,
    LOG_CONFIG,
    MOST,
    TRUTH,
    WORKERS,
    Invalid,
    Kind,
    NotInThisVersion,
    Option,
    absent,
    choice,
    existing,
    seconds,
    text,
    whole,
)
from pounce.errors import ConfigError

if TYPE_CHECKING:
    from pounce.config.keywords import ConfigOptions

ADDRESSES, WORKING, APPLICATION = "where to listen", "workers and their end", "the application"
WEBSOCKET = "WebSocket"
REQUESTS, RESPONSES, LOGGING, IGNORED = "limits and deadlines", "responses", "logging", "accepted for uvicorn's sake"
NOT_YET = "not in this version"

WATCHFILES = "; until it is: watchfiles 'pounce APP'"
WSGI = {"wsgi": "WSGI is not in this version of pounce; a2wsgi.WSGIMiddleware makes an ASGI application of one"}


def _nothing(value: object) -> bool:
    return not value


def _anything(_value: object) -> bool:
    """They only say how to do something, and whether to do it is another option."""
    return True


def _nobody_new(value: object) -> bool:
    """Proxies that uvicorn trusts anyway: those on this machine."""
    named = value.split(",") if isinstance(value, str) else value or ()
    return isinstance(named, list | tuple) and {"127.0.0.1", "::1", ""}.issuperset(str(part).strip() for part in named)


def option(default: Any, kind: Kind, group: str, help: str, *flags: str, multiple: bool = False) -> Any:
    return field(default=default, metadata={"option": (help, kind, group, flags, multiple)})


def later(default: Any, kind: Kind, *flags: str, multiple: bool = False) -> Any:
    return option(default, kind, NOT_YET, "Not in this version.", *flags, multiple=multiple)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every option of the server. Times are seconds, sizes are bytes, None is "no limit".

    Raises ConfigError for a value that cannot be.
    """

    app: Any = field(kw_only=False)
    """An import string `module:attribute`, or the application itself."""

    host: str = option("127.0.0.1", text("HOST", optional=False), ADDRESSES, "Listen at this host name or address.")
    port: int = option(8000, whole(0, 65535, "PORT"), ADDRESSES, "Listen at this port; 0 picks a free one.")
    uds: str | None = option(None, text("PATH"), ADDRESSES, "Listen at this Unix socket instead.")
    fd: int | None = option(None, whole(0, MOST, off=True), ADDRESSES, "Listen at this inherited socket instead.")
    bind: tuple[str, ...] = option(
        (),
        BINDS,
        ADDRESSES,
        "Listen here instead: HOST:PORT, [IPv6]:PORT, unix:PATH or fd://N. May be given several times.",
        multiple=True,
    )
    backlog: int = option(2048, whole(1, MOST), ADDRESSES, "Connections that may wait to be accepted, for each socket.")

    workers: int | None = option(
        None,
        WORKERS,
        WORKING,
        "Worker threads (processes, where Python has the GIL). 0 or auto: as many as CPUs "
        "may be used. Default: $WEB_CONCURRENCY, else 1.",
        "--threads",
        "--workers",
    )
    worker_kind: str = option(
        "auto",
        choice("auto", "thread", "process"),
        WORKING,
        "What a worker is. auto: a thread, unless there are several and Python has the GIL.",
    )
    app_copies: str = option(
        "auto",
        choice("auto", "one", "worker"),
        WORKING,
        "What worker threads share of the application's modules. auto: all but what leads to an object that "
        "belongs to one event loop, which is copied for each; one: all; worker: nothing.",
    )
    limit_max_requests: int | None = option(
        None, whole(1, off=True), WORKING, "Requests after which a worker is replaced; the only worker ends the server."
    )
    limit_max_requests_jitter: int = option(
        0, whole(0), WORKING, "At most so many more, chosen at random for each worker."
    )
    timeout_graceful_shutdown: float | None = option(
        30.0, seconds(zero=True), WORKING, "Running requests may take so long to end when the server stops."
    )
    timeout_worker_healthcheck: float | None = option(
        5.0,
        seconds(),
        WORKING,
        "End a worker process that has not answered for so long, its interpreter as a whole, and start another.",
    )
    timeout_worker_stuck: float | None = option(
        None,
        seconds(),
        WORKING,
        "Give up a worker that has been blocked for so long, and start another. Default: off.",
    )

    interface: str = option(
        "auto", choice("auto", "asgi3", "asgi2", absent=WSGI), APPLICATION, "What the application speaks."
    )
    lifespan: str = option("auto", choice("auto", "on", "off"), APPLICATION, "Send it lifespan events?")
    factory: bool = option(False, FLAG, APPLICATION, "APP is a function that makes the application.")
    app_dir: str = option(
        "", existing("FOLDER", directory=True), APPLICATION, "Look for APP here. Default: the current folder."
    )
    env_file: str | None = option(None, existing("FILE"), APPLICATION, "Set environment variables from this file.")
    root_path: str = option("", text("PATH", optional=False), APPLICATION, "The path the application is mounted at.")
    cancel_on_disconnect: bool = option(
        False, FLAG, APPLICATION, "Cancel a request whose client has gone, instead of only telling it."
    )
    reset_contextvars: bool = option(
        False, FLAG, APPLICATION, "Run each request in an empty context, without what lifespan has set."
    )

    limit_concurrency: int | None = option(
        None, whole(1, off=True), REQUESTS, "Connections or running requests of a worker; more are answered 503."
    )
    limit_queue: int = option(
        0, whole(0), REQUESTS, "Beyond --limit-concurrency, so many requests wait for their turn before any gets 503."
    )
    queue_timeout: float = option(10.0, seconds(off=False), REQUESTS, "A request waits for its turn no longer.")
    limit_request_head: int = option(65536, whole(256), REQUESTS, "Bytes of a request's line and fields.")
    limit_request_fields: int = option(100, whole(1), REQUESTS, "Field lines of a request.")
    limit_request_target: int = option(8192, whole(16), REQUESTS, "Bytes of a request's target.")
    limit_request_body: int | None = option(None, whole(0, off=True), REQUESTS, "Bytes of a request's content.")
    timeout_keep_alive: float | None = option(5.0, seconds(zero=True), REQUESTS, "Wait so long for the next request.")
    timeout_request_head: float | None = option(10.0, seconds(), REQUESTS, "The whole head must come within this time.")
    timeout_request_body: float | None = option(
        10.0, seconds(), REQUESTS, "After this time, content must come at the least rate."
    )
    limit_request_body_rate: int = option(240, whole(0), REQUESTS, "That least rate, in bytes per second.")
    timeout_request: float | None = option(
        None, seconds(), REQUESTS, "A request must be answered within this time: else 504. Default: off."
    )
    timeout_write: float | None = option(
        30.0, seconds(), REQUESTS, "A client that takes nothing for so long is cut off."
    )

    ws: str = option("auto", text("auto|none|wsproto", optional=False), WEBSOCKET, "none: upgrade no requests.")
    ws_max_size: int = option(16777216, whole(1), WEBSOCKET, "Bytes of a message from a client, decompressed.")
    ws_max_queue: int = option(32, whole(1), WEBSOCKET, "Messages that wait for the application; more are not read.")
    ws_ping_interval: float | None = option(
        20.0, seconds(zero=True), WEBSOCKET, "Ping a client this often. 0 or off: never."
    )
    ws_ping_timeout: float | None = option(
        20.0, seconds(zero=True), WEBSOCKET, "Close if it has not answered a ping within this time. 0 or off: never."
    )
    ws_per_message_deflate: bool = option(
        True, TRUTH, WEBSOCKET, "Compress messages with clients that can (permessage-deflate)."
    )

    headers: tuple[tuple[str, str], ...] = option(
        (),
        HEADERS,
        RESPONSES,
        "Add this field to every response. May be given several times.",
        "--header",
        multiple=True,
    )
    server_header: bool = option(True, FLAG, RESPONSES, "Send a Server field.")
    date_header: bool = option(True, FLAG, RESPONSES, "Send a Date field.")

    log_level: str | int | None = option(None, LEVEL, LOGGING, "Log from this level up. Default: info.")
    log_config: Any = option(
        "default", LOG_CONFIG, LOGGING, "Configure logging by this file: .json, .yaml, .toml or .ini."
    )
    access_log: bool = option(True, FLAG, LOGGING, "Log every request.")
    use_colors: bool | None = option(None, FLAG, LOGGING, "Colours in the log. Default: on a terminal.")

    loop: str = option("auto", text("NAME", optional=False), IGNORED, "There is one event loop here: the server's own.")
    http: str = option("auto", text("NAME", optional=False), IGNORED, "There is one HTTP parser here.")

    h11_max_incomplete_event_size: int | None = option(
        None, whole(256, off=True), IGNORED, "Sets --limit-request-head, and raises --limit-request-target as far."
    )

    reload: bool = later(False, absent("reload", _nothing, None, hint=WATCHFILES))
    reload_dirs: Any = later(None, absent("", _anything), "--reload-dir", multiple=True)
    reload_includes: Any = later(None, absent("", _anything), "--reload-include", multiple=True)
    reload_excludes: Any = later(None, absent("", _anything), "--reload-exclude", multiple=True)
    reload_delay: Any = later(0.25, absent("", _anything))
    proxy_headers: bool = later(True, FLAG)
    forwarded_allow_ips: Any = later(None, absent("trust in proxies", _nobody_new))
    http2: bool = later(False, absent("HTTP/2", _nothing, None))
    ssl_keyfile: Any = later(None, absent("TLS", _nothing))
    ssl_certfile: Any = later(None, absent("TLS", _nothing))
    ssl_keyfile_password: Any = later(None, absent("TLS", _nothing))
    ssl_version: Any = later(None, absent("TLS", lambda value: value in (None, "", 17), number=True))
    ssl_cert_reqs: Any = later(None, absent("TLS", _nothing, number=True))
    ssl_ca_certs: Any = later(None, absent("TLS", _nothing))
    ssl_ciphers: Any = later(None, absent("TLS", lambda value: not value or value == "TLSv1"))
    ssl_context_factory: Any = later(None, absent("TLS", _nothing))
    callback_notify: Any = later(None, absent("callback_notify", _nothing))
    timeout_notify: Any = later(30, absent("", _anything))

    threads: InitVar[int | str | None] = None
    """Another name for `workers`."""

    if TYPE_CHECKING:  # what is accepted is wider than what is kept

        def __init__(self, app: Any, **options: Unpack[ConfigOptions]) -> None: ...

    def __post_init__(self, threads: int | str | None) -> None:
        if threads is not None:
            self._set("workers", threads)
        for name, spec in OPTIONS.items():
            value = getattr(self, name)
            try:
                self._set(name, spec.kind.check(value))
            except NotInThisVersion as error:
                raise ConfigError(f"{name}: {error}") from None
            except Invalid as error:
                said = "threads" if name == "workers" and threads is not None else name
                raise ConfigError(f"{said}={value!r} is {error}") from None
        if self.workers is None:
            self._set("workers", self._web_concurrency())
        if self.h11_max_incomplete_event_size is not None:
            if self.limit_request_head == DEFAULTS["limit_request_head"]:
                self._set("limit_request_head", self.h11_max_incomplete_event_size)
            if self.limit_request_target == DEFAULTS["limit_request_target"]:
                self._set("limit_request_target", max(self.limit_request_target, self.h11_max_incomplete_event_size))
        if self.limit_queue and self.limit_concurrency is None:
            raise ConfigError("limit_queue needs limit_concurrency: who waits in the queue waits for a place there")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _web_concurrency(self) -> int | None:
        """What a platform says of the number of workers, in the environment or in the file that will add to it."""
        text, source = os.environ.get("WEB_CONCURRENCY"), "WEB_CONCURRENCY"
        if not text and self.env_file:
            text, source = env_file.value(self.env_file, "WEB_CONCURRENCY"), f"{self.env_file}: WEB_CONCURRENCY"
        return parsed("workers", text, source) if text else None

    @property
    def should_reload(self) -> bool:
        """For programs that ask uvicorn's Config."""
        return False

    @property
    def is_ssl(self) -> bool:
        """For programs that ask uvicorn's Config."""
        return False

    def binds(self) -> list[Bind]:
        """Where to listen: one of the three ways to say it, in uvicorn's order of precedence."""
        if self.bind:
            return [parse_bind(text) for text in self.bind]
        if self.fd is not None:
            return [Bind(f"--fd {self.fd}", fd=self.fd)]
        if self.uds is not None:
            return [Bind(f"--uds {self.uds}", path=self.uds)]
        return [Bind(f"--host {self.host} --port {self.port}", host=self.host, port=self.port)]


def _options() -> dict[str, Option]:
    found = {}
    for f in fields(Config):
        if "option" in f.metadata:
            help, kind, group, flags, multiple = f.metadata["option"]
            found[f.name] = Option(help, kind, group, flags or ("--" + f.name.replace("_", "-"),), multiple)
    return found


OPTIONS = _options()
DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Config) if f.default is not MISSING}
delattr(Config, "threads")  # the default of an argument, not an attribute


def checked(name: str, value: Any, source: str) -> Any:
    """The value as the option has it. Raises ConfigError, which names `source`."""
    if name == "app":
        if not isinstance(value, str):
            raise ConfigError(f"{source}: {value!r} is not text, as module:attribute")
        return value
    try:
        return OPTIONS[name].kind.check(value)
    except NotInThisVersion as error:
        raise ConfigError(f"{source}: {error}") from None
    except Invalid as error:
        raise ConfigError(f"{source}: {value!r} is {error}") from None


def parsed(name: str, text: str, source: str) -> Any:
    """The same for text."""
    spec = OPTIONS[name]
    return checked(name, [*map(spec.kind.parse, text.split())] if spec.multiple else spec.kind.parse(text), source)
