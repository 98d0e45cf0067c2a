"""The scope of a request: what the application is told of it at the beginning (ASGI HTTP, "Connection Scope")."""

from typing import TYPE_CHECKING

from pounce.app.types import Scope
from pounce.protocols.events import Request

if TYPE_CHECKING:
    from pounce.connections.http1 import HTTP1Connection

SPEC_VERSION = "2.3"
"""What decides how frameworks hear that the client has gone. From 2.4 on Starlette no longer listens for
`http.disconnect` and waits for `send` to raise, which it does not while a stream has nothing to say; uvicorn and
granian say 2.3. What 2.4 asks for holds all the same: `send` raises ClientDisconnected."""


def http_scope(connection: "HTTP1Connection", request: Request) -> Scope:
    """Everything in it that can be changed is the application's own: requests that are alike share one `request`."""
    worker = connection.worker
    return {
        "type": "http",
        "asgi": {"version": worker.asgi_version, "spec_version": SPEC_VERSION},
        "http_version": request.version,
        "server": connection.server,
        "client": connection.client,
        "scheme": "http",
        "method": request.method,
        "root_path": worker.root_path,
        "path": worker.root_path + request.text,
        "raw_path": worker.raw_root_path + request.path,
        "query_string": request.query,
        "headers": request.fields.copy(),
        "state": worker.state.copy(),
        "extensions": worker.extensions.copy() if request.version == "1.1" else {},
    }
