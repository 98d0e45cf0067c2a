"""The parts of a line of the access log: what a client or a proxy has sent, without what could end a field or a line.

Much of a line depends on the request alone, and clients repeat themselves: the reader gives equal heads as one object,
and equal field lines as one list (`protocols.h1.reader`). So what they become in the log is kept with them.

Owner: the worker's thread; each worker has its own.
"""

import binascii
import re
import time
from collections.abc import Callable

from pounce.net.byte_stream import Peer
from pounce.observe.observer import Observed
from pounce.protocols.events import Request
from pounce.protocols.fields import Field

type Clock = Callable[[], float]

CLIENT_GONE = 499
"""Stands for the status of a response that has not begun when its client goes. nginx's number, which readers of logs
know."""

BODILESS = (204, 205, 304)
"""Whatever an application gives as the content of a response with such a status is not sent."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Of Common Log Format, whatever the locale."""

_UNSAFE = re.compile(r"[^ !#-\[\]-~]")  # everything but printable ASCII without the quote and the backslash


def escaped(text: str) -> str:
    """The text without quotes, backslashes, control characters and whatever else is not ASCII: each byte as nginx
    writes it, such as \\x22."""
    return _UNSAFE.sub(lambda found: "".join(f"\\x{byte:02X}" for byte in _bytes(found[0])), text)


def _bytes(character: str) -> bytes:
    """The bytes of a field are characters of ISO-8859-1."""
    return character.encode("latin-1" if character < "\u0100" else "utf-8", "surrogatepass")


def value_of(fields: list[Field], name: bytes) -> bytes | None:
    """The value of the field; of several lines, as one (RFC 9110, section 5.3)."""
    values = [value for field, value in fields if field == name]
    return b", ".join(values) if values else None


def user(fields: list[Field]) -> str:
    """The name that the client gives by Basic authentication (RFC 7617); `-` for none."""
    scheme, _, credentials = (value_of(fields, b"authorization") or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return "-"
    try:
        name = binascii.a2b_base64(credentials.strip()).partition(b":")[0]
    except ValueError:
        return "-"
    return escaped(name.decode("latin-1")).replace(" ", "\\x20") or "-"


def field_text(fields: list[Field], name: bytes) -> str:
    value = value_of(fields, name)
    return escaped(value.decode("latin-1")) if value else "-"


def host_text(peer: Peer) -> str:
    """The client's address; `-` for one at a Unix socket. A proxy may have given any text for it."""
    if peer.host_text is None:
        host = peer.client[0] if peer.client is not None else ""
        peer.host_text = escaped(host).replace(" ", "\\x20") or "-"
    return peer.host_text


def path_text(exchange: Observed) -> str:
    """The path as uvicorn's log has it, without the query. It is printable ASCII (`protocols.h1.head`)."""
    return exchange.root_path + exchange.request.path.decode("ascii")


def request_line(request: Request, root: str) -> str:
    """The request line, with the root path before the path."""
    target = root + request.path.decode("ascii")
    if request.query:
        target += "?" + request.query.decode("ascii")
    if '"' in target or "\\" in target or not target.isascii():
        target = escaped(target)
    return f"{request.method} {target} HTTP/{request.version}"


def content_size(exchange: Observed) -> int:
    """Bytes of content that were sent. What an application gives for the response to a HEAD is not."""
    return 0 if exchange.request.method == "HEAD" or exchange.status in BODILESS else exchange.bytes_sent


class ByFields[Found]:
    """What has been found in blocks of field lines, looked up by the list that the reader gives for equal ones.

    The list is kept with it: so its id cannot become another list's."""

    MAX = 512
    MAX_SIZE = 1024  # bytes of fields, as of the blocks in the reader's cache
    __slots__ = ("_find", "_known")

    def __init__(self, find: Callable[[list[Field]], Found]) -> None:
        self._find = find
        self._known: dict[int, tuple[list[Field], Found]] = {}  # by the id of the list

    def of(self, fields: list[Field]) -> Found:
        known = self._known.get(id(fields))
        if known is not None:
            return known[1]
        found = self._find(fields)
        if sum(len(name) + len(value) for name, value in fields) <= self.MAX_SIZE:
            if len(self._known) >= self.MAX:
                self._known.clear()
            self._known[id(fields)] = (fields, found)
        return found


def common_time(second: int) -> str:
    """The local time of this second, in brackets, as Common Log Format has it."""
    now = time.localtime(second)
    sign, offset = ("-", -now.tm_gmtoff) if now.tm_gmtoff < 0 else ("+", now.tm_gmtoff)
    return (
        f"[{now.tm_mday:02d}/{MONTHS[now.tm_mon - 1]}/{now.tm_year}:{now.tm_hour:02d}:{now.tm_min:02d}:"
        f"{now.tm_sec:02d} {sign}{offset // 3600:02d}{offset % 3600 // 60:02d}]"
    )
