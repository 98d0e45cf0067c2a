"""Generations of an application in one process: who finds which module, and what is left of those that have ended."""

import gc
import importlib
import itertools
import os
import sys
import textwrap
import threading
import weakref

import pytest

from pounce.app.generations import ApplicationGenerations, CannotReload, Origin
from pounce.config import Config
from pounce.errors import StartupError
from pounce.supervisor.plan import has_gil

NUMBERS = itertools.count()

MAIN = """
    import importlib, pickle, sys, typing
    from . import db
    WAYS = {
        "global name": lambda: db.VERSION,
        "import statement": lambda: statement(),
        "from import": lambda: from_import(),
        "import_module": lambda: importlib.import_module(db.__name__).VERSION,
        "sys.modules": lambda: sys.modules[db.__name__].VERSION,
        "get_type_hints": lambda: typing.get_type_hints(db.User)["name"].version,
        "pickle": lambda: type(pickle.loads(pickle.dumps(db.User()))).version,
    }
    def statement():
        import NAME.db as late
        return late.VERSION
    def from_import():
        from NAME.db import VERSION
        return VERSION
    async def app(scope, receive, send): ...
"""
DB = """
    VERSION = {version}
    class Name: version = {version}
    class User:
        name: "Name"
        version = {version}
"""
WAYS = ["global name", "import statement", "from import", "import_module", "sys.modules", "get_type_hints", "pickle"]


class Package:
    """An application in a package of its own, whose files a test changes."""

    def __init__(self, folder):
        self.name = f"generations_{next(NUMBERS)}"
        self.folder = folder / self.name
        self.folder.mkdir()
        self.write("__init__", "")
        self.write("main", MAIN)
        self.version(1)
        self.config = Config(f"{self.name}.main:app", app_dir=str(folder))
        self.generations = ApplicationGenerations()

    def write(self, module, text):
        (self.folder / f"{module}.py").write_text(textwrap.dedent(text).replace("NAME", self.name))

    def version(self, number):
        self.write("db", DB.format(version=number))

    def first(self):
        return self.generations.first(self.config)

    def next(self):
        return self.generations.next(self.config)

    def module(self, name):
        return sys.modules[f"{self.name}.{name}"]


@pytest.fixture
def package(tmp_path):
    made = Package(tmp_path)
    yield made
    for name in [name for name in sys.modules if name.partition(".")[0] == made.name]:
        del sys.modules[name]
    sys.meta_path = [finder for finder in sys.meta_path if type(finder).__module__ != "pounce.app.own_files"]
    sys.path.remove(str(tmp_path))


def found(generation, way):
    """The version that code of this generation finds."""
    namespace = generation.loaded.application.__globals__
    return generation.context.copy().run(namespace["WAYS"][way])


@pytest.mark.parametrize("way", WAYS)
def test_code_of_each_generation_finds_its_own_modules_while_several_live(package, way):
    one = package.first()
    package.version(2)
    two = package.next()
    package.version(3)
    three = package.next()
    assert [found(each, way) for each in (one, two, three)] == [1, 2, 3]
    assert package.module("db").VERSION == 3  # for code of no known generation
    one.release()
    assert [found(each, way) for each in (two, three)] == [2, 3]
    two.release()
    assert found(three, way) == 3


def test_code_on_a_thread_without_the_context_finds_the_newest_generation(package):
    package.first()
    package.version(2)
    package.next()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(importlib.import_module(f"{package.name}.db").VERSION))
    thread.start()
    thread.join(10)
    assert seen == [2]


def test_modules_are_ordinary_again_when_the_older_generation_has_ended(package):
    one = package.first()
    package.next()
    assert type(package.module("db")) is not type(sys)
    one.release()
    assert type(package.module("db")) is type(sys)


@pytest.mark.parametrize(("text", "error"), [("1 / 0", ZeroDivisionError), ("def :", SyntaxError), ("app = 1", None)])
def test_a_generation_that_cannot_be_loaded_leaves_everything_as_it_was(package, text, error):
    one = package.first()
    package.next().release()
    before = dict(sys.modules), list(sys.meta_path)
    package.version(2)
    package.write("added", "")
    package.write("main", f"from . import db, added\n{text}\n")
    with pytest.raises(StartupError) as raised:
        package.next()
    assert type(raised.value.__cause__) is (error or type(None))
    assert (dict(sys.modules), list(sys.meta_path)) == before
    assert sys.modules[package.name].db is package.module("db")
    assert found(one, "import statement") == 1


def test_the_newest_generation_may_end_first_and_the_older_one_is_the_newest_again(package):
    one = package.first()
    package.version(2)
    package.write("added", "")
    package.write("main", MAIN.replace("import db", "import db, added"))
    two = package.next()
    two.release()  # its lifespan did not start
    assert package.module("db").VERSION == 1
    assert f"{package.name}.added" not in sys.modules
    assert found(one, "sys.modules") == 1
    assert found(package.next(), "sys.modules") == 2


def test_two_edits_within_a_second_and_of_one_size_are_both_seen(package):
    one = package.first()
    for version in (2, 3, 4, 5):
        package.version(version)
        os.utime(package.folder / "db.py", ns=(0, 10**18 * 2 + version))
        two = package.next()
        one.release()
        assert found(two, "global name") == version
        one = two


def test_a_module_that_is_gone_is_not_imported_again(package):
    package.write("main", MAIN.replace("import db", "import db, extra"))
    package.write("extra", "")
    one = package.first()
    package.write("main", MAIN)
    (package.folder / "extra.py").unlink()
    package.next()
    one.release()
    assert f"{package.name}.extra" not in sys.modules


def test_libraries_are_not_loaded_again(package):
    package.write("main", "import sqlite3\nLIBRARY = sqlite3\n" + textwrap.dedent(MAIN))
    one, two = package.first(), package.next()
    assert one.loaded.application.__globals__["LIBRARY"] is two.loaded.application.__globals__["LIBRARY"]


def test_context_variables_of_an_import_belong_to_its_generation(package):
    text = "import contextvars\nlast = contextvars.ContextVar('last')\nlast.set(db.VERSION)\n"
    package.write("main", textwrap.dedent(MAIN) + text)
    one = package.first()
    package.version(2)
    two = package.next()
    for generation, version in ((one, 1), (two, 2)):
        assert {variable.name: value for variable, value in generation.context.items()}["last"] == version


def test_an_application_that_is_no_import_string_cannot_be_loaded_again():
    async def app(scope, receive, send): ...

    generations = ApplicationGenerations()
    generations.first(Config(app))
    with pytest.raises(CannotReload, match="as an object, not as an import string"):
        generations.next(Config(app))


def test_origin_of_a_changed_file(package):
    package.first()
    pairs = (
        (package.folder / "db.py", Origin.OWN),
        (package.folder / "new.py", Origin.OTHER),
        (pytest, Origin.LIBRARY),
    )
    for path, origin in pairs:
        path = path.__file__ if path is pytest else str(path)
        assert package.generations.origin(os.path.realpath(path), package.config) is origin


@pytest.mark.usefixtures("few_objects")
def test_a_module_is_found_by_other_threads_all_the_while(package):
    package.first()
    errors, stop = [], threading.Event()

    def look():
        try:
            while not stop.is_set():
                importlib.import_module(f"{package.name}.db").User()
        except BaseException as error:
            errors.append(error)

    before = sys.getswitchinterval()
    threads = [threading.Thread(target=look) for _ in range(4)]
    try:
        sys.setswitchinterval(1e-6)
        for thread in threads:
            thread.start()
        for _ in range(10):
            package.next().release()
    finally:
        sys.setswitchinterval(before)
        stop.set()
        for thread in threads:
            thread.join(30)
    assert errors == []


FASTAPI = """
    from fastapi import Depends, FastAPI
    from pydantic import BaseModel
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
    class Base(DeclarativeBase): ...
    class Item(Base):
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)
    class Body(BaseModel):
        child: list["Body"] | None = None
    app = FastAPI()
    def query(q: str = ""): return q
    @app.post("/", response_model=Body)
    async def post(body: Body, q: str = Depends(query)): return body
"""


@pytest.mark.skipif(
    sys.version_info < (3, 14) and not has_gil(),
    reason="Python 3.13 without the GIL frees no function or class once a thread has been started",
)
def test_nothing_of_a_generation_of_fastapi_and_sqlalchemy_is_left_when_it_has_ended(package):
    pytest.importorskip("fastapi", reason="FastAPI is not installed")
    pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    package.write("main", FASTAPI)
    one = package.first()
    held = [weakref.ref(one.loaded.application.__class__)]  # of the library: stays
    names = ("Item", "Body", "post", "app")
    ended = [weakref.ref(vars(package.module("main"))[name]) for name in names]
    two = package.next()
    one.release()
    del one
    gc.collect()
    assert held[0]() is not None
    assert [name for name, reference in zip(names, ended, strict=True) if reference() is not None] == []
    assert two.loaded.application.title
