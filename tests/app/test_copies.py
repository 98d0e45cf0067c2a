"""Who shares what: one application on many worker threads, as one copy or as several."""

import json
import os
import subprocess
import sys
import threading

import pytest

import pounce
from pounce.app import modules
from pounce.testing import TestServer
from tests.app.modules import on_threads
from tests.support.server import Running, get


def seen(server, path="/", count=60):
    """What each worker thread says of its copy of the application, by thread."""
    answers = [json.loads(get(server.address, path)[1]) for _ in range(count)]
    return {answer["thread"]: answer for answer in answers}


@on_threads
def test_app_copies_auto_copies_an_application_with_a_lock_and_logs_why():
    with Running("shop.main:app", "--port", "0", "--threads", "3") as server:
        assert (
            "Application: 3 copies of shop.main, because shop.main.lock (asyncio.Lock) belongs to one event loop; "
            "everything else is shared; --app-copies one to override." in server.log
        )
        workers = seen(server)
        assert set(workers) == {"pounce-worker-1", "pounce-worker-2", "pounce-worker-3"}
        assert len({worker["lock"] for worker in workers.values()}) == 3
        for shared in ("json", "file", "numbers", "late", "inside", "star", "item", "circle", "name", "logger"):
            assert len({worker[shared] for worker in workers.values()}) == 1, shared
        assert workers["pounce-worker-2"]["name"] == "shop.main"
        server.stop()
        assert "Traceback" not in server.log


@on_threads
def test_a_helper_thread_imports_from_the_copy_of_its_caller():
    with Running("shop.main:app", "--port", "0", "--threads", "2") as server:
        direct = {answer["name"]: answer["late"] for answer in seen(server).values()}
        helped = {json.loads(get(server.address, "/thread")[1])["name"] for _ in range(30)}
        assert helped == set(direct)


@pytest.mark.parametrize("app", ["shop.main:app", "shop.main:make"])
def test_a_lock_at_module_level_serves_four_workers(app):
    factory = ["--factory"] if app.endswith("make") else []
    with Running(app, "--port", "0", "--threads", "4", *factory) as server:
        failed = []

        def client():
            for _ in range(50):
                answer = get(server.address, "/lock")
                if answer != (200, b"ok"):
                    failed.append(answer)

        clients = [threading.Thread(target=client) for _ in range(16)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        assert failed == [], server.log


@on_threads
def test_app_copies_one_fails_with_a_hint_given_once():
    arguments = ("--threads", "4", "--app-copies", "one")
    with Running("shop.main:app", "--port", "0", *arguments) as server:
        assert "copies" not in server.log

        def client():
            for _ in range(30):
                get(server.address, "/lock")

        clients = [threading.Thread(target=client) for _ in range(8)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        assert "is bound to a different event loop" in server.log
        assert server.log.count("Give each worker thread its own: --app-copies worker") == 1


@on_threads
def test_a_plain_application_is_shared_by_all():
    with Running("plain:app", "--port", "0", "--threads", "3") as server:
        assert "copies" not in server.log


@on_threads
def test_app_copies_worker_copies_a_plain_application():
    with Running("plain:app", "--port", "0", "--threads", "2", "--app-copies", "worker") as server:
        assert "because of --app-copies worker; everything else is shared." in server.log
        assert get(server.address) == (200, b"hello")


@on_threads
def test_what_lifespan_creates_is_copied_too(tmp_path):
    (tmp_path / "made.py").write_text(
        "import asyncio\n"
        "holder = {}\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await receive()\n"
        "        holder['queue'] = asyncio.Queue()\n"
        "        await send({'type': 'lifespan.startup.complete'})\n"
        "        await receive()\n"
        "        await send({'type': 'lifespan.shutdown.complete'})\n"
        "        return\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': str(id(holder)).encode()})\n"
    )
    with Running("made:app", "--port", "0", "--threads", "3", cwd=tmp_path) as server:
        assert "3 copies of made, because made.holder (asyncio.Queue) belongs to one event loop" in server.log
        assert len({get(server.address)[1] for _ in range(60)}) == 3


@on_threads
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")
def test_workers_are_processes_where_the_application_is_an_object_that_needs_copies(caplog):
    import asyncio

    lock = asyncio.Lock()

    async def app(scope, receive, send):
        assert lock is not None
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

    with caplog.at_level("INFO"), TestServer(app, threads=2) as server:
        pids = {int(get((server.host, server.port))[1]) for _ in range(60)}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert (
        "Workers will be processes, because an asyncio.Lock in the application belongs to one event loop, and the "
        "application was handed over as an object, not as an import string." in caplog.text
    )


@on_threads
@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        (
            "import json\nif hasattr(json, 'seen'): raise ZeroDivisionError('not twice')\njson.seen = 1\n",
            1,
            "not twice",
        ),
        ("", 0, ""),
    ],
)
def test_a_copy_that_fails_ends_the_start_with_the_applications_message(tmp_path, source, code, words):
    (tmp_path / "twice.py").write_text(source + "async def app(scope, receive, send): raise RuntimeError\n")
    arguments = ("twice:app", "--port", "0", "--threads", "2", "--app-copies", "worker")
    if code:
        with Running(*arguments, cwd=tmp_path, ready=False) as server:
            assert server.end() == code
            assert words in server.log
            assert server.log.count("Traceback") == 1
    else:
        with Running(*arguments, cwd=tmp_path) as server:
            assert "Pounce running" in server.log


@on_threads
def test_an_installed_application_is_not_copied():
    arguments = ("json.decoder:py_scanstring", "--port", "0", "--threads", "2", "--app-copies", "worker")
    with Running(*arguments, ready=False) as server:
        assert server.end() == 3
        assert "--app-copies worker is not possible, because it is not made of Python files of its own" in server.log


def test_files_below_the_applications_folder_are_its_own(tmp_path):
    root = str(tmp_path)
    assert modules.is_application_file(f"{root}/shop/main.py", root)
    assert not modules.is_application_file(f"{root}/.venv/lib/python3.13/site-packages/x.py", root)
    assert not modules.is_application_file(f"{root}/lib/dist-packages/x.py", root)
    assert not modules.is_application_file("/elsewhere/x.py", root)
    assert not modules.is_application_file(root + "2/x.py", root)
    assert not modules.is_application_file(None, root)
    assert not modules.is_application_file(pounce.__file__, os.path.dirname(os.path.dirname(pounce.__file__)))
    assert not modules.is_application_file(os.__file__, "/")
    assert modules.is_application_file("/main.py", "/")
    assert modules.root_of("json") is None
    assert modules.root_of("sys") is None
    assert modules.root_of("no_such_module") is None


def greenlet_that_needs_the_gil():
    # Not imported here: it would turn the GIL back on for all the tests that follow.
    check = "import greenlet, sys; sys.exit(not sys._is_gil_enabled())"
    if subprocess.run([sys.executable, "-W", "ignore", "-c", check], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("needs a greenlet that turns the GIL back on, as it does on 3.13t")


@on_threads
@pytest.mark.parametrize("workers", ["1", "2"])
def test_workers_are_processes_where_a_library_turns_the_gil_back_on(tmp_path, workers):
    greenlet_that_needs_the_gil()
    (tmp_path / "green.py").write_text(
        "import os, threading, greenlet\n"
        "open(f'imported-{os.getpid()}', 'w').close()\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': raise RuntimeError\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': str(os.getpid()).encode()})\n"
    )
    with Running("green:app", "--port", "0", "--workers", workers, cwd=tmp_path) as server:
        pids = {int(get(server.address)[1]) for _ in range(60)}
        if workers == "1":
            assert pids == {server.process.pid}
            assert "turned the GIL back on" not in server.log
        else:
            assert len(pids) == 2
            assert server.process.pid not in pids
            line = "The extension module 'greenlet._greenlet' has turned the GIL back on: workers will be processes."
            assert line in server.log
            assert "2 worker processes, because the application needs the GIL" in server.log
            assert "RuntimeWarning" not in server.log.partition("2 worker processes")[0]
        server.stop()


@on_threads
def test_worker_kind_thread_keeps_threads_with_the_gil(tmp_path):
    greenlet_that_needs_the_gil()
    (tmp_path / "green.py").write_text("import greenlet\nasync def app(scope, receive, send): raise RuntimeError\n")
    arguments = ("green:app", "--port", "0", "--threads", "2", "--worker-kind", "thread")
    with Running(*arguments, cwd=tmp_path) as server:
        assert "has turned the GIL back on: the threads take turns" in server.log
        assert "2 worker threads" in server.log


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_worker_kind_thread_or_process_is_followed(kind):
    with Running("plain:app", "--port", "0", "--threads", "2", "--worker-kind", kind) as server:
        pids = {json.loads(get(server.address, "/who")[1])["pid"] for _ in range(60)}
        assert (server.process.pid in pids) is (kind == "thread")
        assert len(pids) == (1 if kind == "thread" else 2)
