"""The options that are here for uvicorn's sake: those that are accepted and ignored, and those that are not here yet.

An option that uvicorn has and this version has not accepts the values with which uvicorn does nothing either. Any other
value is an error, whatever its source. Owner: none; see `config`.
"""

from dataclasses import dataclass
from typing import Any

from pounce.config.kinds import ignored, is_off, not_available, text, whole
from pounce.config.option import IGNORED, not_yet, option


@dataclass(frozen=True, kw_only=True)
class UvicornOptions:
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
