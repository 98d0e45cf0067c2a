"""What handles a request of a service: an exchange, or for a WebSocket one of its own kind.

Owner: the worker's thread.
"""

from collections.abc import Callable
from functools import partial

from pounce.asgi.exchange import Exchange
from pounce.asgi.service import Service
from pounce.connections.interface import Handler, Transport
from pounce.protocols.events import Request

type Handle = Callable[[Transport, Request], Handler]


def http_handler(service: Service) -> Handle:
    """What makes the handler of each request."""
    return partial(Exchange, service)


def websocket_handler(service: Service) -> Handle:
    """What makes the handler of each request for a WebSocket."""

    def handle(transport: Transport, request: Request) -> Handler:
        from pounce.asgi.websocket import WebSocketExchange  # most workers never need it

        return WebSocketExchange(service, transport, request)

    return handle
