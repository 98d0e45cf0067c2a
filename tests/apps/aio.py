"""What applications do with asyncio, one path for each thing. Answers "ok", or 500 with the reason in the log."""

import asyncio
import contextlib
import contextvars
import os
import socket
import ssl
import sys
import threading
import time
import uuid

things = {}
variable = contextvars.ContextVar("variable", default="unset")
finalised = []


def thing(function):
    things["/" + function.__name__] = function
    return function


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    await things[scope["path"]](scope, receive)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ok"})


async def lifespan(scope, receive, send):
    await receive()
    scope["state"]["loop"] = asyncio.get_running_loop()
    background = asyncio.create_task(asyncio.sleep(1e6))

    async def forgotten():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            sys.stdout.write("generator closed\n")

    generator = forgotten()
    await anext(generator)
    scope["state"]["generator"] = generator
    scope["state"]["background"] = background
    await send({"type": "lifespan.startup.complete"})
    await receive()
    background.add_done_callback(lambda task: sys.stdout.write(f"background cancelled: {task.cancelled()}\n"))
    await send({"type": "lifespan.shutdown.complete"})


@thing
async def the_loop(scope, receive):
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert loop is scope["state"]["loop"]  # the request runs where its lifespan did
    task = asyncio.current_task()
    assert isinstance(task, asyncio.Task)
    assert task in asyncio.all_tasks()
    assert asyncio.get_event_loop() is loop


@thing
async def sleep(scope, receive):
    before = time.monotonic()
    await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    assert time.monotonic() - before >= 0.02


@thing
async def wait_for(scope, receive):
    assert await asyncio.wait_for(asyncio.sleep(0.001, "x"), 5) == "x"
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(100), 0.01)
        raise AssertionError


@thing
async def timeout(scope, receive):
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(100)
    except TimeoutError:
        return
    raise AssertionError


@thing
async def task_group(scope, receive):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(0.001, number)) for number in range(5)]
    assert [task.result() for task in tasks] == list(range(5))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(100))
            raise ZeroDivisionError
    except* ZeroDivisionError:
        pass


@thing
async def gather(scope, receive):
    assert await asyncio.gather(*(asyncio.sleep(0.001, number) for number in range(5))) == list(range(5))


@thing
async def queue_lock_event(scope, receive):
    queue, lock, event = asyncio.Queue(1), asyncio.Lock(), asyncio.Event()

    async def producer():
        for number in range(5):
            async with lock:
                await queue.put(number)
        event.set()

    task = asyncio.create_task(producer())
    assert [await queue.get() for _ in range(5)] == list(range(5))
    await event.wait()
    await task


@thing
async def threads(scope, receive):
    variable.set("inherited")
    assert await asyncio.to_thread(variable.get) == "inherited"
    ident = await asyncio.get_running_loop().run_in_executor(None, threading.get_ident)
    assert ident != threading.get_ident()


@thing
async def subprocess(scope, receive):
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    out, _ = await process.communicate(b"through a cat")
    assert (out, process.returncode) == (b"through a cat", 0)
    process = await asyncio.create_subprocess_shell("exit 3")
    assert await process.wait() == 3


@thing
async def tcp(scope, receive):
    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()


@thing
async def unix(scope, receive):
    path = f"/tmp/pounce-test-{uuid.uuid4().hex}.sock"

    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_unix_server(echo, path)
    try:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
    finally:
        server.close()
        await server.wait_closed()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


@thing
async def tls(scope, receive):
    folder = os.environ["POUNCE_TEST_CERTIFICATE"]
    ours, theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    ours.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    theirs.load_verify_locations(f"{folder}/cert.pem")

    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=ours)
    async with server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port, ssl=theirs, server_hostname="localhost")
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()


@thing
async def datagrams(scope, receive):
    loop = asyncio.get_running_loop()
    got = loop.create_future()

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            got.set_result(data)

    receiver, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
    sender, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=receiver.get_extra_info("sockname")
    )
    sender.sendto(b"hello")
    assert await asyncio.wait_for(got, 5) == b"hello"
    sender.close()
    receiver.close()


@thing
async def readers(scope, receive):
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ready = loop.create_future()
    loop.add_reader(ours, lambda: ready.done() or ready.set_result(None))
    writable = loop.create_future()
    loop.add_writer(theirs, lambda: writable.done() or writable.set_result(None))
    await writable
    loop.remove_writer(theirs)
    theirs.send(b"x")
    await ready
    loop.remove_reader(ours)
    ours.setblocking(False)
    assert await loop.sock_recv(ours, 1) == b"x"
    ours.close()
    theirs.close()


@thing
async def names(scope, receive):
    found = await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    assert found


@thing
async def contexts(scope, receive):
    assert variable.get() == "unset"
    variable.set("mine")
    await asyncio.sleep(0.001)
    assert variable.get() == "mine"

    async def child():
        assert variable.get() == "mine"
        variable.set("the child's")

    await asyncio.create_task(child())
    assert variable.get() == "mine"


@thing
async def foreign_threads(scope, receive):
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    count = 0

    def arrived():
        nonlocal count
        count += 1
        if count == 400:
            done.set()

    def post():
        for _ in range(100):
            loop.call_soon_threadsafe(arrived)

    posters = [threading.Thread(target=post) for _ in range(4)]
    for poster in posters:
        poster.start()
    await asyncio.wait_for(done.wait(), 30)
    for poster in posters:
        poster.join()
    assert await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "x"), loop)) == "x"


@thing
async def nested_run(scope, receive):
    async def inner():
        await asyncio.sleep(0.001)
        return asyncio.get_running_loop()

    other = await asyncio.to_thread(lambda: asyncio.run(inner()))
    assert other is not asyncio.get_running_loop()


@thing
async def task_factory(scope, receive):
    loop, made = asyncio.get_running_loop(), []

    def factory(loop, coroutine, **kwargs):
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    await asyncio.create_task(asyncio.sleep(0.001))
    loop.set_task_factory(before)
    assert made


@thing
async def debug_mode(scope, receive):
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 10
    await asyncio.sleep(0.001)
    loop.set_debug(False)


@thing
async def pounces_own(scope, receive):
    import pounce

    before = time.monotonic()
    await pounce.sleep(0.02)
    assert time.monotonic() - before >= 0.02
    assert await pounce.to_thread(threading.get_ident) != threading.get_ident()
    try:
        async with asyncio.timeout(0.01):
            await pounce.sleep(100)
    except TimeoutError:
        return
    raise AssertionError


@thing
async def cancelled_while_receiving(scope, receive):
    assert (await receive())["type"] == "http.request"
    waiting = asyncio.create_task(receive())
    await asyncio.sleep(0.001)
    waiting.cancel()
    try:
        await waiting
    except asyncio.CancelledError:
        return
    raise AssertionError


@thing
async def anyio_things(scope, receive):
    import anyio
    import anyio.from_thread
    import anyio.to_thread

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.001)
    with anyio.move_on_after(0.01) as moved:
        await anyio.sleep(100)
    assert moved.cancelled_caught
    assert await anyio.to_thread.run_sync(threading.get_ident) != threading.get_ident()

    def in_thread():
        return anyio.from_thread.run(anyio.sleep, 0.001)

    await anyio.to_thread.run_sync(in_thread)
    give, take = anyio.create_memory_object_stream(1)
    async with give, take:
        await give.send("x")
        assert await take.receive() == "x"
    lock = anyio.Lock()
    async with lock, anyio.create_task_group() as group:
        group.cancel_scope.cancel()


@thing
async def broken(scope, receive):
    raise ZeroDivisionError("as asked")


@thing
async def cancelled_by_nobody(scope, receive):
    raise asyncio.CancelledError


@thing
async def awaits_what_was_cancelled(scope, receive):
    task = asyncio.create_task(asyncio.sleep(1e6))
    await asyncio.sleep(0)
    task.cancel()
    await task


@thing
async def exits(scope, receive):
    await asyncio.sleep(0.001)
    raise SystemExit(5)


@thing
async def exits_at_once(scope, receive):
    raise KeyboardInterrupt


@thing
async def stuck(scope, receive):
    await asyncio.sleep(1e6)


@thing
async def stubborn(scope, receive):
    while True:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            continue


@thing
async def busy_executor(scope, receive):
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)
