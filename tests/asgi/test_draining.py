"""`scope["extensions"]["pounce.draining"]`: how an application learns that its worker drains."""

import asyncio
import copy
import threading

import pytest

import pounce
from pounce.testing import TestServer
from tests.support.answers import content_of
from tests.support.applications import body, hello, start
from tests.support.harness import Rig
from tests.support.requests import CLOSE, GET
from tests.support.server import ask


async def waiting(scope, receive, send):
    draining = scope["extensions"]["pounce.draining"]
    assert not draining.is_set()
    await draining.wait()
    assert draining.is_set()
    await send(start())
    await send(body(b"drained"))


@pytest.mark.parametrize("order", ["stop", "retire"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_wait_returns_when_the_worker_drains(order, version):
    rig = Rig(waiting)
    clients = [rig.connect() for _ in range(3)]
    for client in clients:
        client.send(GET.replace(b"1.1", version))
    rig.wait(1)
    assert [client.read() for client in clients] == [b""] * 3
    getattr(rig.worker, order)()
    assert [content_of(client.read()) for client in clients] == [b"drained"] * 3


def test_wait_returns_at_once_when_the_worker_drains_already():
    async def app(scope, receive, send):
        await pounce.sleep(1)
        draining = scope["extensions"]["pounce.draining"]
        await draining.wait()
        await draining.wait()
        await hello(scope, receive, send)

    rig = Rig(app)
    client = rig.connect()
    client.send(GET)
    rig.worker.stop()
    rig.wait(1.1)
    assert content_of(client.read()) == b"hello"


def test_all_requests_of_a_worker_have_the_same_object_and_a_wait_that_is_cancelled_leaves_nothing():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["extensions"]["pounce.draining"])
        await seen[-1].wait()

    rig = Rig(app, timeout_request=1)
    client = rig.connect()
    for _ in range(2):
        client.send(GET)
        rig.wait(1.1)
    assert seen[0] is seen[1]
    assert not seen[0]._waits


def test_an_event_stream_of_a_plain_application_ends_between_two_events():
    async def app(scope, receive, send):
        draining = scope["extensions"]["pounce.draining"]
        await send(start(200, (b"content-type", b"text/event-stream")))
        while not draining.is_set():
            await send(body(b"data: 1\n\n", more=True))
            await pounce.sleep(1)
        await send(body(b"retry: 1\n\n"))

    rig = Rig(app)
    client = rig.connect()
    first = client.ask(GET)
    rig.worker.retire()
    rig.wait(1)
    assert (first + client.read()).endswith(b"a\r\nretry: 1\n\n\r\n0\r\n\r\n")


def test_another_thread_with_a_loop_of_its_own_waits_for_it():
    heard, waits = threading.Event(), threading.Event()

    async def app(scope, receive, send):
        draining = scope["extensions"]["pounce.draining"]

        async def elsewhere():
            asyncio.get_running_loop().call_soon(waits.set)
            await draining.wait()
            heard.set()

        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()
        await pounce.to_thread(waits.wait, 20)
        await hello(scope, receive, send)
        await pounce.to_thread(thread.join, 20)

    with TestServer(app, lifespan="off") as server:
        assert ask((server.host, server.port), CLOSE).endswith(b"hello")
        assert not heard.is_set()
    assert heard.is_set()


def test_wait_with_asyncio_can_be_one_of_several_things_that_are_waited_for():
    async def app(scope, receive, send):
        draining = scope["extensions"]["pounce.draining"]
        async with asyncio.timeout(20):
            _, pending = await asyncio.wait(
                [asyncio.ensure_future(draining.wait()), asyncio.ensure_future(asyncio.sleep(0))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        assert not draining._waits
        await hello(scope, receive, send)

    with TestServer(app, lifespan="off") as server:
        assert ask((server.host, server.port), CLOSE).endswith(b"hello")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_scope_that_is_copied_leads_to_the_same_object(copied):
    async def app(scope, receive, send):
        await waiting(copied(scope), receive, send)

    rig = Rig(app)
    client = rig.connect()
    client.send(GET)
    rig.worker.stop()
    assert content_of(client.read()) == b"drained"
