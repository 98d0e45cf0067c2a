"""Which parts of an application's modules are executed again for a worker, and what a copy sees of the rest."""

import asyncio
import gc
import importlib
import pickle
import sys
import threading

import pytest

from pounce.app.reexecution import CannotCopy
from tests.app.modules import copies, names


def test_only_statements_that_lead_to_an_object_of_a_loop_are_copied(write):
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


def test_a_variable_that_for_loops_share_leads_to_none_of_their_objects(write):
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


def test_an_attribute_set_on_a_module_is_seen_by_the_copy_it_concerns(write):
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
