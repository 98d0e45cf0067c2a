"""The options of the server as a whole: addresses, workers, the application, reload.

Times are seconds. The defaults are uvicorn's where uvicorn has the option, with one exception:
`timeout_graceful_shutdown` is 30 s, as gunicorn's, where uvicorn waits without a limit. `timeout_websocket_drain` is
0 s, which is what uvicorn does: it closes WebSockets at once.

Owner: none; see `config`.
"""

from dataclasses import dataclass

from pounce.config.kinds import (
    BINDS,
    FLAG,
    FOLDERS,
    MAX_INT,
    PATTERNS,
    WORKERS,
    choice,
    existing,
    seconds,
    text,
    whole,
)
from pounce.config.option import ADDRESSES, APPLICATION, DEVELOPMENT, WORKERS_GROUP, option

WSGI = {"wsgi": "WSGI is not in this version of pounce; a2wsgi.WSGIMiddleware makes an ASGI application of one"}


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
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
        "Listen at this address instead: HOST:PORT, [IPv6]:PORT, unix:PATH, fd://N, or fd://NAME for a socket of "
        "systemd's. May be given several times.",
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
    timeout_websocket_drain: float = option(
        0.0,
        seconds(zero=True, off=False),
        WORKERS_GROUP,
        "Let WebSockets stay open this long when their worker ends or is replaced, then close them with 1012. The "
        "application is told at once.",
    )
    drain_delay: float = option(
        0.0,
        seconds(zero=True, off=False),
        WORKERS_GROUP,
        "Go on accepting for this long after SIGTERM, while the server reports that it is not ready. For load "
        "balancers that learn late.",
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

    reload: bool = option(
        False, FLAG, DEVELOPMENT, "Load the application again when one of its files changes. For development."
    )
    reload_dirs: tuple[str, ...] = option(
        (),
        FOLDERS,
        DEVELOPMENT,
        "Watch this folder instead of the current one. May be given several times.",
        "--reload-dir",
        multiple=True,
    )
    reload_includes: tuple[str, ...] = option(
        (),
        PATTERNS,
        DEVELOPMENT,
        "Watch files, and folders, that match this pattern too. *.py is always watched, unless it is excluded. May be "
        "given several times.",
        "--reload-include",
        multiple=True,
    )
    reload_excludes: tuple[str, ...] = option(
        (),
        PATTERNS,
        DEVELOPMENT,
        "Do not watch files, or folders, that match this pattern. .*, .py[cod], .sw.* and ~* are never watched, unless "
        "they are included. May be given several times.",
        "--reload-exclude",
        multiple=True,
    )
    reload_delay: float = option(
        0.25,
        seconds(zero=True, off=False),
        DEVELOPMENT,
        "Least time from one reload to the next. Where files have to be polled, also the time between two looks at "
        "them.",
    )
    reload_browser: bool = option(
        False, FLAG, DEVELOPMENT, "Have the browser load its page again when the application has been reloaded."
    )
