"""Fields of HTTP messages (RFC 9110, section 5): which names and values are legal.

Must never depend on a version of HTTP. Owner: none; nothing here changes.
"""

import re
from socket import AF_INET6, inet_pton  # the import of `ipaddress` would take another MiB

type Field = tuple[bytes, bytes]
"""A field name and its value."""

FIELD_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
"""token, RFC 9110 section 5.6.2."""
FIELD_VALUE = re.compile(rb"(?:[^\x00\s]+(?:[ \t]+[^\x00\s]+)*)?")
"""field-value, RFC 9110 section 5.5, as h11 reads it: control characters other than NUL and white space are allowed."""

HOST = re.compile(
    rb"""(?: (?: \[ (?: ([0-9A-Fa-f:.]++) | [Vv][0-9A-Fa-f]++ \. [A-Za-z0-9\-._~!$&'()*+,;=:]++ ) \]
               | (?: [A-Za-z0-9\-._~!$&'()*+,;=] | %[0-9A-Fa-f]{2} )++ )
           (?: : (?: [0-5]?[0-9]{1,4} | 6[0-4][0-9]{3} | 65[0-4][0-9]{2} | 655[0-2][0-9] | 6553[0-5] )? )? )?""",
    re.VERBOSE,
)
"""uri-host [ ":" port ], RFC 9110 section 7.2 and RFC 3986 section 3.2.2; or nothing (RFC 9112, section 3.2). The
group is what must still be an IPv6 address: see `is_host`."""


def field_problem(name: object, value: object) -> str | None:
    """What is wrong with a field; None if it is legal."""
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        return f"is not a pair of bytes: {name!r}: {value!r}"
    if not FIELD_NAME.fullmatch(name):
        return f"has an illegal name: {name!r}"
    if not FIELD_VALUE.fullmatch(value):
        return f"{name!r} has an illegal value: {value!r}"
    return None


def checked_field(name: object, value: object) -> Field | str:
    """An application's field as it is sent, or what is wrong with it. White space around a value is not a part of it
    (RFC 9110, section 5.5)."""
    if isinstance(name, bytearray):
        name = bytes(name)
    if isinstance(value, bytes | bytearray):
        value = bytes(value).strip(b" \t")
    return field_problem(name, value) or (name, value)  # type: ignore[return-value]  # no problem: both are bytes


def is_host(value: bytes) -> bool:
    """Is this a legal value of a Host field?"""
    match = HOST.fullmatch(value)
    if match is None:
        return False
    if match[1] is not None:
        try:
            inet_pton(AF_INET6, match[1].decode("ascii"))
        except OSError:
            return False
    return True
