"""Frameworks and clients while a worker is replaced: in a hurry, as by a reload, and with time, as by a restart."""

import asyncio
import signal
import threading

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.chain import Chain
from tests.support.requirements import library
from tests.support.server import Running


class Seen:
    """What an application has gone through, and its clients wait for."""

    def __init__(self):
        self.notes = []
        self.news = threading.Condition()

    def note(self, what):
        with self.news:
            self.notes.append(what)
            self.news.notify_all()

    def wait_for(self, *what):
        with self.news:
            assert self.news.wait_for(lambda: set(what) <= set(self.notes), 30), self.notes


async def events(seen):
    """Never ends by itself."""
    try:
        while True:
            yield "data: 1\n\n"
            await asyncio.sleep(0.01)
    finally:
        seen.note("closed")


def starlette_app(seen):
    library("starlette")
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    async def page(request):
        return PlainTextResponse("old")

    async def stream(request):
        return StreamingResponse(events(seen), media_type="text/event-stream")

    async def other(request):
        return StreamingResponse(events(seen), media_type="text/plain")

    async def socket(websocket):
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)
        seen.note("closed")

    return Starlette(
        routes=[
            Route("/", page), Route("/events", stream), Route("/other", other), WebSocketRoute("/socket", socket),
        ]
    )  # fmt: skip


def fastapi_app(seen):
    library("fastapi")
    from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
    from fastapi.responses import StreamingResponse

    app = FastAPI()

    @app.middleware("http")
    async def stamp(request: Request, call_next):
        answer = await call_next(request)
        answer.headers["x-stamp"] = "1"
        return answer

    @app.get("/")
    async def page():
        return "old"

    @app.get("/events")
    async def stream():
        return StreamingResponse(events(seen), media_type="text/event-stream")

    @app.websocket("/socket")
    async def socket(websocket: WebSocket):
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnect as error:
            seen.note("closed" if error.code == 1012 else error)

    return app


def sse_starlette_app(seen):
    library("starlette", "sse_starlette")
    from sse_starlette import EventSourceResponse
    from starlette.applications import Starlette
    from starlette.routing import Route

    async def stream(request):
        async def each():
            try:
                while True:
                    yield {"data": 1}
                    await asyncio.sleep(0.01)
            finally:
                seen.note("closed")

        return EventSourceResponse(each(), sep="\n")

    return Starlette(routes=[Route("/events", stream)])


def quart_app(seen):
    library("quart")
    from quart import Quart, websocket

    app = Quart("quartz")

    @app.get("/")
    async def page():
        return "old"

    @app.get("/events")
    async def stream():
        return events(seen), {"Content-Type": "text/event-stream"}

    @app.websocket("/socket")
    async def socket():
        try:
            while True:
                await websocket.send(await websocket.receive())
        finally:
            seen.note("closed")

    return app


def litestar_app(seen):
    library("litestar")
    from litestar import Litestar, get
    from litestar.response import ServerSentEvent

    async def each():
        try:
            while True:
                yield "1"
                await asyncio.sleep(0.01)
        finally:
            seen.note("closed")

    @get("/events", sync_to_thread=False)
    def stream() -> ServerSentEvent:
        return ServerSentEvent(each())

    return Litestar([stream])


async def new(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"new"})


@pytest.mark.parametrize("make", [starlette_app, fastapi_app, sse_starlette_app, quart_app, litestar_app])
def test_an_open_event_stream_holds_no_reload_up_and_its_client_sees_an_end(make, caplog):
    seen = Seen()
    with Chain(make(seen)) as chain, httpx.Client(base_url=chain.url, timeout=30) as client:
        with client.stream("GET", "/events") as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: 1")
            chain.replace(new, hurry=True)
            chain.until_only_one_is_left()  # before the client reads on
            assert {line for line in lines if line} <= {"data: 1"}  # and no error, and no half of a line
        seen.wait_for("closed")
        assert client.get("/events").text == "new"
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


@pytest.mark.parametrize("make", [starlette_app, fastapi_app, quart_app])
def test_an_open_websocket_holds_no_reload_up_and_its_client_sees_1012(make, caplog):
    seen = Seen()
    with Chain(make(seen), timeout_websocket_drain=20) as chain:
        url = chain.url.replace("http", "ws") + "/socket"
        with connect(url) as socket:
            socket.send("a")
            assert socket.recv(20) == "a"
            chain.replace(new, hurry=True)
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(20)
            assert closed.value.rcvd.code == 1012
        seen.wait_for("closed")
        chain.until_only_one_is_left()
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


@pytest.mark.waits
def test_another_endless_response_is_cancelled_after_the_grace_of_a_reload(caplog):
    seen = Seen()
    with Chain(starlette_app(seen)) as chain, httpx.Client(base_url=chain.url, timeout=30) as client:
        with client.stream("GET", "/other") as answer:
            parts = answer.iter_bytes()
            next(parts)
            chain.replace(new, hurry=True)
            chain.until_only_one_is_left()
            with pytest.raises(httpx.RemoteProtocolError):  # cut off, and the client knows
                for _ in parts:
                    pass
        seen.wait_for("closed")
    assert "Cancelled: GET /other" in caplog.text


def test_clients_keep_their_connection_over_many_replacements():
    seen = Seen()
    with Chain(starlette_app(seen)) as chain, httpx.Client(base_url=chain.url, timeout=30) as client:
        ports = set()
        for hurry in [False, True] * 5:
            answer = client.get("/")
            assert answer.text == "old"
            assert "connection" not in answer.headers
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            chain.replace(hurry=hurry)
        assert len(ports) == 1


def test_an_application_ends_its_streams_and_websockets_when_pounce_draining_says_so():
    library("starlette")
    from starlette.applications import Starlette
    from starlette.responses import StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    async def stream(request):
        draining = request.scope["extensions"]["pounce.draining"]

        async def each():
            while not draining.is_set():
                yield "data: 1\n\n"
                await asyncio.sleep(0.01)
            yield "retry: 1\n\n"

        return StreamingResponse(each(), media_type="text/event-stream")

    async def socket(websocket):
        await websocket.accept()
        await websocket.scope["extensions"]["pounce.draining"].wait()
        await websocket.send_text("moving")
        await websocket.close(4000, "come back")

    app = Starlette(routes=[Route("/events", stream), WebSocketRoute("/socket", socket)])
    with Chain(app, timeout_websocket_drain=20) as chain, httpx.Client(base_url=chain.url, timeout=30) as client:
        with client.stream("GET", "/events") as answer, connect(chain.url.replace("http", "ws") + "/socket") as socket:
            lines = answer.iter_lines()
            next(lines)
            chain.replace(new)
            assert [line for line in lines if line][-1] == "retry: 1"
            assert socket.recv(20) == "moving"
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(20)
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "come back")
        chain.until_only_one_is_left()


def ask(socket, text):
    socket.send(text)
    return socket.recv(20)


def closed_with(socket):
    """Reads to the end of a WebSocket; its code."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            socket.recv(30)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


@pytest.mark.parametrize("workers", ["1", "2"])
def test_timeout_websocket_drain_keeps_websockets_open_after_sigterm_and_then_closes_them_1012(workers):
    library("fastapi")
    with Running("sockets:app", "--port", "0", "--workers", workers, "--timeout-websocket-drain", "2") as server:
        url = server.url.replace("http", "ws") + "/echo"
        with connect(url) as one, connect(url) as two:
            assert [ask(one, "a"), ask(two, "a")] == ["a", "a"]
            server.send_signal(signal.SIGTERM)
            server.wait_for("Waiting for connections to close")
            assert [ask(one, "b"), ask(two, "b")] == ["b", "b"]
            assert [closed_with(one), closed_with(two)] == [1012, 1012]
        assert server.end() in (0, 143)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_timeout_websocket_drain_keeps_websockets_open_over_a_restart_by_sighup(kind):
    library("fastapi")
    arguments = ("--workers", "2", "--worker-kind", kind, "--timeout-websocket-drain", "3")
    with Running("sockets:app", "--port", "0", *arguments) as server:
        url = server.url.replace("http", "ws") + "/echo"
        with connect(url) as old:
            assert ask(old, "a") == "a"
            server.send_signal(signal.SIGHUP)
            server.wait_for("The workers have been replaced.")
            assert ask(old, "b") == "b"
            with connect(url) as new:
                assert ask(new, "c") == "c"
                assert closed_with(old) == 1012
                assert ask(new, "d") == "d"
        assert server.stop() in (0, 143)


@pytest.mark.parametrize("workers", ["1", "3"])
def test_worker_threads_that_sighup_replaces_hand_their_connections_over(workers):
    arguments = ("--workers", workers, "--worker-kind", "thread")
    with Running("plain:app", "--port", "0", *arguments) as server, httpx.Client(base_url=server.url) as client:
        ports = set()
        for count in range(1, 6):
            ports.add(client.get("/echo").extensions["network_stream"].get_extra_info("client_addr"))
            server.send_signal(signal.SIGHUP)
            server.wait_for("The workers have been replaced.", count=count)
            assert "connection" not in client.get("/echo").headers
        assert len(ports) == 1
        assert server.stop() == 143
