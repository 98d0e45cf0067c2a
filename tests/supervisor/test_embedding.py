"""The server inside another program: in a running asyncio loop, at sockets that the program has opened."""

import asyncio
import os
import signal
import socket

import pytest

import pounce
from pounce.testing import TestServer
from tests.support.server import get

events: list[str] = []


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        events.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def broken(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


def server(application=app, **options):
    events.clear()
    return pounce.Server(pounce.Config(application, port=0, log_config=None, **options))


async def answer(running):
    assert await asyncio.to_thread(running.wait_started, 20)
    return await asyncio.to_thread(get, running.addresses[0])


def test_serve_in_a_running_asyncio_loop_ends_by_should_exit():
    async def main():
        running = server()
        task = asyncio.create_task(running.serve())
        assert await answer(running) == (200, b"hello")
        running.should_exit = True
        await task

    asyncio.run(main())
    assert events == ["shutdown"]


def test_serve_cancelled_shuts_the_application_down_and_closes_its_sockets():
    async def main():
        running = server()
        task = asyncio.create_task(running.serve())
        assert await answer(running) == (200, b"hello")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert events == ["shutdown"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(running.addresses[0], timeout=5)

    asyncio.run(main())


def test_serve_raises_systemexit_3_where_lifespan_startup_fails():
    async def main():
        with pytest.raises(SystemExit) as ended:
            await server(broken).serve()
        assert ended.value.code == 3

    asyncio.run(main())


def test_sigint_ends_serve_in_order_and_is_raised_again_as_keyboardinterrupt():
    async def main():
        running = server()
        task = asyncio.create_task(running.serve())
        assert await answer(running) == (200, b"hello")
        os.kill(os.getpid(), signal.SIGINT)
        await task

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert events == ["shutdown"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_serve_sockets_are_open_after_the_server_has_ended():
    with socket.create_server(("127.0.0.1", 0)) as sock:

        async def main():
            running = server()
            task = asyncio.create_task(running.serve(sockets=[sock]))
            assert await asyncio.to_thread(running.wait_started, 20)
            assert await asyncio.to_thread(get, sock.getsockname()) == (200, b"hello")
            running.should_exit = True
            await task

        asyncio.run(main())
        assert sock.getsockname()[1]


def test_fd_is_duplicated_and_open_after_the_server_has_ended():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        with TestServer(app, fd=sock.fileno()):
            assert get(sock.getsockname()) == (200, b"hello")
        assert sock.getsockname()[1]
