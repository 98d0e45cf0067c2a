"""What handles a request of a service: an exchange, or for a WebSocket one of its own kind. What has to be known of
every request decides its class, once.

Owner: the worker's thread.
"""

from collections.abc import Callable
from functools import partial

from pounce.asgi.exchange import Exchange
from pounce.asgi.service import Service
from pounce.config.config import Config
from pounce.connections.interface import Handler, Transport
from pounce.protocols.events import Request

type Handle = Callable[[Transport, Request], Handler]


def service_class(config: Config) -> type[Service]:
    if config.request_id is None:
        return Service
    from pounce.asgi.identifying_service import IdentifyingService

    return IdentifyingService


def http_handler(service: Service) -> Handle:
    """What makes the handler of each request."""
    return partial(_extended(Exchange, service), service)


def websocket_handler(service: Service) -> Handle:
    """What makes the handler of each request for a WebSocket."""
    made: type[Exchange] | None = None

    def handle(transport: Transport, request: Request) -> Handler:
        nonlocal made
        if made is None:
            from pounce.asgi.websocket import WebSocketExchange  # most workers never need it

            made = _extended(WebSocketExchange, service)
        return made(service, transport, request)

    return handle


def _extended(base: type[Exchange], service: Service) -> type[Exchange]:
    """The class with the parts that the service asks for."""
    parts: list[type[Exchange]] = []
    if service.request_ids is not None:
        from pounce.asgi.identified import Identified

        parts.append(Identified)
    if service.keeps_response_fields or service.keeps_times:
        from pounce.asgi.detailed import FieldKeeping, Queued, Timed

        if service.keeps_response_fields:
            parts.append(FieldKeeping)
        if service.keeps_times:
            parts.append(Queued if service.limited else Timed)
    return type(base.__name__, (*parts, base), {}) if parts else base
