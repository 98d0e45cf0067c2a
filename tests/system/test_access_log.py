"""The access log and the identifiers of requests of whole servers: every line is whole under load, whoever writes
beside it, and frameworks' own lines have the identifier of their request."""

import json
import os
import re
import signal
import subprocess
import threading

import httpx
import pytest

from tests.support.requirements import library, tool
from tests.support.server import Running, get
from tests.system.traffic import Clients

PLAIN = """\
import logging
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"] == "/warn":
        logging.getLogger("the.application").warning("careful")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})
"""

FASTAPI = """\
import asyncio
import logging
from fastapi import BackgroundTasks, FastAPI
app = FastAPI()
log = logging.getLogger("the.application")
def later(where):
    log.warning(where)
@app.get("/async")
async def in_task(background: BackgroundTasks):
    log.warning("handler")
    await asyncio.gather(*(asyncio.to_thread(log.warning, "to_thread") for _ in range(2)))
    await asyncio.create_task(asyncio.sleep(0.001))
    asyncio.get_running_loop().call_soon(log.warning, "call_soon")
    background.add_task(later, "background")
    return {}
@app.get("/sync")
def in_thread():
    log.warning("sync")
    raise ValueError("as asked")
"""

DJANGO = """\
import logging
from django.conf import settings
settings.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, LOGGING_CONFIG=None)
import django
django.setup()
from django.http import HttpResponse
from django.urls import path
log = logging.getLogger("the.application")
async def in_task(request):
    log.warning("handler")
    return HttpResponse("")
def in_thread(request):
    log.warning("sync %s", request.headers["X-Request-ID"])
    return HttpResponse("")
urlpatterns = [path("async", in_task), path("sync", in_thread)]
from django.core.asgi import get_asgi_application
app = get_asgi_application()
"""


@pytest.fixture
def serving(tmp_path):
    servers = []

    def serve(source, *arguments, **more):
        (tmp_path / "app.py").write_text(source)
        server = Running("app:app", "--port", "0", *arguments, cwd=tmp_path, ready=False, **more)
        servers.append(server)
        server.wait_for("Pounce running on")
        return server

    yield serve
    for server in servers:
        server.__exit__()


def asked_much(server, count=1000):
    clients = Clients(server.address, path="/a%20b?" + "c" * 600)
    clients.wait_for(count)
    clients.stop()
    assert not clients.cut
    return clients.answered


@pytest.mark.parametrize("workers", ["1", "4"])
def test_log_format_json_is_one_object_on_each_line_under_load(workers, serving):
    """Standard output and standard error are one pipe, which worker processes share."""
    server = serving(PLAIN, "--workers", workers, "--log-format", "json", "--request-id")
    answered = asked_much(server)
    assert server.stop() in (0, 143)
    lines = [json.loads(line) for line in server.lines]
    accesses = [line for line in lines if "duration" in line]
    assert len(accesses) == answered
    assert len({line["request_id"] for line in accesses}) == answered
    assert {line["query"] for line in accesses} == {"c" * 600}
    assert {line["worker"] for line in accesses} <= set(range(1, int(workers) + 1))


@pytest.mark.parametrize("format", ["json", "combined"])
def test_access_log_of_four_workers_in_one_file_has_a_whole_line_for_each_request(format, serving, tmp_path):
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"access": {"()": "uvicorn.logging.AccessFormatter"}},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": "access.log", "formatter": "access"}},
        "loggers": {"uvicorn.access": {"handlers": ["file"], "level": "INFO", "propagate": False},
                    "uvicorn": {"level": "INFO", "handlers": ["out"], "propagate": False}},
    }  # fmt: skip
    config["handlers"]["out"] = {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}
    (tmp_path / "log.json").write_text(json.dumps(config))
    server = serving(PLAIN, "--workers", "4", "--access-log-format", format, "--log-config", "log.json")
    answered = asked_much(server)
    assert server.stop() in (0, 143)
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert len(lines) == answered
    for line in lines:
        if format == "json":
            assert json.loads(line)["status"] == 200
        else:
            assert re.fullmatch(r'127\.0\.0\.1 - - \[[^]]{26}\] "GET /a%20b\?c{600} HTTP/1\.1" 200 5 "-" "-"', line)


@pytest.mark.parametrize("workers", ["1", "4"])
@pytest.mark.parametrize(("framework", "source"), [("fastapi", FASTAPI), ("django", DJANGO)])
def test_request_id_is_in_the_lines_of_frameworks_tasks_and_threads(framework, source, workers, serving):
    library(framework)
    server = serving(source, "--workers", workers, "--log-format", "json", "--request-id")

    def ask(number):
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for path in ("async", "sync"):
                answer = client.get(f"/{path}", headers={"X-Request-ID": f"{path}-{number}"})
                assert answer.headers["x-request-id"] == f"{path}-{number}"

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.stop()
    lines = [json.loads(line) for line in server.lines]
    for number in range(6):
        of_async, of_sync = (
            [line for line in lines if line.get("request_id") == f"{path}-{number}"] for path in ("async", "sync")
        )
        said = sorted(line["message"] for line in of_async if "message" in line)
        if framework == "fastapi":
            assert said == ["background", "call_soon", "handler", "to_thread", "to_thread"]
            (error,) = (line for line in of_sync if line.get("level") == "ERROR")
            assert error["exception"].endswith("ValueError: as asked")
        else:
            assert said == ["handler"]
            assert [line["message"] for line in of_sync if "level" in line] == [f"sync sync-{number}"]
        (access,) = (line for line in of_sync if "duration" in line)
        assert access["path"] == "/sync"


def test_request_id_stands_in_brackets_in_lines_of_an_application_that_configures_nothing(serving):
    server = serving(PLAIN, "--request-id")
    with httpx.Client() as client:
        client.get(server.url + "/warn", headers={"X-Request-ID": "abc"})
    assert server.wait_for("careful") == "WARNING:  [abc] careful"


def test_sighup_changes_the_formats_of_both_logs(serving, tmp_path):
    server = serving(PLAIN, "--workers", "2")
    assert get(server.address)[0] == 200
    server.wait_for('"GET / HTTP/1.1" 200 OK')
    (tmp_path / "pounce.toml").write_text('log_format = "json"\nrequest_id = true\naccess_log_exclude = ["/quiet"]\n')
    server.send_signal(signal.SIGHUP)
    server.wait_for('"message": "The workers have been replaced')
    for path in ("/quiet", "/loud"):
        assert get(server.address, path)[0] == 200
    line = json.loads(server.wait_for('"path":"/loud"'))
    assert len(line["request_id"]) == 32
    assert "/quiet" not in server.log


def test_access_log_to_a_pipe_that_nobody_reads_any_more_ends_no_worker(tmp_path, serving):
    script = lost_output(tmp_path)
    server = serving(PLAIN, "--workers", "2", "--access-log-format", "json", script=script)
    for _ in range(20):
        assert get(server.address)[0] == 200
    assert server.stop() in (0, 143)
    assert "BrokenPipeError" in server.log  # as logging reports it


def lost_output(folder):
    """A program that runs the server with a pipe for its standard output whose reader has gone."""
    path = folder / "lost.py"
    path.write_text(
        "import os, sys\n"
        "reader, writer = os.pipe()\n"
        "os.close(reader)\n"
        "os.dup2(writer, 1)\n"
        "from pounce.cli import main\n"
        "main()\n"
    )
    return path


@pytest.mark.parametrize("format", ["common", "combined"])
def test_access_log_format_is_what_goaccess_reads(format, serving, tmp_path):
    program = tool("goaccess")
    server = serving(PLAIN, "--access-log-format", format)
    with httpx.Client(headers={"User-Agent": 'a "quoted\\ agent', "Referer": "http://example.org/"}) as client:
        for path in ("/", "/a%20b?c=d", '/"x"'):
            client.get(server.url + path)
    server.stop()
    lines = [line for line in server.lines if line.startswith("127.0.0.1")]
    assert len(lines) == 3
    (tmp_path / "log").write_text("\n".join(lines) + "\n")
    command = [program, tmp_path / "log", f"--log-format={format.upper()}", "-o", "report.json", "--no-global-config"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env={**os.environ, "TERM": "dumb"})
    general = json.loads((tmp_path / "report.json").read_text())["general"]
    assert (general["total_requests"], general["valid_requests"], general["failed_requests"]) == (3, 3, 0)
