"""Who hears of a worker's exchanges: the access log, the request limit, and whatever else counts or follows requests.

An observer is asked at two moments of every exchange. A hook that nothing uses is None, and costs a test for that. What
costs time is kept by an exchange only where the observer needs it.

Owner: the worker's thread.
"""

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from pounce.net.byte_stream import Peer
from pounce.protocols.events import Request
from pounce.protocols.fields import Field


class Outcome(enum.Enum):
    """How an exchange ended."""

    COMPLETED = "completed"
    """The application has sent the whole response, or a WebSocket was closed in order."""
    CANCELLED = "cancelled"
    """The server has cancelled the application while it was shutting down."""
    TIMED_OUT = "timed out"
    """It ran longer than `--timeout-request`."""
    REFUSED = "refused"
    """The server has answered without running the application."""
    FAILED = "failed"
    """The application has raised, or has returned without a whole response."""
    DISCONNECTED = "disconnected"
    """The client has gone, or has broken the protocol, before the response was complete."""


class HasPeer(Protocol):
    @property
    def peer(self) -> Peer: ...


class Observed(Protocol):
    """An exchange, as observers see it."""

    request: Request
    status: int
    """Of the response; 101 for an accepted WebSocket, 0 as long as there is none."""
    bytes_sent: int
    """Of content that the application has sent; of a WebSocket, of its messages before compression. Counted where there
    is an `on_end`."""
    request_id: str | None
    """None without --request-id."""

    # With `needs_times`, in seconds of the loop's clock; 0 for what has not happened.
    received: float
    """When the turn began in which the head was read."""
    started: float
    """When the application was called."""
    first_byte: float
    """When the head of the response was sent, if the response was not complete with it."""
    bytes_received: int
    """Of content; of a WebSocket, of its messages."""
    response_fields: Iterable[Field]
    """The application's, with `needs_response_fields`."""

    @property
    def transport(self) -> HasPeer: ...

    @property
    def seen(self) -> object | None:
        """None where no proxy has said anything: then `peer` is the transport's, and `root_path` the service's."""

    @property
    def answered(self) -> bool:
        """Has the whole response been sent? Never true for an accepted WebSocket."""

    @property
    def peer(self) -> Peer:
        """Who has sent the request, as far as trusted proxies say so."""

    @property
    def root_path(self) -> str:
        """What stands before the path of the request where the client sees it."""


type OnResponse = Callable[[Observed], object]
type OnEnd = Callable[[Observed, Outcome], object]


class Observer:
    """The hooks of one worker. They are called on its thread and must not raise."""

    __slots__ = ("needs_response_fields", "needs_times", "on_end", "on_handshake", "on_response")

    def __init__(
        self, on_response: Sequence[OnResponse] = (), on_end: Sequence[OnEnd] = (),
        on_handshake: OnResponse | None = None, *, needs_times: bool = False, needs_response_fields: bool = False,
    ) -> None:  # fmt: skip
        self.on_handshake = on_handshake
        """A WebSocket's handshake has been answered."""
        self.needs_times = needs_times
        self.needs_response_fields = needs_response_fields
        self.on_response: OnResponse | None = _all_of(on_response)
        """The head of a response, or the 101 of a WebSocket, has been sent."""
        self.on_end: OnEnd | None = _all_of(on_end)
        """The exchange is over, once for each. Its application may still be running."""


def _all_of[**P](hooks: Sequence[Callable[P, object]]) -> Callable[P, object] | None:
    if len(hooks) < 2:
        return hooks[0] if hooks else None

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        for hook in hooks:
            hook(*args, **kwargs)

    return call
