"""`receive` and `send` called on other threads than the one that owns the connection."""

import asyncio
import sys
import threading

import pytest
from websockets.sync.client import connect

import pounce
import pounce.aio.bridge  # as a server does whose application has imported asyncio
from pounce.errors import ClientDisconnected
from pounce.kernel.loop import Loop
from pounce.kernel.task import spawn
from tests.support.harness import Rig
from tests.support.requests import GET
from tests.support.requirements import library
from tests.support.server import Running

MESSAGES = 200


def test_fastapis_chat_on_four_threads_delivers_every_message_to_every_client():
    """From whichever of four threads it is broadcast, and in the order of each sender."""
    library("fastapi")
    with Running("chat:app", "--port", "0", "--threads", "4", "--worker-kind", "thread") as server:
        host, port = server.address
        clients, threads = [], set()
        while len(clients) < 6 or len(threads) < 2:
            clients.append(connect(f"ws://{host}:{port}/ws/{len(clients)}", max_queue=None).__enter__())
            threads.add(clients[-1].recv(30))
        wanted = [f"Client #{number} says: {count}" for number in range(len(clients)) for count in range(MESSAGES)]
        got = [[] for _ in clients]

        def talk(client):
            for count in range(MESSAGES):
                client.send(str(count))

        def listen(client, heard):
            while len(heard) < len(wanted):
                heard.append(client.recv(30))

        jobs = [threading.Thread(target=talk, args=(client,)) for client in clients]
        jobs += [threading.Thread(target=listen, args=pair) for pair in zip(clients, got, strict=True)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join(60)
        for heard in got:
            assert sorted(heard) == sorted(wanted)
            for number in range(len(clients)):
                own = [line for line in heard if line.startswith(f"Client #{number} ")]
                assert own == wanted[number * MESSAGES : (number + 1) * MESSAGES]
        for client in clients:
            client.close()
        server.stop()
        assert "ERROR" not in server.log
        assert "Traceback" not in server.log


class Elsewhere:
    """A thread of the application's own."""

    def __init__(self, function):
        self.result = self.error = None
        self._function = function
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self.result = self._function()
        except BaseException as error:
            self.error = error

    @property
    def over(self):
        return not self._thread.is_alive()

    def join(self, rig):
        """Lets the worker's loop turn until the thread is over."""
        while not self.over:
            rig.loop.turn(0.01)
        self._thread.join()


def with_asyncio(coroutine):
    return asyncio.run(coroutine)


def with_the_kernel(coroutine):
    """As another worker without asyncio drives its coroutines."""
    loop, ends = Loop(), []
    spawn(loop, coroutine, lambda value, error: ends.append((value, error)))
    while not ends:
        loop.turn(1)
    loop.close()
    ((value, error),) = ends
    if error is not None:
        raise error
    return value


class Held:
    """An application that leaves `receive` and `send` to others."""

    def __init__(self):
        self.over = False

    async def __call__(self, scope, receive, send):
        self.receive, self.send = receive, send
        while not self.over:
            await pounce.sleep(0.01)


def begun():
    app = Held()
    rig = Rig(app)
    client = rig.connect()
    return app, rig, client


@pytest.fixture(autouse=True)
def _threads_take_turns_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("drive", [with_asyncio, with_the_kernel])
def test_send_from_another_thread_makes_a_whole_response(drive):
    app, rig, client = begun()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    seen = []

    async def answer():
        owner = rig.worker.cross_thread.thread
        assert threading.get_ident() != owner
        message = await app.receive()
        seen.append(threading.get_ident() != owner)
        await app.send({"type": "http.response.start", "status": 200})
        for _ in range(30):
            await app.send({"type": "http.response.body", "body": message["body"] * 100, "more_body": True})
        await app.send({"type": "http.response.body"})
        app.over = True
        return message

    there = Elsewhere(lambda: drive(answer()))
    there.join(rig)
    assert there.error is None
    assert there.result == {"type": "http.request", "body": b"hello", "more_body": False}
    assert seen == [True]
    got = client.read()
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert got.endswith(b"0\r\n\r\n")
    assert got.count(b"hello") == 3_000


@pytest.mark.parametrize("drive", [with_asyncio, with_the_kernel])
def test_send_from_another_thread_waits_while_the_client_does_not_read(drive):
    app, rig, client = begun()
    client.send(GET)
    sent = []

    async def answer():
        await app.send({"type": "http.response.start", "status": 200})
        for _ in range(100):
            await app.send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent.append(1)
        await app.send({"type": "http.response.body"})

    there = Elsewhere(lambda: drive(answer()))
    while rig.worker.exchanges and not any(exchange._writers for exchange in rig.worker.exchanges):
        rig.loop.turn(0.01)
    assert len(sent) < 50
    content = b""
    while not there.over:
        content += client.read()
    content += client.read()
    assert there.error is None
    assert content.count(b"x") == 100 * 65536


@pytest.mark.parametrize("drive", [with_asyncio, with_the_kernel])
def test_send_raises_on_the_thread_that_called_it(drive):
    app, rig, client = begun()
    client.send(GET)
    there = Elsewhere(lambda: drive(app.send({"type": "nonsense"})))
    there.join(rig)
    assert "'nonsense' cannot be sent now" in str(there.error)
    client.close()

    async def go_on():
        await app.send({"type": "http.response.start", "status": 200})
        while True:
            await app.send({"type": "http.response.body", "body": b"x", "more_body": True})

    there = Elsewhere(lambda: drive(go_on()))
    there.join(rig)
    assert type(there.error) is ClientDisconnected


@pytest.mark.parametrize("drive", [with_asyncio, with_the_kernel])
def test_send_after_the_worker_has_ended_raises_client_disconnected(drive):
    app, rig, client = begun()
    client.send(GET)
    waiting = Elsewhere(lambda: drive(twice(app.receive)))
    while not any(exchange._readers for exchange in rig.worker.exchanges):
        rig.loop.turn(0.01)
    rig.worker.cross_thread.end()  # as at the end of `Worker.run`
    waiting._thread.join(30)
    assert type(waiting.error) is ClientDisconnected
    late = Elsewhere(lambda: drive(app.receive()))
    late._thread.join(30)
    assert type(late.error) is ClientDisconnected
    rig.loop.close()
    later = Elsewhere(lambda: drive(app.receive()))
    later._thread.join(30)
    assert type(later.error) is ClientDisconnected


async def twice(receive):
    await receive()
    return await receive()


def test_receive_that_is_cancelled_on_another_thread_loses_no_message():
    """It is cancelled when the message has been taken for it and is on its way."""
    app, rig, client = begun()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    parked, go_on = threading.Event(), threading.Event()

    async def ask():
        call = asyncio.ensure_future(app.receive())
        await asyncio.sleep(0)
        parked.set()
        go_on.wait(30)  # the loop of this thread takes nothing in
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        return await app.receive()

    there = Elsewhere(lambda: with_asyncio(ask()))
    while not parked.is_set() or not any(exchange._readers for exchange in rig.worker.exchanges):
        rig.loop.turn(0.01)
    client.send(b"hello")
    rig.turn()
    go_on.set()
    there.join(rig)
    assert there.error is None
    assert there.result == {"type": "http.request", "body": b"hello", "more_body": False}


def test_send_that_is_cancelled_on_another_thread_leaves_the_stream_whole():
    app, rig, client = begun()
    client.send(GET)

    async def answer():
        await app.send({"type": "http.response.start", "status": 200})
        for _ in range(40):
            part = {"type": "http.response.body", "body": b"x" * 65536, "more_body": True}
            try:
                await asyncio.wait_for(app.send(part), 0.001)
            except TimeoutError:
                continue
        await app.send({"type": "http.response.body"})

    there = Elsewhere(lambda: with_asyncio(answer()))
    content = b""
    while not there.over:
        rig.loop.turn(0.01)
        if any(exchange._writers for exchange in rig.worker.exchanges):
            content += client.read()
    content += client.read()
    assert there.error is None
    chunks = content.partition(b"\r\n\r\n")[2]
    while (size := int(chunks[: chunks.index(b"\r\n")], 16)) > 0:
        assert chunks[7 : 7 + size] == b"x" * 65536
        chunks = chunks[7 + size + 2 :]
    assert chunks == b"0\r\n\r\n"


def test_lifespan_may_be_answered_by_another_thread():
    async def app(scope, receive, send):
        assert scope["type"] == "lifespan"

        async def answer():
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})

        there.append(Elsewhere(lambda: with_asyncio(answer())))
        await pounce.sleep(1000)

    there = []
    rig = Rig(app, lifespan="on")
    there[0].join(rig)
    assert there[0].error is None
    rig.turn()
    assert rig.worker.state.value in ("ready", "serving")  # when the thread was quick
