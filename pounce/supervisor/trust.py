"""Warns, at the start and at SIGHUP, of trust that is wider than its operator may think, or that nobody gets.

Owner: the supervisor's thread.
"""

import logging
from collections.abc import Sequence

from pounce.config.config import Config
from pounce.net.listeners import Listener
from pounce.protocols.trusted import EVERYBODY, TrustedPeers

LOOPBACK = ("127.0.0.0/8", "::1", "unix")

logger = logging.getLogger("pounce.error")


def warn_of_trust(config: Config, listeners: Sequence[Listener], before: Config | None = None) -> None:
    """One line for each option. What trusts everybody is warned of where others than this machine's can connect.
    `before`: the configuration until now, whose warnings are not repeated."""
    local = TrustedPeers.parse(LOOPBACK)
    addresses = (listener.address for listener in listeners)
    public = [
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        for host, port in addresses
        if port is not None and not local.trusts((host, port))
    ]
    warned = _trusted(before) if before is not None else []
    for option, entries in _trusted(config):
        if (option, entries) in warned:
            continue
        if public and entries == (EVERYBODY,):
            logger.warning(
                "%s %s: whoever can connect to %s can pass for any other client. Name the proxies' addresses instead.",
                option, EVERYBODY, ", ".join(public),
            )  # fmt: skip
        for word in TrustedPeers.parse(entries).words:
            if word[0] != "_":  # an identifier of RFC 7239, section 6.3, as proxies write it
                logger.warning("%s: %r is not an address, and no name is looked up: no proxy has it.", option, word)


def _trusted(config: Config) -> list[tuple[str, tuple[str, ...]]]:
    """The options by which somebody is trusted, and whom they name."""
    options: list[tuple[str, tuple[str, ...]]] = []
    if config.proxy_headers and config.forwarded_header != "off":
        options.append(("--forwarded-allow-ips", config.forwarded_allow_ips))
    if config.proxy_protocol:
        options.append(("--proxy-protocol-allow-ips", config.proxy_protocol_allow_ips))
    return options
