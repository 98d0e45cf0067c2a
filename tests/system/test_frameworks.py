"""Real applications, unchanged, on one worker and on four, over real sockets."""

import os
import re
import subprocess
import sys
import threading
import time

import httpx
import pytest

from pounce.supervisor.plan import has_gil
from tests.support.requirements import library
from tests.support.server import APPS, Running


def running(app, workers, **more):
    return Running(app, "--port", "0", "--workers", workers, **more)


@pytest.fixture(params=["1", "4"], ids=["1 worker", "4 workers"], scope="module")
def workers(request):
    return request.param


@pytest.fixture(scope="module")
def fast(workers):
    library("fastapi", "python_multipart")
    with running("fast:app", workers) as server:
        yield server
        server.stop()
        assert server.log.count("fastapi down") == int(workers)


@pytest.fixture
def client(fast):
    with httpx.Client(base_url=fast.url, timeout=30) as client:
        yield client


def eventually(client, word):
    """Waits until some worker's application has noted `word`."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with httpx.Client(base_url=client.base_url) as fresh:
            if word in fresh.get("/events").json():
                return
    raise AssertionError(word)


def test_fastapi_endpoints_validate_and_share_state_middleware_and_dependencies(client):
    assert client.get("/async").json() == {"kind": "async"}
    answer = client.get("/sync")
    assert answer.json()["kind"] == "sync"
    assert "pounce-worker" not in answer.json()["thread"]
    assert answer.headers["x-stamp"] == "/sync"
    assert client.get("/state").json() == {"greeting": "hello from lifespan"}
    assert client.get("/depends").json() == {"thing": "resource"}
    item = {"name": "x", "price": 1.5, "parent": {"name": "y", "price": 2.0, "parent": None}}
    assert client.post("/items", json=item).json() == item
    assert client.post("/items", json={"name": 1}).status_code == 422
    assert client.get("/openapi.json").json()["paths"]
    eventually(client, "released")


def test_fastapi_errors_are_404_418_and_500(client):
    assert client.get("/fails").status_code == 404
    assert client.get("/teapot").status_code == 418
    assert client.get("/broken").status_code == 500
    assert client.get("/nowhere").status_code == 404


def test_fastapi_upload_of_a_multipart_file_arrives_whole(client):
    content = os.urandom(2_000_000)
    answer = client.post("/upload", files={"file": ("name.bin", content)})
    assert answer.json() == {"name": "name.bin", "size": len(content)}


def test_fastapi_background_task_runs_after_its_response(client):
    assert client.get("/background").status_code == 200
    eventually(client, "background done")


def test_fastapi_streams_and_sse_come_in_parts_and_end_when_the_client_leaves(client):
    assert client.get("/stream").text == "".join(f"{number}\n" for number in range(10))
    with client.stream("GET", "/sse") as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(5)] == ["data: 0", "", "data: 1", "", "data: 2"]
    eventually(client, "sse over")


def test_fastapi_under_load_answers_every_request_200(fast):
    failed = []

    def ask():
        with httpx.Client(base_url=fast.url, timeout=60) as client:
            for path in ("/async", "/sync", "/depends", "/stream") * 10:
                answer = client.get(path)
                if answer.status_code != 200:
                    failed.append((path, answer.text))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [], fast.log


def test_django_serves_views_its_database_static_files_and_the_admin_login(workers, tmp_path):
    library("django")
    environment = {"POUNCE_TEST_DB": str(tmp_path / "db.sqlite3")}
    subprocess.run(
        [sys.executable, "-c", "import dj; dj.prepare()"], cwd=APPS, env={**os.environ, **environment}, check=True
    )
    with running("dj:app", workers, env=environment) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/async").json() == {"kind": "async"}
        assert client.get("/sync").json()["kind"] == "sync"
        assert client.get("/users").json() == {"users": ["tester"]}
        assert client.get("/stream").text == "".join(f"{number}\n" for number in range(10))
        assert client.post("/echo", content=b"x" * 500_000).content == b"x" * 500_000
        page = client.get("/admin/login/")
        assert "Django administration" in page.text
        style = re.search(r'href="(/static/admin/css/base\.[^"]*css|/static/admin/css/base\.css)"', page.text)
        assert style, page.text
        assert "text/css" in client.get(style[1]).headers["content-type"]
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]
        form = {"username": "tester", "password": "secret", "csrfmiddlewaretoken": token, "next": "/admin/"}
        answer = client.post("/admin/login/", data=form, follow_redirects=True)
        assert "Site administration" in answer.text
        if workers != "1" and not has_gil():
            assert "copies" not in server.log


def test_quart_serves_json_uploads_streams_and_sync_views(workers):
    library("quart")
    with running("quartz:app", workers) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/").json() == {"greeting": "hello"}
        assert client.post("/echo", content=b"x" * 500_000).content == b"x" * 500_000
        assert client.get("/stream").text == "".join(f"{number}\n" for number in range(10))
        assert client.get("/sync").text == "sync"


def test_litestar_serves_json_streams_and_sync_handlers(workers):
    library("litestar")
    with running("lite:app", workers) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/").json() == {"kind": "async"}
        assert client.get("/sync").json() == {"kind": "sync"}
        assert client.post("/echo", json={"a": 1}).json() == {"a": 1}
        assert client.get("/stream").text == "".join(f"{number}\n" for number in range(10))


def test_sentry_and_opentelemetry_see_errors_and_spans(workers):
    library("starlette", "sentry_sdk", "opentelemetry.sdk", "opentelemetry.instrumentation.asgi")
    with running("instrumented:app", workers) as server:
        seen = {"events": [], "spans": []}
        end = time.monotonic() + 30
        while time.monotonic() < end and not ("ZeroDivisionError" in seen["events"] and "GET /" in seen["spans"]):
            assert httpx.get(server.url + "/").json() == {"ok": True}
            assert httpx.get(server.url + "/broken").status_code == 500
            seen = httpx.get(server.url + "/seen").json()
        assert "ZeroDivisionError" in seen["events"]
        assert any(name.startswith("GET") for name in seen["spans"])
