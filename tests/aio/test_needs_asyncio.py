"""Applications that never import asyncio, standing on libraries that look whether it is loaded."""

import threading

import httpx
import pytest

from tests.support.requirements import library
from tests.support.server import APPS, Running


@pytest.fixture(scope="module", params=["no_asyncio:app", "lazy:app"])
def app(request):
    library("fastapi", "sniffio")
    return request.param


@pytest.fixture(scope="module", params=["1", "4"], ids=["1 worker", "4 workers"])
def server(request, app):
    with Running(app, "--port", "0", "--workers", request.param) as server:
        yield server
        server.stop()
        assert "Traceback" not in server.log


PATHS = {
    "/sync": None,
    "/file": (APPS / "no_asyncio.py").read_bytes(),
    "/static/plain.py": (APPS / "plain.py").read_bytes(),
    "/generator": b"abc",
    "/middleware": b'"middleware"',
    "/client": b"abc",
}


def ask_for(server, path):
    with httpx.Client(base_url=server.url, timeout=30) as client:
        return client.get(path)


@pytest.mark.parametrize("path", PATHS)
def test_libraries_that_detect_the_loop_find_asyncio(server, path):
    for _ in range(4):
        answer = ask_for(server, path)
        assert answer.status_code == 200, server.log
        assert PATHS[path] in (None, answer.content)
        assert answer.headers.get("x-stamp") == ("stamped" if path == "/middleware" else None)


def test_the_application_does_not_import_asyncio():
    """Else the test above shows nothing."""
    library("fastapi", "sniffio")
    with Running("no_asyncio:app", "--port", "0") as server:
        assert ask_for(server, "/at_import").text == "not loaded"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("app", ["no_asyncio:app", "lazy:app"])
def test_any_library_may_be_the_first_to_detect_asyncio(app, path):
    library("fastapi", "sniffio")
    with Running(app, "--port", "0") as server:
        assert ask_for(server, path).status_code == 200, server.log


def test_first_requests_of_many_workers_at_once_detect_asyncio():
    library("fastapi", "sniffio")
    with Running("lazy:app", "--port", "0", "--workers", "4") as server:
        answers = []
        clients = [threading.Thread(target=lambda: answers.append(ask_for(server, "/sync"))) for _ in range(16)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert [answer.status_code for answer in answers] == [200] * 16, server.log
        server.stop()
        assert "Traceback" not in server.log


def test_an_application_that_needs_no_asyncio_has_none(tmp_path):
    (tmp_path / "simple.py").write_text(
        "import sys\n"
        "async def app(scope, receive, send):\n"
        "    assert 'asyncio' not in sys.modules\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body'})\n"
    )
    with Running("simple:app", "--port", "0", "--lifespan", "off", cwd=tmp_path) as server:
        assert ask_for(server, "/").status_code == 200, server.log
