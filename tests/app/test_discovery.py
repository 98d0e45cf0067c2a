"""`pounce main.py` and bare `pounce`: which application is found, and what is said."""

import pytest

from pounce.app.discovery import FILES, find, names_a_file
from pounce.errors import ConfigError
from tests.support.server import Running, get
from tests.system.test_cli import run

ASGI = "async def {}(scope, receive, send): ...\n"


HELLO = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": __name__.encode()})
"""


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from fastapi import FastAPI\napp = FastAPI()\napi = FastAPI()\n", "app"),
        ("from fastapi import FastAPI\napi = FastAPI()\nother = FastAPI()\n", "api"),
        ("import fastapi\nservice = fastapi.FastAPI(title='x')\n", "service"),
        ("from fastapi import FastAPI as F\nservice: F = F()\n", "service"),
        ("from shop import app\n", "app"),
        ("from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n", "application"),
        ("from starlette.applications import Starlette\nclass Mine(Starlette): ...\nmine = Mine()\n", "mine"),
        ("class Mine:\n    async def __call__(self, scope, receive, send): ...\nmine = Mine()\n", "mine"),
        ("import logging\nlogger = logging.getLogger()\n" + ASGI.format("serve"), "serve"),
        (ASGI.format("serve") + "async def helper(a): ...\n", "serve"),
        ("if True:\n    from quart import Quart\n    try:\n        web = Quart(__name__)\n    finally: ...\n", "web"),
        ("def main():\n    app = 1\n" + ASGI.format("serve"), "serve"),
    ],
)
def test_application_found_in_a_file(source, name, tmp_path):
    (tmp_path / "main.py").write_text(source)
    assert find(str(tmp_path / "main.py")) == (f"main:{name}", str(tmp_path))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1\n", "main.py: no application found; give it as main:NAME"),
        (ASGI.format("a") + ASGI.format("b"), "main.py: which application? main:a, main:b"),
        ("def (:\n", "give the application as main:NAME"),
    ],
)
def test_application_not_found_in_a_file(source, words, tmp_path):
    (tmp_path / "main.py").write_text(source)
    with pytest.raises(ConfigError) as caught:
        find(str(tmp_path / "main.py"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert find(str(tmp_path / "main.py") + ":other") == ("main:other", str(tmp_path))


@pytest.mark.parametrize("place", FILES)
def test_application_found_in_the_usual_files(place, tmp_path):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(HELLO)
    assert find(None, str(tmp_path)) == (f"{path.stem}:app", str(path.parent))
    (path.parent / "__init__.py").write_text("")
    if path.parent != tmp_path:
        assert find(None, str(tmp_path)) == (f"app.{path.stem}:app", str(tmp_path))


def test_application_found_in_packages(tmp_path):
    package = tmp_path / "shop" / "web"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text(HELLO)
    (package / "main.py").write_text(HELLO)
    assert find(str(package / "main.py")) == ("shop.web.main:app", str(tmp_path))
    assert find(str(package / "__init__.py")) == find(str(package)) == ("shop.web:app", str(tmp_path))


def test_what_is_a_file_and_what_a_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    assert [names_a_file(text) for text in ("main.py", "main.py:x", "a/b", "shop", "main:app", "main")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("arguments", [(), ("main.py",), ("main.py:app",), ("./main.py",), (".",)])
def test_discovered_application_is_served_and_logged_in_one_line(arguments, workers, tmp_path):
    (tmp_path / "main.py").write_text(HELLO)
    with Running(*arguments, "--port", "0", "--workers", workers, cwd=tmp_path) as server:
        assert get(server.address) == (200, b"main")
        assert server.log.count(f"INFO:     Application: main:app, from {tmp_path}") == 1


def test_missing_file_is_refused_in_one_line():
    code, said = run("nowhere.py")
    assert (code, said.splitlines()[0]) == (2, "pounce: error: there is no file nowhere.py")
    code, said = run("no-name.py")
    assert code == 2
