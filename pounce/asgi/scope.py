"""The scope of a request: what the application is told of it at the beginning (ASGI HTTP, "Connection Scope")."""

from pounce.app.types import Scope
from pounce.asgi.forwarded import Seen
from pounce.asgi.service import Service
from pounce.connections.interface import Peer
from pounce.protocols.events import Request

SPEC_VERSION = "2.3"
"""What decides how frameworks learn that the client has gone. From 2.4 on Starlette no longer listens for
`http.disconnect` and waits for `send` to raise, which it does not while a stream has nothing to send; uvicorn and
granian announce 2.3. What 2.4 asks for holds all the same: `send` raises ClientDisconnected."""


def http_scope(service: Service, peer: Peer, request: Request) -> Scope:
    """Everything in it that can be changed is the application's own: requests that are alike share one `request`."""
    extensions = (service.extensions if request.version == "1.1" else service.base_extensions).copy()
    if peer.proxy is not None:
        extensions["proxy"] = proxy_facts(peer.proxy)
    return {
        "type": "http",
        "asgi": {"version": service.asgi_version, "spec_version": SPEC_VERSION},
        "http_version": request.version,
        "server": peer.server,
        "client": peer.client,
        "scheme": peer.scheme,
        "method": request.method,
        "root_path": service.root_path,
        "path": service.root_path + request.text,
        "raw_path": service.raw_root_path + request.path,
        "query_string": request.query,
        "headers": request.fields.copy(),
        "state": service.state.copy(),
        "extensions": extensions,
    }


def scope_of(service: Service, peer: Peer, request: Request, seen: Seen | None) -> Scope:
    """The same of any request, also of one that has come through proxies."""
    scope = http_scope(service, peer, request)
    if seen is not None:
        seen.amend(scope, request)
    return scope


def proxy_facts(facts: dict[str, object]) -> dict[str, object]:
    """What the header of the PROXY protocol has said, as a copy: the requests of a connection share `facts`."""
    copy = facts.copy()
    tls = facts.get("tls")
    if isinstance(tls, dict):
        copy["tls"] = tls.copy()
    return copy
