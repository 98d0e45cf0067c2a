"""An application that ends its own start: by sys.exit, or as a factory that makes none."""

import pytest

from tests.support.requirements import library
from tests.system.test_cli import run

WORKERS = [("1", "auto"), ("2", "thread"), ("2", "process")]


EXITS = {"'DATABASE_URL missing'": 1, "4": 4, "": 0}


PLACES = {
    "import": "import sys\nsys.exit({})\n",
    "factory": "import sys\ndef app(): sys.exit({})\n",
    "lifespan": "import sys\nasync def app(scope, receive, send):\n    await receive()\n    sys.exit({})\n",
    "starlette": "import contextlib, sys\nfrom starlette.applications import Starlette\n"
    "@contextlib.asynccontextmanager\nasync def lifespan(app):\n    sys.exit({})\n    yield\n"
    "app = Starlette(lifespan=lifespan)\n",
}


@pytest.mark.parametrize(("workers", "kind"), WORKERS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("said", EXITS)
def test_sys_exit_at_import_or_in_the_factory_ends_the_server_with_its_code(said, place, workers, kind, tmp_path):
    if place == "starlette":
        library("starlette")
    (tmp_path / "app.py").write_text(PLACES[place].format(said))
    factory = ["--factory"] if place == "factory" else []
    code, log = run("app:app", "--port", "0", "--workers", workers, "--worker-kind", kind, *factory, cwd=tmp_path)
    assert code == EXITS[said]
    assert "Traceback" not in log
    assert "ERROR" not in log
    assert log.count("DATABASE_URL missing") == ("DATABASE" in said)


def test_sys_exit_in_a_copy_of_the_application_ends_the_server(tmp_path):
    (tmp_path / "app.py").write_text(
        "import asyncio, sys\n"
        "def made():\n"
        "    if hasattr(sys, 'made_before'): sys.exit('only once')\n"
        "    sys.made_before = True\n"
        "    return asyncio.Lock()\n"
        "lock = made()\n"
        "async def app(scope, receive, send):\n"
        "    async with lock: raise ValueError\n"
    )
    copies = ["--app-copies", "worker"]
    code, log = run("app:app", "--port", "0", "--workers", "2", "--worker-kind", "thread", *copies, cwd=tmp_path)
    assert code == 1
    assert "only once" in log


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("async def app(): ...", "it is async, but must return the application at once"),
        ("def app(): ...", "it must return the application; it returned None."),
        ("def app(): return 3", "it must return the application; it returned int, which cannot be called."),
    ],
)
def test_factory_that_makes_no_application_is_refused(source, words, workers, tmp_path):
    (tmp_path / "app.py").write_text(source + "\n")
    code, log = run("app:app", "--factory", "--port", "0", "--workers", workers, cwd=tmp_path)
    assert code == 3
    assert log.splitlines()[-1].startswith("ERROR:    Error loading ASGI app factory: ")
    assert words in log.splitlines()[-1]
    assert "never awaited" not in log


def test_factory_that_is_async_is_refused(tmp_path):
    (tmp_path / "app.py").write_text("async def app(): ...\n")
    code, log = run("app:app", "--port", "0", cwd=tmp_path)
    assert code == 3
    assert log.splitlines()[-1].endswith("and a factory cannot be async.")
