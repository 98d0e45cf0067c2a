"""Who shares what: one application on many worker threads, as one copy or as several."""

import json
import os
import subprocess
import sys
import threading

import pytest

import pounce
from pounce.app import modules
from pounce.app.per_worker import enter_worker, leave_worker
from pounce.supervisor.plan import has_gil
from pounce.testing import TestServer
from tests.support.server import Running, get

on_threads = pytest.mark.skipif(has_gil(), reason="workers are processes here: nothing is shared")


def seen(server, path="/", count=60):
    """What each worker thread says of its copy of the application, by thread."""
    answers = [json.loads(get(server.address, path)[1]) for _ in range(count)]
    return {answer["thread"]: answer for answer in answers}


@on_threads
def test_an_application_with_a_lock_is_copied_and_the_log_says_why():
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
def test_one_copy_by_choice_fails_with_a_hint_given_once():
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
def test_copies_can_be_asked_for():
    with Running("plain:app", "--port", "0", "--threads", "2", "--app-copies", "worker") as server:
        assert "because of --app-copies worker; everything else is shared." in server.log
        assert get(server.address) == (200, b"hello")


@on_threads
def test_what_lifespan_creates_counts_too(tmp_path):
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
def test_an_application_handed_over_as_an_object_cannot_be_copied(caplog):
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
def test_a_copy_that_fails_ends_the_start_with_the_applications_words(tmp_path, source, code, words):
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


# Whose file is it?


def test_what_is_the_applications_own(tmp_path):
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


# Libraries that turn the GIL back on


def greenlet_that_needs_the_gil():
    # Not imported here: it would turn the GIL back on for all the tests that follow.
    check = "import greenlet, sys; sys.exit(not sys._is_gil_enabled())"
    if subprocess.run([sys.executable, "-W", "ignore", "-c", check], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("needs a greenlet that turns the GIL back on, as it does on 3.13t")


@on_threads
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_library_that_turns_the_gil_back_on_is_named_and_processes_are_used(tmp_path, workers):
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
def test_threads_may_be_insisted_on(tmp_path):
    greenlet_that_needs_the_gil()
    (tmp_path / "green.py").write_text("import greenlet\nasync def app(scope, receive, send): raise RuntimeError\n")
    arguments = ("green:app", "--port", "0", "--threads", "2", "--worker-kind", "thread")
    with Running(*arguments, cwd=tmp_path) as server:
        assert "has turned the GIL back on: the threads take turns" in server.log
        assert "2 worker threads" in server.log


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_the_kind_of_worker_can_be_chosen(kind):
    with Running("plain:app", "--port", "0", "--threads", "2", "--worker-kind", kind) as server:
        pids = {json.loads(get(server.address, "/who")[1])["pid"] for _ in range(60)}
        assert (server.process.pid in pids) is (kind == "thread")
        assert len(pids) == (1 if kind == "thread" else 2)


# One object per worker


class Thing:
    made = 0

    def __init__(self):
        Thing.made += 1
        self.name = threading.current_thread().name
        self.entered = False

    def __enter__(self):
        self.entered = True
        return self

    def __exit__(self, *_):
        pass

    def __len__(self):
        return 42

    def __eq__(self, other):
        return isinstance(other, Thing)

    __hash__ = None


def test_per_worker_behaves_as_the_object():
    thing = pounce.per_worker(Thing)
    assert isinstance(thing, Thing)
    assert thing.name == threading.current_thread().name
    thing.colour = "red"
    assert thing.colour == "red"
    del thing.colour
    assert not hasattr(thing, "colour")
    with thing as inner:
        assert inner.entered
    assert len(thing) == 42
    assert thing == Thing()
    assert repr(thing).startswith(f"<{__name__}.Thing")
    values = pounce.per_worker(lambda: [3, 1, 2])
    assert sorted(values) == [1, 2, 3]
    assert values[0] == 3
    values.append(4)
    assert list(values) == [3, 1, 2, 4]
    assert pounce.per_worker(lambda: 2) + 3 == 5


def test_per_worker_makes_one_object_for_each_worker():
    Thing.made = 0
    thing = pounce.per_worker(Thing)
    names = []
    barrier = threading.Barrier(4)

    def worker():
        token = enter_worker()
        barrier.wait()
        names.extend(thing.name for _ in range(3))
        barrier.wait()
        leave_worker(token)

    workers = [threading.Thread(target=worker, name=f"worker {number}") for number in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert Thing.made == 4
    assert sorted(names) == sorted([f"worker {number}" for number in range(4)] * 3)


@on_threads
def test_per_worker_in_handlers_and_their_helper_threads():
    # From 3.14 on a thread inherits the context of its starter where Python has no GIL, and so belongs to its worker.
    inherits = getattr(sys.flags, "thread_inherit_context", False)
    thing = pounce.per_worker(Thing)
    failed = []

    async def app(scope, receive, send):
        here = thing.name
        helped = await pounce.to_thread(lambda: thing.name)
        if not (here == helped == threading.current_thread().name):
            failed.append((here, helped))
        stray = []
        thread = threading.Thread(target=lambda: stray.append(attempt()))
        thread.start()
        thread.join()
        if (stray[0] != here) if inherits else ("belongs to no worker" not in stray[0]):
            failed.append(stray)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    def attempt():
        try:
            return thing.name
        except RuntimeError as error:
            return str(error)

    with TestServer(app, threads=3, lifespan="off") as server:
        for _ in range(30):
            assert get((server.host, server.port))[0] == 200
    assert failed == []


def test_per_worker_survives_an_empty_context():
    thing = pounce.per_worker(Thing)
    names = []

    async def app(scope, receive, send):
        names.append(thing.name)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    with TestServer(app, reset_contextvars=True, lifespan="off") as server:
        get((server.host, server.port))
    assert names == ["pounce-test-server"]
