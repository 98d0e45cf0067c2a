"""`--health PATH`: what load balancers ask on the public port. The server answers before the application, and the
request is neither logged nor counted.

The answer says whether new clients should come here, not whether the application is well: a worker that answers turns
its loop. Where every worker is blocked nobody answers; for that there is the admin listener.

Owner: the worker's thread.
"""

from typing import Protocol

from pounce.asgi.pipeline import Handle
from pounce.connections.interface import Handler, Transport
from pounce.connections.own_response import OwnExchange, OwnResponse
from pounce.protocols.events import Request

READY = OwnResponse(200, b"ok\n")
NOT_READY = OwnResponse(503, b"draining\n")


class Ready(Protocol):
    def __bool__(self) -> bool:
        """Should new clients come here?"""


def with_health(handle: Handle, path: str, ready: Ready) -> Handle:
    """Answers requests for `path`, which is compared as it is in the request, and leaves all others to `handle`."""
    health_path = path.encode()

    def answer() -> OwnResponse:
        return READY if ready else NOT_READY

    def handle_others(transport: Transport, request: Request) -> Handler:
        if request.path == health_path:
            return OwnExchange(transport, request, answer)
        return handle(transport, request)

    return handle_others
