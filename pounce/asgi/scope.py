"""The scope of a request: what the application is told of it at the beginning (ASGI HTTP 2.5, "Connection Scope")."""

from typing import TYPE_CHECKING

from pounce.asgi.exchange import Scope
from pounce.protocols.events import Request

if TYPE_CHECKING:
    from pounce.asgi.http1 import HTTP1Connection


def http_scope(connection: "HTTP1Connection", request: Request) -> Scope:
    """Everything in it that can be changed is the application's own: requests that are alike share one `request`."""
    worker = connection.worker
    return {
        "type": "http",
        "asgi": {"version": worker.asgi_version, "spec_version": "2.5"},
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
        "extensions": (worker.extensions if request.version == "1.1" else worker.old_extensions).copy(),
    }
