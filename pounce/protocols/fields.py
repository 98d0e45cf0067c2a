"""Fields of HTTP messages (RFC 9110, section 5): which names and values are legal.

Must never depend on a version of HTTP. Owner: none; nothing here changes.
"""

import re

type Field = tuple[bytes, bytes]
"""A field name and its value."""

FIELD_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
"""token, RFC 9110 section 5.6.2."""
FIELD_VALUE = re.compile(rb"(?:[^\x00\s]+(?:[ \t]+[^\x00\s]+)*)?")
"""field-value, RFC 9110 section 5.5, as h11 reads it: control characters other than NUL and white space are allowed."""


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
