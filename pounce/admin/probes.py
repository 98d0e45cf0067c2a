"""`/livez` and `/readyz`, for Kubernetes, load balancers and whoever looks.

Owner: the supervisor's thread.
"""

import json  # half a MiB. Not when it is first needed: an import on another thread may have locked the module
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pounce.connections.own_response import OwnResponse

type Route = Callable[[], OwnResponse]
"""Answers GET and HEAD requests for one path. It must not wait for anything."""

JSON = b"application/json"


class WorkerState(Protocol):
    """What `/readyz` shows of a worker."""

    @property
    def number(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def blocked_for(self) -> float: ...


class ServerState(Protocol):
    """What the probes are answered from."""

    @property
    def live(self) -> bool:
        """Does the server work, so that a new process would be no better?"""

    @property
    def ready(self) -> bool:
        """Should a load balancer send new clients here?"""

    @property
    def phase(self) -> str: ...
    def workers(self) -> Sequence[WorkerState]: ...


def routes(server: ServerState) -> Mapping[str, Route]:
    """The answers of the admin listener, by path."""
    return {"/livez": lambda: _livez(server), "/readyz": lambda: _readyz(server)}


def _livez(server: ServerState) -> OwnResponse:
    if server.live:
        return OwnResponse(200, b"ok\n")
    return OwnResponse(503, b"no worker's loop turns\n")


def _readyz(server: ServerState) -> OwnResponse:
    ready = server.ready
    workers = [
        {"number": each.number, "name": each.name, "state": each.state, "blocked_for": round(each.blocked_for, 1)}
        for each in server.workers()
    ]
    content = json.dumps({"ready": ready, "state": server.phase, "workers": workers}) + "\n"
    return OwnResponse(200 if ready else 503, content.encode(), JSON)
