"""What applications do with event loops, threads and processes: one path for each, whose answer is "ok"."""

import asyncio
import concurrent.futures
import contextvars
import multiprocessing
import subprocess
import sys
import tempfile
import threading
import warnings

things = {}
var = contextvars.ContextVar("var", default=None)
SPAWN = multiprocessing.get_context("spawn")
SAYS_HI = (sys.executable, "-S", "-c", "print('hi')")


def thing(function):
    things["/" + function.__name__] = function
    return function


def in_thread(function):
    """Awaits `function` on a thread that no library has started."""
    future = concurrent.futures.Future()

    def run():
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run).start()
    return asyncio.wrap_future(future)


async def soon():
    await asyncio.sleep(0.01)
    return "soon"


# Loops on other threads


@thing
async def run_in_a_helper():
    assert await asyncio.to_thread(lambda: asyncio.run(soon())) == "soon"


@thing
async def runner_in_a_helper():
    def twice():
        with asyncio.Runner() as runner:
            return [runner.run(soon()) for _ in range(2)]

    assert await asyncio.to_thread(twice) == ["soon", "soon"]


@thing
async def run_in_a_thread():
    assert await in_thread(lambda: asyncio.run(soon())) == "soon"


@thing
async def new_loop_in_a_thread():
    def run():
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(soon())
        finally:
            loop.close()

    assert await in_thread(run) == "soon"


@thing
async def loop_of_its_own_in_the_background():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    assert await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(soon(), loop)) == "soon"
    loop.call_soon_threadsafe(loop.stop)
    await asyncio.to_thread(thread.join)
    loop.close()


@thing
async def call_back_from_a_helper():
    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(soon(), loop).result(20)) == "soon"


@thing
async def get_event_loop():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.get_event_loop_policy()
    assert asyncio.get_event_loop() is asyncio.get_running_loop()


@thing
async def a_thread_has_no_loop():
    def ask():
        try:
            asyncio.get_event_loop()
        except RuntimeError:
            return "none"

    assert await in_thread(ask) == await asyncio.to_thread(ask) == "none"


@thing
async def a_loop_within_a_task_is_refused():
    loop = asyncio.new_event_loop()
    for run in (asyncio.run, loop.run_until_complete, asyncio.get_running_loop().run_until_complete):
        coroutine, refusal = soon(), ""
        try:
            run(coroutine)
        except RuntimeError as error:
            refusal = str(error)
        coroutine.close()
        assert "running" in refusal
    loop.close()


# The loop and its tasks


@thing
async def all_tasks():
    task = asyncio.current_task()
    assert task in asyncio.all_tasks()
    assert "pounce" not in {each.get_name() for each in asyncio.all_tasks()}


@thing
async def eager_task_factory():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        assert await asyncio.shield(asyncio.create_task(soon())) == "soon"
    finally:
        loop.set_task_factory(None)


@thing
async def call_graph():
    if sys.version_info >= (3, 14):
        assert "call_graph" in asyncio.format_call_graph(asyncio.current_task())


@thing
async def executor_of_its_own():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert await asyncio.get_running_loop().run_in_executor(pool, abs, -3) == 3


@thing
async def unix_socket():
    async def say(reader, writer):
        writer.write(b"hi")
        await writer.drain()
        writer.close()

    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.start_unix_server(say, folder + "/socket")
        reader, writer = await asyncio.open_unix_connection(folder + "/socket")
        assert await reader.read() == b"hi"
        writer.close()
        server.close()
        await server.wait_closed()


# Processes


@thing
async def subprocess_exec():
    process = await asyncio.create_subprocess_exec(*SAYS_HI, stdout=subprocess.PIPE)
    assert await process.communicate() == (b"hi\n", None)
    assert process.returncode == 0


@thing
async def subprocess_shell():
    process = await asyncio.create_subprocess_shell("exit 3")
    assert await process.wait() == 3


@thing
async def subprocess_killed():
    process = await asyncio.create_subprocess_exec("sleep", "600")
    process.kill()
    assert await process.wait() == -9


@thing
async def subprocess_of_a_helpers_loop():
    async def run():
        process = await asyncio.create_subprocess_exec("echo", "hi", stdout=subprocess.PIPE)
        return (await process.communicate())[0]

    assert await asyncio.to_thread(lambda: asyncio.run(run())) == b"hi\n"


@thing
async def subprocess_run_in_a_helper():
    assert (await asyncio.to_thread(subprocess.run, ["sh", "-c", "exit 3"])).returncode == 3


@thing
async def process_pool():
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        assert await asyncio.get_running_loop().run_in_executor(pool, int, "3") == 3


@thing
async def multiprocessing_queue():
    queue = SPAWN.Queue()
    queue.put(1)
    assert await asyncio.to_thread(queue.get) == 1
    queue.close()


# anyio


@thing
async def anyio_from_thread():
    import anyio.from_thread

    assert await anyio.to_thread.run_sync(anyio.from_thread.run, soon) == "soon"
    assert await anyio.to_thread.run_sync(anyio.from_thread.run_sync, abs, -3) == 3


@thing
async def anyio_portal():
    import anyio.from_thread

    async with anyio.from_thread.BlockingPortal() as portal:
        assert await asyncio.to_thread(portal.call, soon) == "soon"


@thing
async def anyio_portal_of_its_own():
    import anyio.from_thread

    def call():
        with anyio.from_thread.start_blocking_portal() as portal:
            return portal.call(soon)

    assert await in_thread(call) == "soon"


@thing
async def anyio_run_in_a_helper():
    import anyio

    assert await asyncio.to_thread(anyio.run, soon) == "soon"


@thing
async def anyio_scopes():
    import anyio

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.01)
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(600)
    assert scope.cancelled_caught


@thing
async def anyio_process():
    import anyio

    assert (await anyio.run_process(["echo", "hi"])).stdout == b"hi\n"


@thing
async def anyio_to_process():
    import anyio.to_process

    assert await anyio.to_process.run_sync(int, "3") == 3


# asgiref


@thing
async def asgiref_there_and_back():
    from asgiref.sync import async_to_sync, sync_to_async

    var.set("here")

    def back():
        assert var.get() == "here"
        return async_to_sync(soon)()

    assert await sync_to_async(back)() == "soon"
    assert await sync_to_async(back, thread_sensitive=False)() == "soon"


@thing
async def asgiref_nested():
    from asgiref.sync import async_to_sync, sync_to_async

    async def inner():
        return await sync_to_async(lambda: async_to_sync(soon)())()

    assert await sync_to_async(lambda: async_to_sync(inner)())() == "soon"


@thing
async def asgiref_in_a_thread():
    from asgiref.sync import async_to_sync

    assert await in_thread(lambda: async_to_sync(soon)()) == "soon"
    assert await asyncio.to_thread(lambda: async_to_sync(soon)()) == "soon"


@thing
async def asgiref_thread_of_a_context():
    from asgiref.sync import ThreadSensitiveContext, sync_to_async

    async with ThreadSensitiveContext():
        first = await sync_to_async(threading.get_ident)()
        assert first == await sync_to_async(threading.get_ident)()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await asyncio.wait_for(things[scope["path"]](), 60)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ok"})
