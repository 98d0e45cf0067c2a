"""What worker threads share of an application that holds objects of one event loop, and what each has for itself."""

import asyncio
import gc
import importlib
import json
import os
import pickle
import sys
import textwrap
import threading

import pytest

from pounce.app.copies import Copies
from pounce.app.modules import ApplicationModules
from pounce.app.reexecution import CannotCopy
from pounce.supervisor.plan import has_gil
from pounce.testing import TestServer
from tests.support.server import Running, get

on_threads = pytest.mark.skipif(has_gil(), reason="workers are processes here: nothing is shared")

# A library that keeps a register, and does not like to be asked twice.
REGISTER = """
    known = {}
    def register(name, value=None):
        if name in known:
            raise ValueError(f"{name} is there already")
        known[name] = value
        return value
    class Metric:
        def __init__(self, name): register(name, self); self.value = 0
        def count(self, function):
            async def counted(*args):
                self.value += 1
                return await function(*args)
            return counted
    class Model:
        def __init_subclass__(cls): register(cls.__name__, cls)
    class Router:
        def __init__(self): self.routes = {}
        def route(self, path):
            def add(function):
                self.routes[path] = function
                return function
            return add
        def by_name(self, function):
            name = f"{function.__module__}.{function.__name__}"
            self.routes.setdefault(name, []).append(1)
            return function
        def include(self, other): self.routes |= other.routes
        async def __call__(self, scope, receive, send):
            if scope["type"] != "http": raise RuntimeError("no lifespan")
            answer = await self.routes[scope["path"]]()
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": str(answer).encode()})
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes modules of an application, and gives it and its `Copies`."""
    library = tmp_path / "site-packages"
    library.mkdir()
    (library / "register.py").write_text(textwrap.dedent(REGISTER))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.syspath_prepend(str(library))
    monkeypatch.syspath_prepend(str(project))
    before = set(sys.modules)
    finders = sys.meta_path

    def write_modules(**modules):
        for name, text in modules.items():
            path = project / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        return project

    yield write_modules
    sys.meta_path = finders
    for name in set(sys.modules) - before:
        del sys.modules[name]


def copies(project, name="main", everything=False):
    module = importlib.import_module(name)
    return Copies(ApplicationModules(str(project)), module.app, everything=everything)


def in_copy(found, expression, first="main"):
    """The value of an expression as a new copy sees it."""
    copy = found.make(first)
    return copy.run(lambda: eval(expression, {name: importlib.import_module(name) for name in (first, "sys")}))


def names(found):
    return {module.__name__: source.copied_names for module, source in found.sources.items()}


def test_only_what_leads_to_the_object_is_copied(write):
    project = write(
        models="""
            from register import Model
            class User(Model): pass
        """,
        db="""
            import asyncio
            from models import User
            pool = asyncio.Queue()
            def session(): return pool
        """,
        settings="limit = 10\n",
        main="""
            import settings
            from db import session
            from models import User
            from register import Metric, Model, Router
            class Order(Model): pass
            total = Metric("total")
            items = {}
            app = Router()
            @app.route("/")
            async def index(): return session()
            @app.route("/other")
            async def other(): return settings.limit
        """,
    )
    found = copies(project)
    assert names(found) == {"db": {"pool", "session"}, "main": {"session", "app", "index", "other"}}
    assert found.reason == "db.pool (asyncio.Queue)"
    copy = found.make("main")
    main, db = importlib.import_module("main"), importlib.import_module("db")
    original = main.app, db.pool, main.Order, main.items, main.total
    app, pool, order, items, total = copy.run(lambda: (main.app, db.pool, main.Order, main.items, main.total))
    assert app is not original[0]
    assert pool is not original[1]
    assert (order, items, total) == original[2:]
    assert asyncio.run(app.routes["/"]()) is pool
    assert asyncio.run(original[0].routes["/"]()) is original[1]


def test_no_object_of_one_copy_is_reached_from_another(write):
    project = write(**{
        "package/__init__": "from package.pool import pool as exported\n",
        "package/pool": """
            import asyncio
            pool = asyncio.Queue()
            class Store:
                def __init__(self): self.pool = pool
                @classmethod
                def make(cls): return cls()
            store = Store.make()
            def dependency(pool=pool): return [store, lambda: pool]
        """,
        "main": """
            import functools
            import package
            from register import Router
            from package.pool import *
            router = Router()
            @router.route("/")
            @functools.lru_cache
            def index(): return dependency(), package.exported
            index()
            app = Router()
            app.include(router)
        """,
    })  # fmt: skip
    found = copies(project)
    queues = []
    for _ in range(3):
        copy = found.make("main")
        reached = reach(copy.run(lambda: importlib.import_module("main").app), set(map(id, found.sources)))
        queues.append({id(thing) for thing in reached if isinstance(thing, asyncio.Queue)})
        assert len(queues[-1]) == 1
    own = {id(importlib.import_module("package.pool").pool)}
    assert len(set.union(own, *queues)) == 4


def reach(thing, stop):
    """Everything that an object refers to, without going through modules."""
    seen = {}
    todo = [thing]
    while todo:
        each = todo.pop()
        assert len(seen) < 1_000_000
        if id(each) in seen or isinstance(each, type(sys)) or each is sys.modules:
            continue
        seen[id(each)] = each
        todo.extend(gc.get_referents(each))
    return seen.values()


def test_a_copy_keeps_its_names(write):
    project = write(
        main="""
            import asyncio, dataclasses, logging, typing
            from register import Router
            lock = asyncio.Lock()
            logger = logging.getLogger(__name__)
            @dataclasses.dataclass
            class Job:
                number: "int"
                other: "Job | None" = None
                async def run(self):
                    async with lock: return self.number
            app = Router()
            @app.route("/")
            async def index(): return Job(1)
        """
    )
    found = copies(project)
    copy = found.make("main")
    main = importlib.import_module("main")
    job = asyncio.run(copy.run(lambda: main.app).routes["/"]())
    assert type(job) is not main.Job
    assert type(job).__module__ == main.__name__ == copy.run(lambda: main.__name__) == "main"
    assert copy.run(lambda: pickle.loads(pickle.dumps(job))) == job
    import typing

    assert copy.run(lambda: typing.get_type_hints(type(job))) == {"number": int, "other": type(job) | None}
    assert typing.get_type_hints(main.Job)["other"] == main.Job | None
    assert copy.run(lambda: vars(main)["Job"]) is type(job)
    assert vars(main)["Job"] is main.Job
    assert copy.run(lambda: main.logger) is main.logger is __import__("logging").getLogger("main")


def test_what_a_library_registers_stays_registered_once(write):
    project = write(
        main="""
            import asyncio, logging, signal
            from register import Metric, Model, Router, register
            lock = asyncio.Lock()
            handler = logging.NullHandler()
            logging.getLogger("test.sharing").addHandler(handler)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            requests = Metric("requests")
            app = Router()
            if True:
                errors = Metric("errors")
                @app.route("/errors")
                async def show(): return errors.value
            @app.route("/")
            @requests.count
            async def index():
                async with lock: return requests.value
        """
    )
    found = copies(project)
    main = importlib.import_module("main")
    apps = [main.app, *(found.make("main").run(lambda: main.app) for _ in range(3))]
    assert [asyncio.run(app.routes["/"]()) for app in apps] == [1, 2, 3, 4]
    assert all(app.routes.keys() == main.app.routes.keys() for app in apps)
    import logging

    assert len(logging.getLogger("test.sharing").handlers) == 1


def test_a_register_that_knows_a_copied_function_by_its_name_is_copied(write):
    project = write(
        main="""
            import asyncio
            from register import Router
            lock = asyncio.Lock()
            limits = Router()
            app = Router()
            @app.route("/")
            @limits.by_name
            async def index():
                async with lock: return limits.routes
        """
    )
    found = copies(project)
    main = importlib.import_module("main")
    for _ in range(3):
        assert asyncio.run(found.make("main").run(lambda: main.app).routes["/"]()) == {"main.index": [1]}


def test_a_name_that_functions_assign_is_one_for_all_functions_of_a_copy(write):
    project = write(
        main="""
            import asyncio
            from register import Router
            lock = asyncio.Lock()
            count = 0
            name = "first"
            name = name + "!"
            def increase():
                global count
                count += 1
            app = Router()
            @app.route("/")
            async def index(name=name):
                async with lock: increase()
                return name, count
        """
    )
    found = copies(project)
    main = importlib.import_module("main")
    app = found.make("main").run(lambda: main.app)
    assert asyncio.run(app.routes["/"]()) == ("first!", 1)
    assert asyncio.run(app.routes["/"]()) == ("first!", 2)
    assert main.count == 0


def test_a_variable_that_loops_share_binds_none_of_them(write):
    project = write(
        main="""
            import asyncio
            from register import Model, Router
            lock = asyncio.Lock()
            for i in range(3):
                type(f"Model{i}", (Model,), {})
            names = [i for i in "abc"]
            app = Router()
            for i in range(3):
                @app.route(f"/{i}")
                async def index(i=i):
                    async with lock: return i
        """
    )
    found = copies(project)
    main = importlib.import_module("main")
    app = found.make("main").run(lambda: main.app)
    assert [asyncio.run(app.routes[f"/{i}"]()) for i in range(3)] == [0, 1, 2]


def test_setting_an_attribute_of_a_module_reaches_whom_it_concerns(write):
    project = write(
        main="""
            import asyncio
            from register import Router
            lock = asyncio.Lock()
            debug = False
            app = Router()
            @app.route("/")
            async def index(): return lock
        """
    )
    found = copies(project)
    main = importlib.import_module("main")
    first, second = found.make("main"), found.make("main")
    first.run(lambda: setattr(main, "debug", True))
    assert main.debug
    assert second.run(lambda: main.debug)
    first.run(lambda: setattr(main, "lock", None))
    assert first.run(lambda: main.lock) is None
    assert asyncio.run(first.run(lambda: main.app).routes["/"]()) is None
    assert main.lock is not None
    assert second.run(lambda: main.lock) is not None
    first.run(lambda: delattr(main, "lock"))
    with pytest.raises(AttributeError, match="module 'main' has no attribute 'lock'"):
        first.run(lambda: main.lock)


def test_circles_and_imports_for_their_effect_keep_their_order(write):
    project = write(
        state="""
            import asyncio
            from register import Router
            lock = asyncio.Lock()
            app = Router()
        """,
        views="""
            import main
            from state import app, lock
            @app.route("/first")
            async def first(): return main.order(), lock
        """,
        main="""
            from state import app
            def order(): return list(app.routes)
            import views
            @app.route("/second")
            async def second(): return 2
        """,
    )
    found = copies(project)
    main = importlib.import_module("main")
    app = found.make("main").run(lambda: main.app)
    order, lock = asyncio.run(app.routes["/first"]())
    assert order == ["/first", "/second"]
    assert lock is not importlib.import_module("state").lock


def test_a_module_that_is_imported_later_belongs_to_the_copy_that_asks(write):
    project = write(
        main="""
            import asyncio
            from register import Router
            lock = asyncio.Lock()
            app = Router()
            @app.route("/")
            async def index():
                import late
                return late.kept, late.wrapped, lock
        """,
        late="""
            from register import Model
            from main import lock
            class Late(Model): pass
            kept = object()
            wrapped = [lock]
        """,
    )
    found = copies(project)
    main = importlib.import_module("main")
    copy = found.make("main")
    kept, wrapped, lock = copy.run(lambda: asyncio.run(main.app.routes["/"]()))
    assert wrapped == [lock]
    others = found.make("main").run(lambda: asyncio.run(main.app.routes["/"]()))
    assert others[0] is kept
    assert others[1] == [others[2]] != wrapped
    own = asyncio.run(main.app.routes["/"]())
    assert own == (kept, [main.lock], main.lock)
    assert len({id(each) for each in (lock, others[2], main.lock)}) == 3


def test_a_thread_that_belongs_to_no_worker_sees_the_original_and_one_that_entered_its_copy(write):
    project = write(
        main="""
            import asyncio
            lock = asyncio.Lock()
            async def app(scope, receive, send): return lock
        """
    )
    found = copies(project)
    main = importlib.import_module("main")
    copy = found.make("main")
    seen = []

    def stray():
        seen.append(main.lock)

    def worker():
        copy.enter()
        seen.append(main.lock)

    for target in (stray, worker):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert seen[0] is main.lock
    assert seen[1] is copy.run(lambda: main.lock) is not main.lock


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("vars()['lock'] = asyncio.Lock()", "main.lock is not made by a statement of the module"),
        ("class Odd(type(asyncio)): pass\nlock = asyncio.Lock()\nimport sys\nsys.modules[__name__].__class__ = Odd",
         "main is not an ordinary module"),
    ],
)  # fmt: skip
def test_what_cannot_be_copied_says_why(write, source, words):
    project = write(
        main=f"import asyncio\n{source}\nasync def app(scope, receive, send): return lock\n",
    )
    with pytest.raises(CannotCopy, match=words):
        copies(project)


def test_nothing_is_copied_where_nothing_leads_to_such_an_object(write):
    kept = asyncio.Lock()
    project = write(main="import asyncio\nasync def app(scope, receive, send): return asyncio.Lock()\n")
    found = copies(project)
    assert found.reason is None
    assert found.sources == {}
    assert kept is not None


# As users see it


def serve(project, *arguments):
    return Running("main:app", "--port", "0", *arguments, cwd=project, env={"PYTHONPATH": "../site-packages"})


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
def test_where_no_copy_can_be_made_workers_are_processes(write, source, reason, when):
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
def test_an_application_that_starts_on_one_thread_only_gets_processes(write, way, lifespan):
    project = write(main=ONCE.replace("FAIL", WAYS[way]))
    with serve(project, "--threads", "4", "--lifespan", lifespan) as server:
        assert "Workers will be processes, because it starts on one worker thread and not on worker " in server.log
        assert ": ValueError: the only one is there already." in server.log
        assert len({get(server.address)[1] for _ in range(80)}) > 1
        assert server.stop() == 0
        assert "Traceback" not in server.log
        assert "ERROR" not in server.log


@on_threads
def test_one_that_starts_nowhere_says_so_once(write):
    project = write(main=ONCE.replace("FAIL", "raise ZeroDivisionError('nowhere')"))
    with Running("main:app", "--port", "0", "--threads", "4", "--lifespan", "on", cwd=project, ready=False,
                 env={"PYTHONPATH": "../site-packages"}) as server:  # fmt: skip
        assert server.end() == 3
        assert server.log.count("Traceback") == 1
        assert "processes" not in server.log


@on_threads
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")
def test_a_server_in_a_program_goes_on_with_processes(write):
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
