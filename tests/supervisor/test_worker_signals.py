"""SIGHUP, SIGTTIN and SIGTTOU: workers come and go while the server serves."""

import contextlib
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from pounce.supervisor.plan import has_gil
from tests.support.server import Running, get
from tests.system.traffic import Clients

APP = """
import os, threading
import pounce
VERSION = "one"
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        os.write(1, f"start of {VERSION}\\n".encode())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        os.write(1, f"shutdown of {VERSION} {os.getpid()}\\n".encode())
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/slow":
        await pounce.sleep(float(scope["query_string"]))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body",
                "body": f"{VERSION} {os.getpid()} {threading.current_thread().name} hello".encode()})
"""


PROCESSES = ("--worker-kind", "process")


def write(folder, version="one"):
    (folder / "made.py").write_text(APP.replace('"one"', f'"{version}"'))
    # The compiled file of the last version looks like this one's when both were written within a second.
    with contextlib.suppress(FileNotFoundError):
        for path in (folder / "__pycache__").iterdir():
            path.unlink()
    return folder


@contextlib.contextmanager
def asking(server):
    clients = Clients(server.address)
    try:
        clients.wait_for(100)
        yield clients
    finally:
        clients.stop()


def settle(server, count):
    """Waits until only the last `count` workers are left: one that has been told to drain may not have heard it yet."""
    while server.log.count("\nstart of") - server.log.count("shutdown of") != count:
        assert server.process.poll() is None


def versions(server, count=12):
    return {get(server.address)[1].split()[0] for _ in range(count)}


KINDS = [("1", "process"), ("3", "process"), ("1", "thread"), ("3", "thread")]


@pytest.mark.parametrize(("workers", "kind"), KINDS)
def test_sighup_replaces_workers_one_by_one_and_loses_no_request(tmp_path, workers, kind):
    arguments = ("--port", "0", "--no-access-log", "--workers", workers, "--timeout-graceful-shutdown", "5")
    with Running("made:app", *arguments, "--worker-kind", kind, cwd=write(tmp_path)) as server:
        assert versions(server) == {b"one"}
        with asking(server) as clients:
            write(tmp_path, "two")
            server.send_signal(signal.SIGHUP)
            server.wait_for("The workers have been replaced.")
            server.wait_for("shutdown of one", count=int(workers))
            assert versions(server) == {b"two"}
        assert not clients.cut
        assert not clients.refused
        assert clients.answered
        assert server.stop() == (0 if kind == "process" else 143)
        assert server.log.count("shutdown of two") == int(workers)


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_sighup_with_an_application_that_does_not_start_leaves_the_workers(tmp_path, kind):
    arguments = ("--port", "0", "--no-access-log", "--workers", "2", "--worker-kind", kind)
    with Running("made:app", *arguments, cwd=write(tmp_path)) as server:
        (tmp_path / "made.py").write_text("import nothing_of_that_name\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for("The workers stay.")
        assert versions(server) == {b"one"}
        write(tmp_path, "two")
        server.send_signal(signal.SIGHUP)
        server.wait_for("The workers have been replaced.")
        settle(server, 2)
        assert versions(server) == {b"two"}
        assert server.stop() == (0 if kind == "process" else 143)


def test_sighup_during_a_replacement_begins_again(tmp_path):
    with Running(
        "made:app", "--port", "0", "--no-access-log", "--workers", "2", *PROCESSES, cwd=write(tmp_path)
    ) as server:
        for version in ("two", "three", "four"):
            write(tmp_path, version)
            server.send_signal(signal.SIGHUP)
            server.wait_for("SIGHUP: replacing", count={"two": 1, "three": 2, "four": 3}[version])
        server.wait_for("The workers have been replaced.")
        settle(server, 2)
        assert versions(server) == {b"four"}
        assert server.stop() == 0


def test_sighup_ends_old_workers_within_timeout_graceful_shutdown(tmp_path):
    arguments = ("--port", "0", *PROCESSES, "--timeout-graceful-shutdown", "0.5")
    with Running("made:app", *arguments, cwd=write(tmp_path)) as server:
        client = socket.create_connection(server.address)
        client.sendall(b"GET /slow?600 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_until_busy(server.address)
        server.send_signal(signal.SIGHUP)
        server.wait_for("Cancelled: GET /slow")
        server.wait_for("shutdown of one")
        assert get(server.address)[0] == 200
        client.close()


def test_sighup_with_an_application_that_was_no_import_string_is_refused_in_one_line(tmp_path):
    script = write(tmp_path) / "script.py"
    script.write_text("import made, pounce\npounce.run(made.app, port=0)\n")
    with Running(cwd=tmp_path, script=script) as server:
        server.send_signal(signal.SIGHUP)
        server.wait_for("SIGHUP is ignored: the application was handed over as an object, not as an import string.")
        assert get(server.address)[0] == 200
        assert server.stop() == 143


CONFIGURED = 'headers = [["X-Which", "{}"]]\nport = {}\n'


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_sighup_reads_pounce_toml_again_and_names_what_cannot_change(tmp_path, kind):
    write(tmp_path)
    (tmp_path / "pounce.toml").write_text(CONFIGURED.format("one", 0))
    with Running("made:app", "--no-access-log", "--worker-kind", kind, cwd=tmp_path) as server:
        assert (b"x-which", b"one") in fields(server)
        (tmp_path / "pounce.toml").write_text(CONFIGURED.format("two", 1) + "workers = 9\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for("--port cannot change while the server runs: it stays 0, not 1.")
        server.wait_for("--workers cannot change while the server runs: it stays the default, not 9.")
        server.wait_for("The workers have been replaced.")
        settle(server, 1)
        assert (b"x-which", b"two") in fields(server)
        (tmp_path / "pounce.toml").write_text("timeout_write = 'soon'\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for("SIGHUP is ignored, the workers stay: pounce.toml: timeout_write: 'soon' is not")
        assert (b"x-which", b"two") in fields(server)


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_sighup_in_a_folder_that_is_gone_is_refused_in_one_line_until_it_is_there_again(tmp_path, kind):
    folder = tmp_path / "release"
    folder.mkdir()
    with Running(
        "made:app", "--port", "0", "--no-access-log", "--worker-kind", kind, cwd=write(folder)
    ) as server:  # fmt: skip
        shutil.rmtree(folder)
        server.send_signal(signal.SIGHUP)
        server.wait_for(f"SIGHUP is ignored, the workers stay: the current folder {folder} is gone")
        assert versions(server) == {b"one"}
        folder.mkdir()
        write(folder, "two")
        server.send_signal(signal.SIGHUP)
        server.wait_for("The workers have been replaced.")
        settle(server, 1)
        assert versions(server) == {b"two"}
        assert "Traceback" not in server.log


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_sighup_loads_an_application_anew_whose_name_and_folder_were_not_those_of_the_start(tmp_path, kind):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "pounce.toml").write_text("app = 'made:app'\n")
    with Running("--port", "0", "--no-access-log", "--worker-kind", kind, cwd=write(first)) as server:
        (first / "pounce.toml").write_text(f"app = 'other:app'\napp_dir = '{second}'\n")
        for count, version in enumerate(("two", "three", "four"), 1):
            (second / "other.py").write_text(APP.replace('"one"', f'"{version}"') + "#" * 10 * count)
            server.send_signal(signal.SIGHUP)
            server.wait_for("The workers have been replaced.", count=count)
            settle(server, 1)
            assert versions(server) == {version.encode()}


def fields(server):
    with socket.create_connection(server.address, timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        head = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")[0]
    pairs = (line.partition(b": ") for line in head.split(b"\r\n")[1:])
    return [(name.lower(), value) for name, _, value in pairs]


def test_sighup_of_a_closed_terminal_ends_the_server(tmp_path):
    terminal, shown = pty.openpty()
    # The first terminal that the leader of a session opens is its own.
    command = f"exec {sys.executable} -m pounce made:app --port 0 < {os.ttyname(shown)}"
    with subprocess.Popen(
        ["sh", "-c", command], cwd=write(tmp_path), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if "running on" in line:
                os.close(shown)
                os.close(terminal)
            last = line
        assert process.wait(30) == -signal.SIGHUP
        assert "Finished server process" in last


WHICH = {"processes": PROCESSES, "threads": ("--worker-kind", "thread")}


def who(server, wanted):
    """Who answers, as soon as that is as many as wanted: a client of each."""
    while True:
        seen: set[bytes] = set()
        threads = [
            threading.Thread(target=lambda seen: seen.add(get(server.address, "/slow?0.1")[1]), args=(seen,))
            for _ in range(4 * wanted)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        if len(seen) == wanted:
            return seen


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("kind", WHICH)
def test_sigttin_adds_a_worker_and_sigttou_takes_it_away(tmp_path, kind, workers):
    if kind == "threads" and has_gil():
        pytest.skip("with the GIL, SIGTTIN adds no thread")
    count = int(workers)
    arguments = ("--port", "0", "--no-access-log", "--workers", workers, *WHICH[kind])
    with Running("made:app", *arguments, cwd=write(tmp_path)) as server:
        with asking(server) as clients:
            for more in (1, 2):
                server.send_signal(signal.SIGTTIN)
                server.wait_for(f"SIGTTIN: one worker more, {count + more} now.")
                server.wait_for("start of one", count=count + more)
            for left in range(count + 1, 0, -1):
                server.send_signal(signal.SIGTTOU)
                server.wait_for(f"SIGTTOU: one worker less, {left} now.")
            server.wait_for("shutdown of one", count=count + 1)
        assert not clients.cut
        assert not clients.refused
        server.send_signal(signal.SIGTTOU)
        server.wait_for("SIGTTOU is ignored: there is only one worker.")
        who(server, 1)
        for more in (1, 2):
            server.send_signal(signal.SIGTTIN)
            server.wait_for("start of one", count=count + 2 + more)
            who(server, 1 + more)
        assert server.stop() in (0, 143)
        assert server.log.count("shutdown of one") == count + 4


def test_sigttin_with_the_gil_adds_no_second_thread(tmp_path):
    if not has_gil():
        pytest.skip("needs a Python with the GIL")
    with Running("made:app", "--port", "0", cwd=write(tmp_path)) as server:
        server.send_signal(signal.SIGTTIN)
        server.wait_for("SIGTTIN is ignored: with the GIL, threads only take turns")
        assert get(server.address)[0] == 200


def test_sigttin_with_a_worker_that_does_not_start_keeps_the_others(tmp_path):
    with Running("made:app", "--port", "0", *PROCESSES, cwd=write(tmp_path)) as server:
        (tmp_path / "made.py").write_text("import nothing_of_that_name\n")
        server.send_signal(signal.SIGTTIN)
        server.wait_for("Worker 2 does not start; the server goes on without it.")
        assert versions(server) == {b"one"}
        assert server.stop() == 0


# Found by reading the code: the whole server was started again, with processes.
def test_sigttin_with_an_added_thread_that_does_not_start_is_done_without(tmp_path):
    if has_gil():
        pytest.skip("with the GIL, SIGTTIN adds no thread")
    third = 'os.write(1, f"start of {VERSION}\\n".encode())\n        starts.append(1)\n        assert len(starts) < 3'
    text = APP.replace('os.write(1, f"start of {VERSION}\\n".encode())', third).replace(
        "import pounce\n", "import pounce\nstarts = []\n"
    )
    assert text.count("starts") == 3
    (tmp_path / "made.py").write_text(text)
    with Running("made:app", "--port", "0", "--threads", "2", "--lifespan", "on", cwd=tmp_path) as server:
        server.send_signal(signal.SIGTTIN)
        server.wait_for("Worker 3 does not start; the server goes on without it.")
        assert versions(server) == {b"one"}
        assert "Workers will be processes" not in server.log
        assert server.stop() == 143


def test_sigttin_gives_an_added_thread_a_copy_of_the_application(tmp_path):
    if has_gil():
        pytest.skip("with the GIL, SIGTTIN adds no thread")
    (write(tmp_path) / "made.py").write_text("import asyncio\nlock = asyncio.Lock()\n" + APP)
    with Running("made:app", "--port", "0", cwd=tmp_path) as server:
        server.send_signal(signal.SIGTTIN)
        server.wait_for("SIGTTIN: one worker more, 2 now.")
        who(server, 2)
        assert "2 copies" in server.log
