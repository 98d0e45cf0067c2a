"""What worker threads share of an application that holds objects of one event loop, and what each has for itself."""

import json
import os
import textwrap

import pytest

from pounce.testing import TestServer
from tests.app.modules import on_threads, serve
from tests.support.server import Running, get


@on_threads
def test_one_register_one_log_line_and_one_signal_handler_for_four_threads(write):
    project = write(
        main="""
            import asyncio, json, logging, multiprocessing, signal, concurrent.futures
            from register import Metric, Model, Router
            lock = asyncio.Lock()
            class Hero(Model): pass
            requests = Metric("requests")
            logging.getLogger("shop").addHandler(logging.StreamHandler())
            signal.signal(signal.SIGUSR1, lambda *_: None)
            pool = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            def square(number): return number * number
            app = Router()
            @app.route("/")
            @requests.count
            async def index():
                async with lock:
                    logging.getLogger("shop").warning("request %d", requests.value)
                    result = await asyncio.get_running_loop().run_in_executor(pool, square, 3)
                return json.dumps([id(lock), id(Hero), requests.value, result])
        """
    )
    with serve(project, "--threads", "4") as server:
        answers = [json.loads(get(server.address)[1]) for _ in range(40)]
        assert len({lock for lock, *_ in answers}) == 4
        assert len({hero for _, hero, *_ in answers}) == 1
        assert sorted(count for _, _, count, _ in answers) == list(range(1, 41))
        assert {result for *_, result in answers} == {9}
        assert server.stop() == 143
        assert sum(line.startswith("request ") for line in server.lines) == 40
        assert "Traceback" not in server.log


@on_threads
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "class Hero(Model):\n    async def save(self):\n        async with lock: pass\n",
            "main.lock (asyncio.Lock) belongs to one event loop, and what leads to it cannot be executed twice: "
            "ValueError: Hero is there already",
        ),
        (
            "register('lock', lock)\n",
            "register.known holds an asyncio.Lock, which belongs to one event loop, and libraries are shared",
        ),
    ],
)
@pytest.mark.parametrize("when", ["import", "lifespan"])
def test_workers_are_processes_where_no_copy_can_be_made(write, source, reason, when):
    made = "lock = asyncio.Lock()\n" + source
    if when == "lifespan":
        made = (source if source.startswith("class") else "") + "lock = None\n"
    project = write(main="")
    (project / "main.py").write_text(
        "import asyncio, os\nfrom register import Model, register\n"
        + made
        + textwrap.dedent(f"""
            async def app(scope, receive, send):
                global lock
                if scope["type"] == "lifespan":
                    await receive()
                    if {when == "lifespan"}:
                        lock = asyncio.Lock()
                        if {source.startswith("register")}: register("lock", lock)
                    await send({{"type": "lifespan.startup.complete"}})
                    await receive()
                    print("shut down", flush=True)
                    await send({{"type": "lifespan.shutdown.complete"}})
                    return
                async with lock: pass
                await send({{"type": "http.response.start", "status": 200}})
                await send({{"type": "http.response.body", "body": str(os.getpid()).encode()}})
        """)
    )
    with serve(project, "--threads", "2") as server:
        assert f"Workers will be processes, because {reason}." in server.log
        assert "2 worker processes, because the application needs it" in server.log
        assert len({get(server.address)[1] for _ in range(40)}) == 2
        assert server.stop() == 0
        assert server.log.count("shut down") == (3 if when == "lifespan" or source.startswith("class") else 2)
        assert "Traceback" not in server.log


ONCE = """
    import asyncio, os, pathlib
    from register import register
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            FAIL
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


WAYS = {
    "raise": "register('the only one')",
    "tell": """try: register('the only one')
            except ValueError as error:
                await send({"type": "lifespan.startup.failed", "message": f"ValueError: {error}"})
                return""",
}


@on_threads
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lifespan", ["auto", "on"])
def test_workers_are_processes_where_the_application_starts_on_one_thread_only(write, way, lifespan):
    project = write(main=ONCE.replace("FAIL", WAYS[way]))
    with serve(project, "--threads", "4", "--lifespan", lifespan) as server:
        assert "Workers will be processes, because it starts on one worker thread and not on worker " in server.log
        assert ": ValueError: the only one is there already." in server.log
        assert len({get(server.address)[1] for _ in range(80)}) > 1
        assert server.stop() == 0
        assert "Traceback" not in server.log
        assert "ERROR" not in server.log


@on_threads
def test_an_application_that_starts_nowhere_ends_the_server_3_with_one_traceback(write):
    project = write(main=ONCE.replace("FAIL", "raise ZeroDivisionError('nowhere')"))
    with Running("main:app", "--port", "0", "--threads", "4", "--lifespan", "on", cwd=project, ready=False,
                 env={"PYTHONPATH": "../site-packages"}) as server:  # fmt: skip
        assert server.end() == 3
        assert server.log.count("Traceback") == 1
        assert "processes" not in server.log


@on_threads
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")
def test_a_server_in_a_program_continues_with_processes(write):
    write(main=ONCE.replace("FAIL", WAYS["raise"]))
    with TestServer("main:app", threads=2) as server:
        pids = {int(get((server.host, server.port))[1]) for _ in range(60)}
    assert len(pids) == 2
    assert os.getpid() not in pids


@on_threads
def test_what_a_lifespan_sets_on_the_application_is_each_workers_own(write):
    project = write(
        main="""
            import contextlib, threading
            from starlette.applications import Starlette
            from starlette.responses import PlainTextResponse
            from starlette.routing import Route
            from register import Model
            class Hero(Model): pass
            @contextlib.asynccontextmanager
            async def lifespan(app):
                app.state.thread = threading.current_thread().name
                yield
                print(f"closed {app.state.thread == threading.current_thread().name}", flush=True)
                del app.state.thread
            async def index(request):
                return PlainTextResponse(f"{request.app.state.thread} {threading.current_thread().name}")
            app = Starlette(lifespan=lifespan)
            app.add_route("/", index)
        """
    )
    with serve(project, "--threads", "3") as server:
        assert (
            "3 copies of main, because each worker's lifespan sets its state; everything else is shared" in server.log
        )
        answers = {get(server.address)[1] for _ in range(60)}
        assert answers == {f"pounce-worker-{number} pounce-worker-{number}".encode() for number in (1, 2, 3)}
        server.stop()
        assert server.log.count("closed True") == 3
        assert "Traceback" not in server.log
