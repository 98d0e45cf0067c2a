"""What a case is, and the requests that cases are made of."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    name: str
    section: str
    """RFC and section, such as "9112 6.3"."""
    data: bytes
    allowed: str
    saw: tuple[dict[str, Any], ...] = ()
    """What the application must have seen of the requests that it answered, in their order; part of it."""
    ends: bool = False
    """The client sends nothing more, and says so, in place of the further request."""
    heads: frozenset[int] = field(default_factory=frozenset)
    """Which of the requests, counted from 0, are HEAD, so that their answers have no content."""


CASES: list[Case] = []


def case(name: str, section: str, data: bytes, allowed: str, *saw: dict[str, Any], **more: Any) -> None:
    assert all(name != other.name for other in CASES), name
    CASES.append(Case(name, section, data, allowed, saw, **more))


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def line(text: bytes) -> bytes:
    """A request with this line."""
    return text + b"\r\nHost: a\r\n\r\n"


def fields(*lines: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    """A request with these field lines too."""
    head = method + b" / HTTP/" + version + b"\r\nHost: a\r\n"
    return head + b"".join(text + b"\r\n" for text in lines) + b"\r\n"


def host(*lines: bytes, target: bytes = b"/", version: bytes = b"1.1") -> bytes:
    """A request with these field lines and no other."""
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + b"".join(text + b"\r\n" for text in lines) + b"\r\n"


def post(*lines: bytes, content: bytes = b"") -> bytes:
    return fields(*lines, method=b"POST") + content


def chunked(content: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", content=content)


def length(value: bytes, content: bytes = b"hello") -> bytes:
    return post(b"Content-Length: " + value, content=content)
