"""The options for a server behind a proxy: whom it trusts, and what it takes from them.

Owner: none; see `config`.
"""

from dataclasses import dataclass

from pounce.config.kinds import FLAG, SENDERS
from pounce.config.option import PROXIES, option


@dataclass(frozen=True, kw_only=True)
class ProxyOptions:
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
