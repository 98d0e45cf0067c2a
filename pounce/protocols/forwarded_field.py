r"""The `Forwarded` field (RFC 7239), read from its end.

What the nearest proxy has added stands at the end. What stands before it may be a client's, and may be illegal: after
`for="` a reader that begins at the front takes all that proxies have added for the rest of a string. Read from the end,
an element is taken apart before anything left of it has been seen. The text is reversed for that, and so are the
patterns. The elements of a legal field are the same in both directions.

What is illegal ends the walk: nobody knows then who sent the request. Two things are read that RFC 7239 does not allow,
because they are common and can be read in one way only: addresses with colons or brackets that are not quoted, and
white space around a semicolon.

Must never raise, whatever the bytes are. Owner: none; nothing here is kept.
"""

import re
from collections.abc import Sequence
from socket import AF_INET, AF_INET6, inet_pton

from pounce.protocols.fields import Field, is_host
from pounce.protocols.forwarding import SCHEMES, Forwarded
from pounce.protocols.trusted import TrustedPeers

NAME = b"forwarded"

UNKNOWN = "unknown", 0
"""Who cannot be named (section 6.2)."""

type Element = dict[str, str]
"""Parameters by their names, which are in lower case (section 4)."""

_EMPTY = re.compile(r"[ \t;,]*+")
"""Elements without a parameter, which count for nothing (RFC 9110, section 5.6.1)."""
_PAIR = re.compile(
    r"""[ \t;]*+
    (?: (?: "(?P<quoted> (?:\\\\)*+ (?: [^"\\] \\*+ | "\\ (?:\\\\)*+ )*+ )"
          | (?P<token> [-!\#$%&'*+.^_`|~0-9A-Za-z:\[\]]++ ) )
        = (?P<name> [-!\#$%&'*+.^_`|~0-9A-Za-z]++ ) [ \t]*+ )?+
    (?P<end> [;,] | \Z )""",
    re.VERBOSE,
)  # fmt: skip
"""A parameter, or none, and what separates it from the one before it; all of it reversed. In a quoted string, a quote
that an odd number of backslashes stands before is a part of it; the last one has an even number of them before it."""
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)

_NODE = re.compile(
    r"""(?: (?P<v4> [0-9.]++ ) | \[ (?P<v6> [0-9A-Fa-f:.]++ ) \] | (?P<word> unknown | _[A-Za-z0-9._-]++ ) )
    (?: : (?: (?P<port> [0-9]{1,5} ) | _[A-Za-z0-9._-]++ ) )?""",
    re.VERBOSE | re.IGNORECASE,
)
"""An address or an obfuscated identifier, and a port, which may be obfuscated too (section 6)."""


def read_forwarded(fields: Sequence[Field], trusted: TrustedPeers, *, host: bool) -> Forwarded:
    """`host`: is it wanted? `fields` are of a request whose peer is trusted. All that is taken comes from one element,
    that of the proxy which the client has talked to."""
    lines = [value for name, value in fields if name == NAME]
    if not lines:
        return Forwarded()
    text = b",".join(lines).decode("latin-1")[::-1]
    client: tuple[str, int] | None = None
    element: Element | None = None
    position = _EMPTY.match(text).end()  # type: ignore[union-attr]  # it matches nothing, too
    while position < len(text):
        read, position = _next_element(text, position)
        if read is None:
            return Forwarded(UNKNOWN)
        element = read
        node = read.get("for")
        if node is None:  # this proxy does not say
            client = client and UNKNOWN
            break
        client = _client(node)
        if client is None:
            return Forwarded(UNKNOWN)
        if not trusted.trusts_host(client[0]):
            break
    if element is None:
        return Forwarded()
    scheme = element.get("proto", "").lower()
    authority = element["host"].encode("latin-1") if host and "host" in element else b""
    return Forwarded(
        client, scheme if scheme in SCHEMES else None, authority if authority and is_host(authority) else None
    )


def _next_element(text: str, position: int) -> tuple[Element | None, int]:
    """The element of the reversed text that begins here, and where the next one does. None where it is illegal."""
    element: Element = {}
    while True:
        match = _PAIR.match(text, position)
        if match is None:
            return None, position
        name = match["name"]
        if name is not None:
            name = name[::-1].lower()
            if name in element:
                return None, position  # section 4: not more than once
            quoted = match["quoted"]
            element[name] = match["token"][::-1] if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted[::-1])
        position = match.end()
        if match["end"] != ";":
            return element, _EMPTY.match(text, position).end()  # type: ignore[union-attr]


def _client(node: str) -> tuple[str, int] | None:
    match = _NODE.fullmatch(node)
    if match is None:
        return None
    host = match["v4"] or match["v6"] or match["word"]
    if match["word"] is None:
        try:
            inet_pton(AF_INET if match["v4"] else AF_INET6, host)
        except OSError:
            return None
    port = int(match["port"] or 0)
    return host, port if port <= 65535 else 0
