"""The lines of the access log in every format but uvicorn's, which is in `pounce.logging`.

A line is written when the exchange is over, because its length and its time are known only then. It is always one line:
whatever a client or a proxy has sent is escaped.

Owner: the worker's thread; each worker has its own.
"""

import os
import time
from collections.abc import Callable
from typing import Protocol

from pounce.config.access_template import parse
from pounce.config.config import Config
from pounce.observe.access_texts import (
    BODILESS,
    CLIENT_GONE,
    ByFields,
    Clock,
    common_time,
    content_size,
    escaped,
    field_text,
    host_text,
    path_text,
    request_line,
    user,
)
from pounce.observe.observer import Observed, Outcome
from pounce.protocols.events import Request
from pounce.protocols.fields import Field


class Format(Protocol):
    needs_times: bool
    """Does it need the times of an exchange, and the size of the content that was received?"""
    needs_response_fields: bool
    """Does it need the fields of the response?"""

    def line(self, exchange: Observed, outcome: Outcome) -> str:
        """The line, with its end."""


class CommonFormat:
    """Common Log Format, and with `with_fields` the Combined one, as Apache and nginx have it."""

    needs_times = needs_response_fields = False

    def __init__(self, root_path: str, *, with_fields: bool) -> None:
        self._root = root_path
        """The service's."""
        self._with_fields = with_fields
        self._second = -1
        self._when = ""
        self._ends = ByFields(self._user_and_end)

    def line(self, exchange: Observed, outcome: Outcome) -> str:
        request, status, size = exchange.request, exchange.status, exchange.bytes_sent
        if exchange.seen is None:
            peer = exchange.transport.peer
            name, asked, end = request.log_texts or self._texts(request, self._root)
        else:
            peer, root = exchange.peer, exchange.root_path
            known = request.log_texts if root == self._root else None
            name, asked, end = known or self._texts(request, root)
        if request.special or status in BODILESS:
            size = content_size(exchange)
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._when = common_time(second)
        host = peer.host_text or host_text(peer)
        return f'{host} - {name} {self._when} "{asked}" {status or CLIENT_GONE} {size or "-"}{end}'

    def _texts(self, request: Request, root: str) -> tuple[str, str, str]:
        """What depends on the request and the root path alone; kept, if that is the service's."""
        name, end = self._ends.of(request.fields)
        texts = name, request_line(request, root), end
        if root == self._root:
            request.log_texts = texts
        return texts

    def _user_and_end(self, fields: list[Field]) -> tuple[str, str]:
        if not self._with_fields:
            return user(fields), "\n"
        return user(fields), f' "{field_text(fields, b"referer")}" "{field_text(fields, b"user-agent")}"\n'


type Atom = Callable[[Observed, float], str]
"""The text of an atom. The number is the seconds that the exchange took."""


class TemplateFormat:
    """A template with gunicorn's atoms (`config.access_template`)."""

    def __init__(self, text: str, id_field: str | None, clock: Clock) -> None:
        """`id_field`: the field of --request-id, where there is one."""
        self._text, atoms = parse(text)
        self._text += "\n"
        self._second = -1
        self._when = ""
        self._id_field = id_field
        self._clock = clock
        self._atoms = [self._atom(atom) for atom in atoms]
        self.needs_times = not {"T", "M", "D", "L"}.isdisjoint(atoms)
        self.needs_response_fields = any(atom.endswith("}o") for atom in atoms)

    def line(self, exchange: Observed, outcome: Outcome) -> str:
        took = self._clock() - exchange.received if self.needs_times else 0.0
        return self._text % tuple([atom(exchange, took) for atom in self._atoms])

    def _time(self, exchange: Observed, took: float) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._when = common_time(second)
        return self._when

    def _atom(self, atom: str) -> Atom:
        if len(atom) == 1:
            return self._plain(atom)
        name, group = atom[1:-2], atom[-1]
        if group == "e":
            value = escaped(os.environ.get(name, "")) or "-"
            return lambda exchange, took: value
        field = name.encode("latin-1", "replace")
        if name == self._id_field:
            return lambda exchange, took: exchange.request_id or "-"
        if group == "i":
            texts = ByFields(lambda fields: field_text(fields, field))
            return lambda exchange, took: texts.of(exchange.request.fields)
        return lambda exchange, took: field_text(
            [(name.lower(), value) for name, value in exchange.response_fields], field
        )

    def _plain(self, atom: str) -> Atom:
        users, referers, agents = (
            ByFields(make)
            for make in (
                user,
                lambda fields: field_text(fields, b"referer"),
                lambda fields: field_text(fields, b"user-agent"),
            )
        )
        process = f"<{os.getpid()}>"
        atoms: dict[str, Atom] = {
            "h": lambda exchange, took: host_text(exchange.peer),
            "l": lambda exchange, took: "-",
            "u": lambda exchange, took: users.of(exchange.request.fields),
            "t": self._time,
            "r": lambda exchange, took: request_line(exchange.request, exchange.root_path),
            "m": lambda exchange, took: exchange.request.method,
            "U": lambda exchange, took: escaped(path_text(exchange)),
            "q": lambda exchange, took: escaped(exchange.request.query.decode("ascii")),
            "H": lambda exchange, took: f"HTTP/{exchange.request.version}",
            "s": lambda exchange, took: str(exchange.status or CLIENT_GONE),
            "B": lambda exchange, took: str(content_size(exchange)),
            "b": lambda exchange, took: str(content_size(exchange) or "-"),
            "f": lambda exchange, took: referers.of(exchange.request.fields),
            "a": lambda exchange, took: agents.of(exchange.request.fields),
            "T": lambda exchange, took: str(int(took)),
            "M": lambda exchange, took: str(int(took * 1e3)),
            "D": lambda exchange, took: str(int(took * 1e6)),
            "L": lambda exchange, took: f"{took:.6f}",
            "p": lambda exchange, took: process,
        }
        return atoms[atom]


def access_format(config: Config, worker: int, root_path: str, clock: Clock) -> Format:
    """The format that is configured. `worker`: its number, from 1 on; `root_path`: the service's; `clock`: that of the
    times of an exchange."""
    name = config.access_format
    if name == "json":
        from pounce.observe.access_json import JSONFormat  # most servers do not need json

        return JSONFormat(worker, root_path, clock)
    if name in ("common", "combined"):
        return CommonFormat(root_path, with_fields=name == "combined")
    return TemplateFormat(name, config.request_id, clock)
