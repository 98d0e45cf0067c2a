"""The options for a server behind a proxy: whom it trusts, and what it takes from them.

Owner: none; see `config`.
"""

from dataclasses import dataclass

from pounce.config.kinds import FLAG, SENDERS, TRUSTED, choice
from pounce.config.option import PROXIES, option


@dataclass(frozen=True, kw_only=True)
class ProxyOptions:
    proxy_headers: bool = option(
        True,
        FLAG,
        PROXIES,
        "Take the client's address and scheme from the fields that a trusted proxy sends.",
    )
    forwarded_allow_ips: tuple[str, ...] = option(
        None,
        TRUSTED,
        PROXIES,
        "The proxies whose fields are trusted: addresses, networks, unix for a Unix socket, or * for everybody. "
        "Default: $FORWARDED_ALLOW_IPS, else 127.0.0.1,::1.",
    )
    forwarded_header: str = option(
        "x-forwarded",
        choice("x-forwarded", "forwarded", "off"),
        PROXIES,
        "The fields that count: X-Forwarded-For and X-Forwarded-Proto, or Forwarded (RFC 7239), never both.",
    )
    forwarded_host: bool = option(
        False,
        FLAG,
        PROXIES,
        "Give the application the host that a trusted proxy was asked for, as the Host field.",
    )
    forwarded_prefix: bool = option(
        False,
        FLAG,
        PROXIES,
        "Take the root path from a trusted proxy's X-Forwarded-Prefix.",
    )
    proxy_protocol: bool = option(
        False,
        FLAG,
        PROXIES,
        "Every connection begins with a header of the PROXY protocol, version 1 or 2. One without it is closed.",
    )
    proxy_protocol_allow_ips: tuple[str, ...] = option(
        ("127.0.0.1", "::1", "unix"),
        SENDERS,
        PROXIES,
        "The proxies that send it: addresses, networks, unix for a Unix socket, or * for everybody. Connections from "
        "elsewhere are closed.",
    )
