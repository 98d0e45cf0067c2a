"""The keywords of `Config`, `run` and `TestServer`, for editors and type checkers.

The types are those that `Config` accepts. The fields of `Config` may have narrower ones: a list becomes a tuple. Must
never differ from `Config` in its names; a test compares them.
"""

import os
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

type Path = str | os.PathLike[str]
type Fields = Sequence[tuple[str, str]] | Sequence[str]
type Off = Literal["off", "none"]


class ConfigOptions(TypedDict, total=False):
    host: str
    port: int
    uds: Path | None
    fd: int | Off | None
    bind: str | Sequence[str]
    backlog: int
    workers: int | Literal["auto"] | Off | None
    worker_kind: Literal["auto", "thread", "process"]
    app_copies: Literal["auto", "one", "worker"]
    limit_max_requests: int | Off | None
    limit_max_requests_jitter: int
    timeout_graceful_shutdown: float | Off | None
    timeout_websocket_drain: float
    drain_delay: float
    timeout_worker_healthcheck: float | Off | None
    timeout_worker_stuck: float | Off | None
    interface: Literal["auto", "asgi3", "asgi2"]
    lifespan: Literal["auto", "on", "off"]
    factory: bool
    app_dir: Path | None
    env_file: Path | None
    root_path: str
    cancel_on_disconnect: bool
    reset_contextvars: bool
    proxy_headers: bool
    forwarded_allow_ips: Sequence[str] | str | None
    forwarded_header: Literal["x-forwarded", "forwarded", "off"]
    forwarded_host: bool
    forwarded_prefix: bool
    proxy_protocol: bool
    proxy_protocol_allow_ips: Sequence[str] | str
    health: str | None
    admin: str | None
    admin_public: bool
    pid_file: Path | None
    user: str | int | None
    group: str | int | None
    umask: int | str | None
    reload: bool
    reload_dirs: Sequence[Path] | Path | None
    reload_includes: Sequence[str] | str | None
    reload_excludes: Sequence[str] | str | None
    reload_delay: float
    reload_browser: bool
    limit_concurrency: int | Off | None
    limit_queue: int
    queue_timeout: float
    limit_request_head: int
    limit_request_fields: int
    limit_request_target: int
    limit_request_body: int | Off | None
    timeout_keep_alive: float | Off | None
    timeout_request_head: float | Off | None
    timeout_request_body: float | Off | None
    limit_request_body_rate: int
    timeout_request: float | Off | None
    timeout_write: float | Off | None
    ws: str
    ws_max_size: int
    ws_max_queue: int
    ws_ping_interval: float | Off | None
    ws_ping_timeout: float | Off | None
    ws_per_message_deflate: bool
    headers: Fields | None
    server_header: bool
    date_header: bool
    log_level: str | int | None
    log_config: Any
    log_format: Literal["text", "json"]
    access_log: bool
    access_log_format: str | None
    access_log_exclude: Sequence[str] | str | None
    request_id: str | bool | None
    use_colors: bool | None
    loop: str
    http: str
    h11_max_incomplete_event_size: int | Off | None
    http2: bool
    ssl_keyfile: Path | None
    ssl_certfile: Path | None
    ssl_keyfile_password: str | None
    ssl_version: int | None
    ssl_cert_reqs: int | None
    ssl_ca_certs: Path | None
    ssl_ciphers: str | None
    ssl_context_factory: Any
    callback_notify: Any
    timeout_notify: float
    threads: int | Literal["auto"] | Off | None
