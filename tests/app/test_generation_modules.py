"""The module objects of generations that live in one process: each finds its own, whatever the other one does."""

import logging
import pickle
import sys
import textwrap
import threading
import types

import pytest

from pounce.app.copies import CopiedModule
from pounce.app.generations import ApplicationGenerations, CannotReload, Origin
from pounce.app.loading import ApplicationFailed
from pounce.app.sharing import Sharing
from pounce.config.config import Config
from pounce.errors import StartupError

pytestmark = pytest.mark.waits  # files are imported and compiled, by threads that meet by chance

APP = "async def app(scope, receive, send): ...\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An application in a folder, and its generations."""
    before, finders = set(sys.modules), sys.meta_path
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Project(tmp_path)
    sys.meta_path = finders
    for name in set(sys.modules) - before:
        del sys.modules[name]


class Project:
    def __init__(self, folder):
        self.folder = folder
        self.generations = ApplicationGenerations()
        self.alive = []

    def write(self, **files):
        """`shop__db="..."` writes shop/db.py."""
        for name, text in files.items():
            path = self.folder / f"{name.replace('__', '/').replace('/init', '/__init__')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))

    def config(self, app="shop.main:app", **options):
        return Config(app, app_dir=str(self.folder), **options)

    def first(self, app="shop.main:app", **options):
        return self._keep(self.generations.first(self.config(app, **options)))

    def next(self, app="shop.main:app", **options):
        """Loads on a thread of its own, as the server does."""
        done = []

        def load():
            try:
                done.append(self.generations.next(self.config(app, **options)))
            except BaseException as error:
                done.append(error)

        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
        if isinstance(done[0], BaseException):
            raise done[0]
        return self._keep(done[0])

    def _keep(self, generation):
        self.alive.append(generation)
        return generation

    def modules(self):
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "shop"}


def run(generation, function, *args):
    """As one of its workers."""
    return generation.context.copy().run(function, *args)


def app_globals(generation):
    return generation.loaded.application.__globals__


SHOP = {
    "shop__init": "",
    "shop__db": "value = 1\nclass Row: pass\n",
    "shop__main": """
        import importlib, sys, typing
        import shop.db
        from . import db
        from shop.db import value, Row
        def late():
            from shop import db
            import shop.db as other
            from shop.db import value
            return value, db.value, other.value, importlib.import_module("shop.db").value, sys.modules["shop.db"].value
        def lazy():
            from shop import lazily
            return lazily.value
        class Typed:
            row: "db.Row"
        def hints():
            return typing.get_type_hints(Typed)["row"] is Row
        async def app(scope, receive, send): ...
    """,
    "shop__lazily": "from shop.db import value\n",
}


def test_each_generation_finds_its_own_modules_by_name(project):
    project.write(**SHOP)
    old = project.first()
    project.write(shop__db="value = 2\nclass Row: pass\n")
    new = project.next()
    for generation, value in ((old, 1), (new, 2), (old, 1)):
        found = app_globals(generation)
        assert found["late"]() == (value,) * 5
        assert found["value"] == found["db"].value == found["shop"].db.value == value
        assert found["hints"]()
        row = found["Row"]()
        assert type(run(generation, pickle.loads, run(generation, pickle.dumps, row))) is type(row)
    assert app_globals(old)["lazy"]() == 1
    assert app_globals(new)["lazy"]() == 2


def test_after_release_modules_are_ordinary_ones_of_the_new_generation(project):
    project.write(**SHOP)
    old = project.first()
    project.write(shop__db="value = 2\nclass Row: pass\n")
    new = project.next()
    old.release()
    assert {type(module) for module in project.modules().values()} == {types.ModuleType}
    assert sys.modules["shop.db"].value == 2
    assert vars(sys.modules["shop.main"]) is app_globals(new)
    assert "shop.lazily" not in sys.modules
    assert app_globals(new)["lazy"]() == 2


def test_a_generation_that_is_released_first_leaves_its_predecessor_as_it_was(project):
    project.write(**SHOP)
    project.first()
    before = project.modules()
    project.write(shop__db="value = 2\n", shop__main="from shop import extra\n" + APP, shop__extra="")
    project.next().release()
    assert project.modules() == before
    assert {type(module) for module in before.values()} == {types.ModuleType}


def test_an_import_that_has_found_a_module_which_is_given_up_goes_on(project):
    project.write(**SHOP)
    old = project.first()
    assert app_globals(old)["lazy"]() == 1
    new = project.next()
    found = sys.modules["shop.lazily"]  # of the new generation, which has not imported it
    spec = run(new, getattr, found, "__spec__")
    old.release()
    assert "shop.lazily" not in sys.modules
    assert run(new, getattr, spec, "_initializing") is False  # the import system asks now
    assert found.value == sys.modules["shop.lazily"].value == 1
    project.write(shop__main="1 / 0\n")
    with pytest.raises(ApplicationFailed):
        project.next()
    assert sys.modules["shop.lazily"].value == 1


def test_a_module_that_several_threads_import_at_once_is_executed_once(project):
    slow = "import time\nimport held_count\nheld_count.times.append(1)\ntime.sleep(0.05)\nvalue = 1\n"
    library = project.folder / "site-packages"
    library.mkdir()
    (library / "held_count.py").write_text("times = []\n")
    sys.path.insert(0, str(library))
    project.write(**SHOP | {"shop__lazily": slow})
    project.first()
    new = project.next()
    found = []
    threads = [threading.Thread(target=lambda: found.append(app_globals(new)["lazy"]())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.path.remove(str(library))
    assert found == [1] * 8
    assert len(sys.modules["held_count"].times) == 1


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        ({"shop__main": "def app(:\n"}, SyntaxError, ""),
        ({"shop__main": "import shop.db\n1 / 0\n"}, ZeroDivisionError, ""),
        ({"shop__main": "import shop.db\n", "shop__db": "1 / 0\n"}, ZeroDivisionError, ""),
        ({"shop__main": "from shop import db\n", "shop__db": "import sys\nsys.nothing\n"}, AttributeError, "nothing"),
        ({"shop__main": "from shop import db\n", "shop__db": "import no_such_module\n"}, ModuleNotFoundError, ""),
        ({"shop__main": "from shop import none\n"}, ImportError, "cannot import name 'none'"),
        ({"shop__main": "raise SystemExit(3)\n"}, SystemExit, ""),
    ],
)
def test_a_mistake_leaves_everything_as_it_was_and_shows_the_applications_frames(project, files, error, words):
    project.write(**SHOP)
    old = project.first()
    before = project.modules()
    project.write(**files)
    with pytest.raises(ApplicationFailed) as caught:
        project.next()
    cause = caught.value.__cause__
    assert isinstance(cause, error)
    assert words in str(cause)
    entry, frames = cause.__traceback__, []
    while entry is not None:
        frames.append(entry.tb_frame.f_code.co_filename)
        entry = entry.tb_next
    assert all(str(project.folder) in frame for frame in frames) or error is SyntaxError
    if "shop__db" in files:
        assert [frame.rpartition("/")[2] for frame in frames] == ["main.py", "db.py"]
    assert project.modules() == before
    assert {type(module) for module in before.values()} == {types.ModuleType}
    assert app_globals(old)["late"]() == (1,) * 5
    project.write(**SHOP)
    assert app_globals(project.next())["value"] == 1


def test_a_module_that_is_gone_is_gone_for_the_new_generation_only(project):
    project.write(**SHOP)
    old = project.first()
    (project.folder / "shop/db.py").unlink()
    project.write(
        shop__main="""
            try:
                from shop import db
            except ImportError as error:
                text = str(error)
            try:
                import shop.db
            except ModuleNotFoundError as error:
                name = error.name
            async def app(scope, receive, send): ...
        """
    )
    new = project.next()
    assert app_globals(new)["text"].startswith("cannot import name 'db' from 'shop' (")
    assert app_globals(new)["name"] == "shop.db"
    assert app_globals(old)["late"]() == (1,) * 5
    old.release()
    assert "shop.db" not in sys.modules


def test_two_edits_within_a_second_that_keep_the_size_are_both_loaded(project):
    project.write(**SHOP)
    project.first()
    for value in range(2, 10):
        project.write(shop__db=f"value = {value}\nclass Row: pass\n")
        assert app_globals(project.next())["value"] == value


LAZY = """
    import importlib
    async def app(scope, receive, send): ...
    def load(name): return importlib.import_module(name).__dict__.get("WHERE")
"""


def load(generation, name):
    return run(generation, generation.loaded.application.__globals__["load"], name)


# Found by importing modules in requests during reloads: the import system does not ask the package's spec then.
def test_a_module_of_a_package_that_only_another_generation_has_imported_is_found(project):
    project.write(shop__init="", shop__main=LAZY, shop__lazy__init="", shop__lazy__a="WHERE = 'a'")
    first = project.first()
    project.write(shop__lazy__b="WHERE = 'b'")
    second = project.next()
    assert load(first, "shop.lazy.a") == "a"
    assert load(second, "shop.lazy.b") == "b"
    assert load(second, "shop.lazy.a") == "a"
    assert load(first, "shop.lazy.b") == "b"


@pytest.mark.parametrize(("mistake", "words"), [("None.nothing", "no attribute 'nothing'"), ("1 / 0", "by zero")])
def test_a_package_that_fails_when_a_module_of_it_is_imported_raises_its_own_error(project, mistake, words):
    project.write(shop__init="", shop__main=LAZY, shop__lazy__init="", shop__lazy__a="", shop__lazy__b="")
    first = project.first()
    load(first, "shop.lazy.a")
    project.write(shop__lazy__init=mistake)
    second = project.next()
    with pytest.raises(Exception, match=words):
        load(second, "shop.lazy.b")
    project.write(shop__lazy__init="")
    load(second, "shop.lazy.b")


def test_obstacles_are_named(project):
    project.write(**SHOP)
    project.first()
    assert project.generations.obstacle(project.config()) == ""

    async def app(scope, receive, send): ...

    reason = "the application was handed over as an object, not as an import string"
    assert ApplicationGenerations().obstacle(Config(app)) == reason
    with pytest.raises(CannotReload, match="was handed over as an object"):
        ApplicationGenerations().next(Config(app))
    reason = "it is not made of Python files of its own"
    assert ApplicationGenerations().obstacle(Config("json:loads")) == reason


def test_files_are_the_applications_own_or_a_librarys_or_neither(project):
    project.write(**SHOP, shop__other="")
    project.first()

    def owns(path):
        return project.generations.origin(path, project.config())

    assert owns(str(project.folder / "shop/db.py")) is Origin.OWN
    assert owns(str(project.folder / "shop/other.py")) is Origin.OTHER
    assert owns(textwrap.__file__) is Origin.LIBRARY
    project.write(shop__main="from shop import other\n", shop__other="1 / 0\n")
    with pytest.raises(StartupError):
        project.next()
    assert owns(str(project.folder / "shop/other.py")) is Origin.OWN


@pytest.mark.usefixtures("few_objects")
def test_no_lookup_fails_while_other_generations_come_and_go(project):
    project.write(**SHOP)
    old = project.first()
    late, failed, stop = app_globals(old)["late"], [], threading.Event()

    def serve():
        while not stop.is_set():
            try:
                if late() != (1,) * 5:
                    failed.append("another generation's value")
            except BaseException as error:
                failed.append(error)

    threads = [threading.Thread(target=serve) for _ in range(3)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for number in range(2, 30):
            project.write(shop__db=f"value = {number}\nclass Row: pass\n", shop__main=SHOP["shop__main"])
            new = project.next()
            assert app_globals(new)["late"]() == (number,) * 5
            new.release()
            project.write(shop__db="1 / 0\n")
            with pytest.raises(ApplicationFailed):
                project.next()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(before)
    assert failed == []


HANDLERS = """
    import logging
    class Own(logging.Handler):
        def emit(self, record): seen.append(record.getMessage())
    seen = []
    logging.getLogger("shop").addHandler(Own())
    sys_path = __import__("sys").path
    sys_path.insert(0, "/no/such/folder")
"""


def test_a_log_handler_of_the_new_generation_takes_the_place_of_the_old_one(project):
    project.write(**SHOP | {"shop__main": textwrap.dedent(HANDLERS) + APP})
    logger = logging.getLogger("shop")
    old = project.first()
    path = list(sys.path)
    first = list(logger.handlers)
    project.write(shop__db="1 / 0\n", shop__main=textwrap.dedent(HANDLERS) + "import shop.db\n" + APP)
    with pytest.raises(ApplicationFailed):
        project.next()
    assert logger.handlers == first
    assert sys.path == path
    project.write(**SHOP | {"shop__main": textwrap.dedent(HANDLERS) + APP})
    new = project.next()
    logger.warning("once")
    assert (app_globals(old)["seen"], app_globals(new)["seen"]) == ([], ["once"])
    assert sys.path == path
    new.release()  # it did not start
    assert logger.handlers == first
    new = project.next()
    old.release()
    assert [type(handler) for handler in logger.handlers] == [app_globals(new)["Own"]]
    logger.handlers.clear()


def test_a_thread_that_an_import_has_started_is_an_obstacle(project):
    text = """
        import threading
        stop = threading.Event()
        def work(): stop.wait()
        threading.Thread(target=work, name="poller").start()
    """
    project.write(**SHOP | {"shop__main": textwrap.dedent(text) + APP})
    old = project.first()
    before = project.modules()
    try:
        with pytest.raises(CannotReload, match="its import has started the thread 'poller', which cannot be ended"):
            project.next()
        assert project.modules() == before
    finally:
        app_globals(old)["stop"].set()


def test_an_attribute_error_of_an_optional_module_is_caught_as_in_a_fresh_process(project):
    project.write(
        shop__init="",
        shop__optional="import sys\nsys.nothing\n",
        shop__main="try:\n    from shop import optional\nexcept Exception:\n    optional = None\n" + APP,
    )
    project.first()
    assert app_globals(project.next())["optional"] is None


CASES = {
    "package first": ("shop.app.__name__", {"shop__init": "from .main import app\n", "shop__a": ""}),
    "parent": ("shop.a.b.value", {"shop__a__init": "from .b import value\n", "shop__a__b": "value = 1\n"}),
    "relative": ("shop.a.value", {"shop__a": "from . import b\nfrom .b import value\n", "shop__b": "value = 1\n"}),
    "circle": ("shop.b.a.value", {"shop__a": "import shop.b\nvalue = 1\n", "shop__b": "from shop import a\n"}),
    "namespace": ("shop.a.one.value", {"shop__a": "from shop.n import one\n", "shop__n__one": "value = 1\n"}),
    "replaced": (
        "__import__('shop.a').a.value",
        {"shop__a": "import sys\nclass Lazy: value = 1\nsys.modules[__name__] = Lazy()\n"},
    ),
    "getattr": ("shop.a.value", {"shop__a": "def __getattr__(name): return 1\n"}),
    "dataclass": (
        "shop.a.A().value",
        {"shop__a": "import dataclasses as d, typing\n@d.dataclass\nclass A:\n    value: 'typing.ClassVar' = 1\n"},
    ),
    "package": ("shop.a.value", {"shop__a__init": "from shop.a.b import *\n", "shop__a__b": "value = 1\n"}),
    "star": ("shop.a.value", {"shop__a": "from shop.b import *\n", "shop__b": "value = 1\n"}),
    "spec": ("shop.a.value", {"shop__a": "from importlib import util\nvalue = util.find_spec('shop.a') is __spec__\n"}),
    "resource": (
        "shop.a.value",
        {"shop__a": "import importlib.resources as r\nvalue = len(list(r.files('shop').iterdir())) > 0\n"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_modules_of_many_kinds_are_loaded_again(project, case):
    expression, files = CASES[case]
    project.write(**{"shop__init": "", "shop__main": APP + "import shop.a, shop.main\n"} | files)
    expected = eval(expression, app_globals(project.first()))
    for _ in range(3):
        new = project.next()
        assert eval(expression, app_globals(new)) == expected
        assert eval(expression, app_globals(project.alive[0])) == expected
    for generation in project.alive[:-1]:
        generation.release()
    assert eval(expression, app_globals(new)) == expected
    left = [name for name, module in project.modules().items() if type(module) is not types.ModuleType]
    assert left == (["shop.a"] if case == "replaced" else [])


LOCKED = {
    "shop__init": "",
    "shop__db": "import asyncio\nlock = asyncio.Lock()\nvalue = 1\nclass Row: pass\n",
    "shop__late": "from shop.db import lock\n",
    "shop__main": """
        import pickle, sys
        import held
        from shop import db
        from shop.db import lock
        router = held.Router(lock)
        def look():
            from shop.db import lock as late
            import shop.db, shop.late
            found = [late, shop.db.lock, sys.modules["shop.db"].lock, shop.late.lock, db.lock, router.lock]
            row = pickle.loads(pickle.dumps(db.Row()))
            return lock, all(each is lock for each in found), type(row) is db.Row, db.value
        async def app(scope, receive, send): return look()
    """,
}
HELD = """
    routers = []
    class Router:
        def __init__(self, lock):
            self.lock = lock
            routers.append(self)
"""


def workers_of(generation, config):
    """What each worker thread of a generation loads, and the context in which it runs."""
    shared = Sharing(config, 3, generation.loaded, generation.context)
    shared.inspect(final=False)
    shared.inspect(final=True)
    return [shared.worker_copy(number) for number in range(3)]


def looked(worker):
    """What the application of a worker finds, on a thread of its own."""
    take, context = worker
    found = []

    def work():
        try:
            take().application(None, None, None).send(None)
        except StopIteration as stop:
            found.append(stop.value)

    thread = threading.Thread(target=context.copy().run, args=(work,))
    thread.start()
    thread.join()
    return found[0]


def test_copies_of_several_generations_find_their_own_lock_by_name(project, tmp_path_factory, monkeypatch):
    library = tmp_path_factory.mktemp("library") / "site-packages"
    library.mkdir()
    (library / "held.py").write_text(textwrap.dedent(HELD))
    monkeypatch.syspath_prepend(str(library))
    project.write(**LOCKED)
    generations, locks = [project.first(workers=3)], set()
    workers = [workers_of(generations[0], project.config(workers=3))]
    for value in (2, 3):
        project.write(shop__db=LOCKED["shop__db"].replace("value = 1", f"value = {value}"))
        generations.append(project.next(workers=3))
        # The library holds the locks of the old generation's routers, too: they are not its own.
        workers.append(workers_of(generations[-1], project.config(workers=3)))
        for number, each in enumerate(workers, 1):
            for worker in each:
                lock, same, row, found = looked(worker)
                assert (same, row, found) == (True, True, number)
                locks.add(lock)
    assert len(locks) == 9
    for generation in generations[:-1]:
        generation.release()
    assert [looked(worker)[1:] for worker in workers[-1]] == [(True, True, 3)] * 3
    assert {type(module) for module in project.modules().values()} == {types.ModuleType, CopiedModule}
    assert len([finder for finder in sys.meta_path if type(finder).__name__ == "_CopyingFinder"]) == 1
    generations[-1].release()


def test_what_a_package_has_of_a_library_it_keeps(project):
    """As an extension module in a package of the application: it is not loaded again, and is an attribute still."""
    library = project.folder / "site-packages" / "parts"
    library.mkdir(parents=True)
    (library / "fast.py").write_text("value = 1\n")
    project.write(shop__init=f"__path__.append({str(library)!r})\n", shop__main="import shop.fast\n" + APP)
    old = project.first()
    new = project.next()
    assert app_globals(new)["shop"].fast is app_globals(old)["shop"].fast
    assert app_globals(new)["shop"] is not app_globals(old)["shop"]


def test_modules_below_other_roots_are_loaded_again_too(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "shop_shared.py").write_text("value = 1\n")
    sys.path.insert(0, str(elsewhere))
    project.generations = ApplicationGenerations([str(elsewhere)])
    project.write(**SHOP | {"shop__main": "from shop_shared import value\n" + APP})
    project.first()
    (elsewhere / "shop_shared.py").write_text("value = 22\n")
    assert app_globals(project.next())["value"] == 22
    assert project.generations.origin(str(elsewhere / "shop_shared.py"), project.config()) is Origin.OWN
    sys.path.remove(str(elsewhere))


def test_two_generations_that_import_a_circle_at_once_do_not_wait_for_each_other(project):
    slow = "value = 1\nimport time\ntime.sleep(0.02)\nfrom shop.{0} import value as other\n"
    main = "def {0}():\n    from shop.{0} import other\n    return other\n"
    main = main.format("a") + main.format("b")
    project.write(shop__init="", shop__a=slow.format("b"), shop__b=slow.format("a"), shop__main=main + APP)
    old = project.first()
    new = project.next()
    found = []
    calls = [app_globals(generation)[name] for generation in (old, new) for name in ("a", "b")]
    threads = [threading.Thread(target=lambda call=call: found.append(call()), daemon=True) for call in calls[1:3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [1, 1]
