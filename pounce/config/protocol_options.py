"""The options of requests, responses and WebSockets: limits, deadlines, fields.

Times are seconds, sizes are bytes, None means "no limit" or "off". The defaults are uvicorn's where uvicorn has the
option; the other bounds follow these precedents:

    limit_request_fields       100      Apache, LimitRequestFields
    limit_request_target       8192     Apache, LimitRequestLine (8190); nginx, large_client_header_buffers (8k)
    limit_request_head         65536    uvicorn, h11_max_incomplete_event_size
    limit_request_body_rate    240      Kestrel, MinRequestBodyDataRate (bytes/s)
    timeout_request_head       10 s     none; nginx's client_header_timeout is 60 s
    timeout_write              30 s     none; nginx's send_timeout is 60 s

Owner: none; see `config`.
"""

from dataclasses import dataclass

from pounce.config.kinds import FLAG, HEADERS, TRUTH, seconds, text, whole
from pounce.config.option import REQUESTS, RESPONSES, WEBSOCKET, option


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
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
