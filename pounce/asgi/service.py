"""The application as one worker serves it: what all its exchanges share.

Owner: the worker's thread. Each worker has its own.
"""

from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextvars import Context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol

from pounce.app.loading import Loaded
from pounce.app.types import Application, Message, Receive, Scope, Send
from pounce.asgi.admission import Admission, Admitted
from pounce.asgi.cross_thread import CrossThreadCalls, Scheduler
from pounce.asgi.draining import Draining
from pounce.asgi.forwarded import Forwarding, Seen
from pounce.config.config import Config
from pounce.connections.interface import ByteStream, Peer
from pounce.kernel.loop import Loop
from pounce.kernel.task import Driver
from pounce.observe.observer import Observer
from pounce.protocols.events import Request

if TYPE_CHECKING:
    from pounce.asgi.request_id import RequestIds


class Call(Admitted, Protocol):
    """A call of the application, for a request or a WebSocket."""

    task: Driver | None
    """None until it has had to wait."""
    request_id: str | None
    request: Request

    @property
    def name(self) -> str: ...
    @property
    def sending_stream(self) -> ByteStream | None:
        """The stream on which a response is being sent."""

    async def receive(self) -> Message: ...
    async def send(self, message: Message) -> None: ...
    def task_started(self, task: Driver) -> None: ...
    def finished(self, value: object, error: BaseException | None) -> None: ...
    def cancel(self) -> None: ...
    def log_and_cancel(self, level: int) -> None: ...


class Service:
    def __init__(
        self, loop: Loop, config: Config, scheduler: Scheduler, cross_thread: CrossThreadCalls, observer: Observer,
        state: dict[str, Any], connections: Collection[object], exchange_ended: Callable[[], object],
    ) -> None:  # fmt: skip
        """`state` is the lifespan's; `exchange_ended` is called when the application of an exchange has ended that had
        to wait for something."""
        self.loop = loop
        self.cross_thread = cross_thread
        self.thread = 0
        """The worker's, as `threading.get_ident` says: any other only passes its calls on."""
        self.on_response = observer.on_response
        self.on_end = observer.on_end
        self.on_handshake = observer.on_handshake
        self.request_ids: RequestIds | None = None
        self.keeps_times = observer.needs_times
        self.keeps_response_fields = observer.needs_response_fields
        self.exchanges: set[Call] = set()
        """Those whose application is still running, which it may be after the response is complete."""
        self.limited = config.limit_concurrency is not None
        """Does a request have to ask for admission?"""
        self.admission = Admission(loop, config, connections, self.exchanges)
        self.cancel_on_disconnect = config.cancel_on_disconnect
        self.root_path = config.root_path.rstrip("/")
        self.raw_root_path = self.root_path.encode()
        self.draining = Draining(cross_thread)
        self.refuses_late_websockets = config.timeout_websocket_drain > 0
        """Is a WebSocket answered 503 that begins when the worker drains? Without a window it is accepted and closed at
        once with 1012, like those that are open: no client fails that was told to connect again."""
        self.extensions: dict[str, object] = {}
        """What the scope of a request says of them."""
        self.base_extensions: dict[str, object] = {}
        """The same for HTTP/1.0, and for WebSockets without what only they have."""
        self._forwarding: Forwarding | None = None
        self.state = state
        self._config = config
        self.asgi_version = "3.0"
        self._application: Application
        self._scheduler = scheduler
        self._empty_context = config.reset_contextvars
        self._exchange_ended = exchange_ended
        self._tracks_exchanges = self.admission.tracks_exchanges

    def begin(self, loaded: Loaded) -> None:
        """The application is there, and this thread is the worker's."""
        self._application = loaded.application
        self.asgi_version = loaded.asgi_version
        self.thread = self.cross_thread.thread
        # Made on this thread, as every request counts references to what is in them.
        self._forwarding = Forwarding(self._config) if self._config.proxy_headers else None
        self.base_extensions = {"pounce.draining": self.draining}
        self.extensions = {"http.response.trailers": {}, "http.response.early_hint": {}, **self.base_extensions}

    def seen(self, peer: Peer, request: Request) -> Seen | None:
        """How the application sees a request that has fields of proxies; None: as it was received. `peer` is at the
        other end of the connection."""
        return None if self._forwarding is None else self._forwarding.seen(peer, request)

    def call(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, Any]:
        """What the scheduler drives for a call of the application: mostly the coroutine that it returned. An error
        before there was one is raised by the coroutine instead."""
        try:
            made = self._application(scope, receive, send)
        except BaseException as error:
            return _failed(error)
        if type(made) is CoroutineType:
            return made
        return _awaited(made)

    def run(self, exchange: Call, scope: Scope, context: Context | None = None) -> None:
        """Calls the application, and drives it in place until it first has to wait. `context`: the one to run in, in
        place of a copy of the current one."""
        try:  # as `call`, which would cost a request a hundredth of its time
            coroutine = self._application(scope, exchange.receive, exchange.send)
        except BaseException as error:
            coroutine = _failed(error)
        if type(coroutine) is not CoroutineType:
            coroutine = _awaited(coroutine)
        task = self._scheduler.spawn(coroutine, exchange.finished, Context() if self._empty_context else context)
        if task is not None:
            self.exchanges.add(exchange)
            exchange.task_started(task)
            stream = exchange.sending_stream
            if stream is not None:
                stream.expect_progress()
            if self._tracks_exchanges:
                self.admission.exchange_started(exchange)

    def exchange_ended(self, exchange: Call) -> None:
        """The application of this exchange has ended, after it had to wait for something."""
        self.exchanges.discard(exchange)
        if self._tracks_exchanges:
            self.admission.exchange_ended(exchange)
        self._exchange_ended()


async def _failed(error: BaseException) -> None:
    """A call that has failed before there was a coroutine."""
    raise error


async def _awaited(made: Awaitable[Any]) -> Any:
    """A call that has returned something else to wait for."""
    return await made
