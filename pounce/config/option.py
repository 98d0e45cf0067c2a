"""What an option is: its help text, its kind, its group and its names on the command line.

The groups are the sections of `--help` and of docs/options.md, in this order. Owner: none; nothing here changes.
"""

from dataclasses import field
from typing import Any, NamedTuple

from pounce.config.kinds import Kind

ADDRESSES, WORKERS_GROUP, APPLICATION = "where to listen", "workers and their end", "the application"
PROXIES, OPERATION = "behind a proxy", "health and operation"
DEVELOPMENT = "development"
REQUESTS, WEBSOCKET, RESPONSES, LOGGING = "limits and deadlines", "WebSocket", "responses", "logging"
IGNORED = "accepted for uvicorn's sake"
NOT_YET = "not in this version"
GROUPS = (ADDRESSES, WORKERS_GROUP, APPLICATION, PROXIES, OPERATION, DEVELOPMENT, REQUESTS, WEBSOCKET, RESPONSES,
          LOGGING, IGNORED, NOT_YET)  # fmt: skip


class Option(NamedTuple):
    help: str
    kind: Kind
    group: str
    flags: tuple[str, ...]
    """Its names on the command line. Empty in a field's description, where one flag follows from the field's name."""
    multiple: bool = False


def option(default: Any, kind: Kind, group: str, help: str, *flags: str, multiple: bool = False) -> Any:
    """A field of `Config` with its description. `multiple`: the option may be given several times."""
    return field(default=default, metadata={"option": Option(help, kind, group, flags, multiple)})


def not_yet(default: Any, kind: Kind, *flags: str, multiple: bool = False) -> Any:
    """A field for an option that uvicorn has and this version has not."""
    return option(default, kind, NOT_YET, "Not in this version.", *flags, multiple=multiple)
