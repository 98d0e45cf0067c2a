"""The options: their names, kinds, defaults and help texts.

One frozen `Config` for the whole server, made before anything else and only read afterwards. Each field has its own
description (`Option`). The command line, the environment, the configuration file and `docs/options.md` are made from
it, so that an option is written down once.

Options that uvicorn has and this version has not are in a group of their own. Each accepts the values with which
uvicorn does nothing either, and any other value is an error, whatever its source.

Defaults that uvicorn has are uvicorn's, with one exception: `timeout_graceful_shutdown` is 30 s, as gunicorn's, where
uvicorn waits without a limit. The other bounds follow these precedents:

    limit_request_fields       100      Apache, LimitRequestFields
    limit_request_target       8192     Apache, LimitRequestLine (8190); nginx, large_client_header_buffers (8k)
    limit_request_head         65536    uvicorn, h11_max_incomplete_event_size
    limit_request_body_rate    240      Kestrel, MinRequestBodyDataRate (bytes/s)
    timeout_request_head       10 s     none; nginx's client_header_timeout is 60 s
    timeout_write              30 s     none; nginx's send_timeout is 60 s

Must never be changed after its construction. Owner: none; any thread may read it.
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
    MAX_INT,
    TRUTH,
    WORKERS,
    Invalid,
    Kind,
    NotInThisVersion,
    Option,
    choice,
    existing,
    ignored,
    is_off,
    not_available,
    only_local,
    seconds,
    text,
    whole,
)
from pounce.errors import ConfigError

if TYPE_CHECKING:
    from pounce.config.keywords import ConfigOptions

ADDRESSES, WORKERS_GROUP, APPLICATION = "where to listen", "workers and their end", "the application"
WEBSOCKET = "WebSocket"
REQUESTS, RESPONSES, LOGGING, IGNORED = "limits and deadlines", "responses", "logging", "accepted for uvicorn's sake"
NOT_YET = "not in this version"

WATCHFILES = "; until it is: watchfiles 'pounce APP'"
WSGI = {"wsgi": "WSGI is not in this version of pounce; a2wsgi.WSGIMiddleware makes an ASGI application of one"}


def option(default: Any, kind: Kind, group: str, help: str, *flags: str, multiple: bool = False) -> Any:
    return field(default=default, metadata={"option": (help, kind, group, flags, multiple)})


def not_yet(default: Any, kind: Kind, *flags: str, multiple: bool = False) -> Any:
    return option(default, kind, NOT_YET, "Not in this version.", *flags, multiple=multiple)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every option of the server. Times are seconds, sizes are bytes, None means "no limit" or "off".

    The keywords of uvicorn's `Config` are among the fields. `threads` is another name for `workers`. The defaults of
    options that are not given are the ones in `docs/options.md`; environment variables and files of options are read
    only by the command line, except WEB_CONCURRENCY. Raises ConfigError for an invalid value.
    """

    app: Any = field(kw_only=False)
    """An import string `module:attribute`, or the application itself."""

    host: str = option("127.0.0.1", text("HOST", optional=False), ADDRESSES, "Listen at this host name or address.")
    port: int = option(8000, whole(0, 65535, "PORT"), ADDRESSES, "Listen at this port. 0 picks a free one.")
    uds: str | None = option(None, text("PATH"), ADDRESSES, "Listen at this Unix socket, instead of a host and port.")
    fd: int | None = option(
        None, whole(0, MAX_INT, off=True), ADDRESSES, "Listen at the inherited socket with this descriptor."
    )
    bind: tuple[str, ...] = option(
        (),
        BINDS,
        ADDRESSES,
        "Listen at this address instead: HOST:PORT, [IPv6]:PORT, unix:PATH or fd://N. May be given several times.",
        multiple=True,
    )
    backlog: int = option(
        2048, whole(1, MAX_INT), ADDRESSES, "Connections that may wait to be accepted, for each socket."
    )

    workers: int | None = option(
        None,
        WORKERS,
        WORKERS_GROUP,
        "Number of workers: threads, or processes if Python has the GIL. 0 or auto: one for each usable CPU. "
        "Default: $WEB_CONCURRENCY, else 1.",
        "--threads",
        "--workers",
    )
    worker_kind: str = option(
        "auto",
        choice("auto", "thread", "process"),
        WORKERS_GROUP,
        "Kind of the workers. auto: threads, or processes if there are several and Python has the GIL.",
    )
    app_copies: str = option(
        "auto",
        choice("auto", "one", "worker"),
        WORKERS_GROUP,
        "How worker threads share the application's modules. auto: they share everything but what leads to an object "
        "that belongs to one event loop, which is copied for each worker. one: everything. worker: nothing.",
    )
    limit_max_requests: int | None = option(
        None,
        whole(1, off=True),
        WORKERS_GROUP,
        "Replace a worker after this number of requests. If it is the only one, the server ends.",
    )
    limit_max_requests_jitter: int = option(
        0, whole(0), WORKERS_GROUP, "Add a random number up to this to --limit-max-requests, for each worker."
    )
    timeout_graceful_shutdown: float | None = option(
        30.0, seconds(zero=True), WORKERS_GROUP, "Let running requests take this long to end when the server stops."
    )
    timeout_worker_healthcheck: float | None = option(
        5.0,
        seconds(),
        WORKERS_GROUP,
        "Replace a worker process whose interpreter has not answered for this long.",
    )
    timeout_worker_stuck: float | None = option(
        None,
        seconds(),
        WORKERS_GROUP,
        "Replace a worker that has been blocked for this long. Default: off.",
    )

    interface: str = option(
        "auto", choice("auto", "asgi3", "asgi2", unavailable=WSGI), APPLICATION, "The interface of the application."
    )
    lifespan: str = option(
        "auto",
        choice("auto", "on", "off"),
        APPLICATION,
        "Send lifespan events. auto: if the application supports them.",
    )
    factory: bool = option(False, FLAG, APPLICATION, "APP is a function that returns the application.")
    app_dir: str = option(
        "", existing("FOLDER", directory=True), APPLICATION, "Import APP from this folder. Default: the current folder."
    )
    env_file: str | None = option(None, existing("FILE"), APPLICATION, "Set environment variables from this file.")
    root_path: str = option(
        "", text("PATH", optional=False), APPLICATION, "The path at which the application is mounted behind a proxy."
    )
    cancel_on_disconnect: bool = option(
        False, FLAG, APPLICATION, "Cancel a request when its client disconnects, besides sending it http.disconnect."
    )
    reset_contextvars: bool = option(
        False,
        FLAG,
        APPLICATION,
        "Run each request in an empty context, without the context variables that lifespan has set.",
    )

    limit_concurrency: int | None = option(
        None,
        whole(1, off=True),
        REQUESTS,
        "Maximum of open connections and of running requests per worker. Beyond it, requests are answered 503.",
    )
    limit_queue: int = option(
        0,
        whole(0),
        REQUESTS,
        "Maximum of requests beyond --limit-concurrency that wait. Beyond it, they are answered 503.",
    )
    queue_timeout: float = option(
        10.0, seconds(off=False), REQUESTS, "Longest wait in that queue. A request that waits longer is answered 503."
    )
    limit_request_head: int = option(
        65536, whole(256), REQUESTS, "Maximum size of a request's head (its line and fields), in bytes."
    )
    limit_request_fields: int = option(100, whole(1), REQUESTS, "Maximum number of field lines in a request's head.")
    limit_request_target: int = option(8192, whole(16), REQUESTS, "Maximum size of a request's target, in bytes.")
    limit_request_body: int | None = option(
        None, whole(0, off=True), REQUESTS, "Maximum size of a request's content, in bytes."
    )
    timeout_keep_alive: float | None = option(
        5.0, seconds(zero=True), REQUESTS, "Close a connection that has been idle for this long."
    )
    timeout_request_head: float | None = option(
        10.0, seconds(), REQUESTS, "Answer 408 if the head of a request is not complete after this time."
    )
    timeout_request_body: float | None = option(
        10.0, seconds(), REQUESTS, "Answer 408 if content is slower than --limit-request-body-rate, from this time on."
    )
    limit_request_body_rate: int = option(
        240, whole(0), REQUESTS, "Minimum rate of a request's content, in bytes per second."
    )
    timeout_request: float | None = option(
        None, seconds(), REQUESTS, "Cancel a request that has not ended after this time, and answer 504. Default: off."
    )
    timeout_write: float | None = option(
        30.0,
        seconds(),
        REQUESTS,
        "Abort the connection to a client that has taken no byte of a response for this long.",
    )

    ws: str = option(
        "auto",
        text("auto|none|wsproto", optional=False),
        WEBSOCKET,
        "none: answer WebSocket handshakes as ordinary requests.",
    )
    ws_max_size: int = option(
        16777216, whole(1), WEBSOCKET, "Maximum size of a client's message after decompression, in bytes."
    )
    ws_max_queue: int = option(
        32,
        whole(1),
        WEBSOCKET,
        "Maximum number of messages that wait for the application. Beyond it, the server stops reading.",
    )
    ws_ping_interval: float | None = option(
        20.0, seconds(zero=True), WEBSOCKET, "Send pings at this interval. 0 or off: never."
    )
    ws_ping_timeout: float | None = option(
        20.0, seconds(zero=True), WEBSOCKET, "Close if a ping is not answered within this time. 0 or off: never."
    )
    ws_per_message_deflate: bool = option(
        True, TRUTH, WEBSOCKET, "Compress messages if the client supports it (permessage-deflate)."
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

    log_level: str | int | None = option(None, LEVEL, LOGGING, "Log this level and those above. Default: info.")
    log_config: Any = option(
        "default", LOG_CONFIG, LOGGING, "Configure logging from this file: .json, .yaml, .toml or .ini."
    )
    access_log: bool = option(True, FLAG, LOGGING, "Log every request.")
    use_colors: bool | None = option(None, FLAG, LOGGING, "Use colours in the log. Default: on a terminal.")

    loop: str = option(
        "auto", text("NAME", optional=False), IGNORED, "Accepted and ignored: the server has one event loop, its own."
    )
    http: str = option(
        "auto", text("NAME", optional=False), IGNORED, "Accepted and ignored: the server has one HTTP parser."
    )

    h11_max_incomplete_event_size: int | None = option(
        None,
        whole(256, off=True),
        IGNORED,
        "Set --limit-request-head, and raise --limit-request-target to the same size.",
    )

    reload: bool = not_yet(False, not_available("reload", is_off, None, hint=WATCHFILES))
    reload_dirs: Any = not_yet(None, not_available("", ignored), "--reload-dir", multiple=True)
    reload_includes: Any = not_yet(None, not_available("", ignored), "--reload-include", multiple=True)
    reload_excludes: Any = not_yet(None, not_available("", ignored), "--reload-exclude", multiple=True)
    reload_delay: Any = not_yet(0.25, not_available("", ignored))
    proxy_headers: bool = not_yet(True, FLAG)
    forwarded_allow_ips: Any = not_yet(None, not_available("trust in proxies", only_local))
    http2: bool = not_yet(False, not_available("HTTP/2", is_off, None))
    ssl_keyfile: Any = not_yet(None, not_available("TLS", is_off))
    ssl_certfile: Any = not_yet(None, not_available("TLS", is_off))
    ssl_keyfile_password: Any = not_yet(None, not_available("TLS", is_off))
    ssl_version: Any = not_yet(None, not_available("TLS", lambda value: value in (None, "", 17), number=True))
    ssl_cert_reqs: Any = not_yet(None, not_available("TLS", is_off, number=True))
    ssl_ca_certs: Any = not_yet(None, not_available("TLS", is_off))
    ssl_ciphers: Any = not_yet(None, not_available("TLS", lambda value: not value or value == "TLSv1"))
    ssl_context_factory: Any = not_yet(None, not_available("TLS", is_off))
    callback_notify: Any = not_yet(None, not_available("callback_notify", is_off))
    timeout_notify: Any = not_yet(30, not_available("", ignored))

    threads: InitVar[int | str | None] = None
    """Another name for `workers`."""

    if TYPE_CHECKING:  # more types are accepted than a field has afterwards

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
                keyword = "threads" if name == "workers" and threads is not None else name
                raise ConfigError(f"{keyword}={value!r} is {error}") from None
        if self.workers is None:
            self._set("workers", self._web_concurrency())
        if self.h11_max_incomplete_event_size is not None:
            if self.limit_request_head == DEFAULTS["limit_request_head"]:
                self._set("limit_request_head", self.h11_max_incomplete_event_size)
            if self.limit_request_target == DEFAULTS["limit_request_target"]:
                self._set("limit_request_target", max(self.limit_request_target, self.h11_max_incomplete_event_size))
        if self.limit_queue and self.limit_concurrency is None:
            raise ConfigError("limit_queue needs limit_concurrency: requests wait in the queue until fewer are running")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _web_concurrency(self) -> int | None:
        """The number of workers that a platform sets, in the environment or in the file that is added to it."""
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
        """The addresses to listen at. `bind` comes first, then uvicorn's order of precedence: `fd`, `uds`, `host`."""
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
delattr(Config, "threads")  # only a parameter of the constructor


def checked(name: str, value: Any, source: str) -> Any:
    """The value in the option's form. Raises ConfigError, with a text that names `source`."""
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
    """The same for a value that is text."""
    spec = OPTIONS[name]
    return checked(name, [*map(spec.kind.parse, text.split())] if spec.multiple else spec.kind.parse(text), source)
