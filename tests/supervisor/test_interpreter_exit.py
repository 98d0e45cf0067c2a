"""How the server's processes end: as an interpreter does, whatever the application has left, but not later."""

import http.client
import os
import signal
import subprocess
import sys

import pytest

from pounce.supervisor.plan import has_gil
from tests.support.server import Running, get

LEFT = """
import atexit, concurrent.futures, multiprocessing, os, threading, time
atexit.register(lambda: print("atexit ran", flush=True))
kept = []
over = threading.Event()

def executor(function, *args):
    kept.append(concurrent.futures.ThreadPoolExecutor(thread_name_prefix="mine"))
    return kept[0].submit(function, *args)

def processes(method):
    kept.append(concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)))
    kept[0].submit(abs, 1).result()

def pool():
    kept.append(multiprocessing.get_context("fork").Pool(2))
    kept[0].map(abs, [1])

def manager():
    kept.append(multiprocessing.Manager())
    kept[0].list()

def daemon():
    kept.append(multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True))
    kept[0].start()

def write():
    time.sleep(1.5)
    print("written", flush=True)

LEAVE = {
    "/": lambda: None,
    "/idle": lambda: executor(abs, 1).result(),
    "/executor": lambda: executor(time.sleep, 600),
    "/thread": lambda: threading.Thread(target=time.sleep, args=(600,), name="forever").start(),
    "/writes": lambda: threading.Thread(target=write).start(),
    "/fork": lambda: processes("fork"),
    "/forkserver": lambda: processes("forkserver"),
    "/spawn": lambda: processes("spawn"),
    "/pool": pool,
    "/manager": manager,
    "/daemon": daemon,
    "/hangs": lambda: atexit.register(time.sleep, 600),
}

async def app(scope, receive, send):
    assert scope["type"] == "http"
    LEAVE[scope["path"]]()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})
"""


@pytest.fixture
def leaves(tmp_path):
    (tmp_path / "leaves.py").write_text(LEFT)

    def start(path, workers="1", graceful="60"):
        arguments = ("--port", "0", "--workers", workers, "--timeout-graceful-shutdown", graceful)
        server = Running("leaves:app", *arguments, cwd=tmp_path)
        try:
            client = http.client.HTTPConnection(*server.address, timeout=30)  # a fork keeps the connection open
            client.request("GET", path)
            assert client.getresponse().read() == b"hello"
            client.close()
        except BaseException:
            server.process.kill()
            raise
        return server

    return start


def code_of(number, workers):
    return 143 if number == signal.SIGTERM and (workers == "1" or not has_gil()) else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("path", ["/idle", "/fork", "/forkserver", "/spawn", "/pool", "/manager", "/daemon"])
def test_idle_threads_and_processes_end_and_atexit_functions_run(path, workers, number, leaves):
    with leaves(path, workers) as server:
        assert server.stop(number) == code_of(number, workers)
        assert server.log.count("atexit ran") == (2 if has_gil() and workers == "2" else 1)
        assert "abandoned" not in server.log
        assert "Waiting for threads" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("path", "name"), [("/executor", "mine_0"), ("/thread", "forever")])
def test_a_thread_that_runs_is_abandoned_by_name_and_atexit_functions_run(path, name, workers, leaves):
    with leaves(path, workers, graceful="0") as server:
        assert server.stop(signal.SIGINT) == 0
        assert server.log.count(f"Thread {name} does not end; it is abandoned.") == 1
        assert server.log.count("atexit ran") == (2 if has_gil() and workers == "2" else 1)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_thread_that_writes_something_may_finish(workers, leaves):
    with leaves("/writes", workers) as server:
        assert server.stop() == code_of(signal.SIGTERM, workers)
        assert server.lines.index("written") < len(server.lines) - server.lines[::-1].index("atexit ran") - 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_second_sigint_abandons_the_threads(workers, leaves):
    with leaves("/thread", workers) as server:
        server.send_signal(signal.SIGINT)
        server.wait_for("Waiting for threads to end: forever. (CTRL+C to force quit)")
        assert server.stop(signal.SIGINT) == 0
        assert "Thread forever does not end; it is abandoned." in server.log
        assert "Traceback" not in server.log
        assert "KeyboardInterrupt" not in server.log


def test_an_atexit_function_that_hangs_is_abandoned(leaves):
    with leaves("/hangs", graceful="0") as server:
        assert server.stop(signal.SIGINT, timeout=60) == 0
        assert "Functions of atexit have not returned within 10 seconds" in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_closed_standard_output_changes_no_exit_code(workers, number, tmp_path):
    (tmp_path / "prints.py").write_text(
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    print('this is still buffered at the end')\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'hello'})\n"
    )
    arguments = ("--port", "0", "--workers", workers, "--no-access-log")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-m", "pounce", "prints:app", *arguments],
        cwd=tmp_path, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        try:
            line = next(line for line in server.stderr if "Pounce running on" in line)
            server.stdout.close()
            port = int(line.split("//")[1].split()[0].split(":")[1])
            assert get(("127.0.0.1", port)) == (200, b"hello")
            server.send_signal(number)
            rest = server.stderr.read()
            code = server.wait(30)
        finally:
            server.kill()
    assert (code if code >= 0 else 128 - code) == code_of(number, workers)
    assert "BrokenPipeError" not in rest
