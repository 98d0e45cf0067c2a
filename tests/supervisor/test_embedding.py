"""The server inside somebody else's program: in a running loop, at sockets that were opened there."""

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


def test_serve_in_a_running_loop_until_it_is_told_to_end():
    async def main():
        running = server()
        task = asyncio.create_task(running.serve())
        assert await answer(running) == (200, b"hello")
        running.should_exit = True
        await task

    asyncio.run(main())
    assert events == ["shutdown"]


def test_cancelling_serve_ends_it_in_order():
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


def test_a_start_that_fails_is_raised_by_serve():
    async def main():
        with pytest.raises(SystemExit) as ended:
            await server(broken).serve()
        assert ended.value.code == 3

    asyncio.run(main())


def test_ctrl_c_ends_serve_and_is_raised_again():
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


def test_sockets_stay_the_callers():
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


def test_fd_is_duplicated():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        with TestServer(app, fd=sock.fileno()):
            assert get(sock.getsockname()) == (200, b"hello")
        assert sock.getsockname()[1]
