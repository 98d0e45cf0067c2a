"""--reload: what a change of a file does to a server that runs, and to its clients."""

import contextlib
import os
import shutil
import signal
import socket
import textwrap
import time

import pytest

from pounce.supervisor.plan import has_gil
from tests.support.server import Running, ask, begin, get
from tests.system.traffic import Clients

APP = """
    import pounce
    VERSION = {version!r}
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({{"type": "lifespan.startup.{startup}"}})
            await receive()
            await send({{"type": "lifespan.shutdown.complete"}})
            return
        if scope["path"] == "/events":
            fields = [(b"content-type", b"text/event-stream")]
            await send({{"type": "http.response.start", "status": 200, "headers": fields}})
            await send({{"type": "http.response.body", "body": b"data: begun\\n\\n", "more_body": True}})
            while (await receive())["type"] != "http.disconnect": ...
            return
        if scope["path"] == "/wait":
            await pounce.sleep(600)
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": f"{{VERSION}} hello".encode()}})
"""
RELOAD = ("--port", "0", "--no-access-log", "--reload", "--reload-delay", "0")
BROWSER = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nConnection: close\r\n\r\n"


def write(folder, version="one", *, before="", startup="complete", name="made"):
    text = textwrap.dedent(before) + textwrap.dedent(APP).format(version=version, startup=startup)
    (folder / f"{name}.py").write_text(text)


@contextlib.contextmanager
def reloading(folder, *arguments, **options):
    with Running("made:app", *RELOAD, *arguments, cwd=folder, **options) as server:
        yield server


def version(server):
    return get(server.address)[1].split()[0].decode()


def reloaded(server, wanted, count=1):
    """Waits for a reload, and for the old workers to have heard that they retire."""
    server.wait_for("Reloaded in", count=count)
    end = time.monotonic() + 30
    while {version(server) for _ in range(6)} != {wanted}:
        assert time.monotonic() < end, server.log


@pytest.mark.parametrize("threads", ["1", "3"])
def test_reload_serves_the_new_code_and_no_request_fails(tmp_path, threads):
    write(tmp_path)
    with reloading(tmp_path, "--threads", threads) as server:
        clients = Clients(server.address)
        for number in range(1, 6):
            write(tmp_path, f"version{number}")
            reloaded(server, f"version{number}", number)
            clients.wait_for(clients.answered + 100)
        clients.stop()
        assert clients.cut == []
        assert clients.refused == 0
        assert server.stop(signal.SIGINT) == 0


def test_reload_answers_the_next_request_of_a_kept_connection_with_the_new_code(tmp_path):
    write(tmp_path)
    with reloading(tmp_path) as server, socket.create_connection(server.address, timeout=30) as client:
        for number, text in enumerate(("one", "two", "three")):
            if number:
                write(tmp_path, text)
                reloaded(server, text, number)
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = client.recv(65536)
            assert answer.endswith(text.encode() + b" hello")
            assert b"connection: close" not in answer.lower()


@pytest.mark.parametrize(
    ("mistake", "shown"),
    [
        ("def :\n", "SyntaxError"),
        ("import no_such_module\n", "no_such_module"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("raise SystemExit(5)\n", "SystemExit: 5"),
    ],
)
def test_reload_with_a_mistake_serves_the_last_code_and_shows_browsers_the_error(tmp_path, mistake, shown):
    write(tmp_path)
    with reloading(tmp_path) as server:
        write(tmp_path, "two", before=mistake)
        server.wait_for("The application is served as it was before the change, until the next one.")
        assert version(server) == "one"
        page = ask(server.address, BROWSER)
        assert page.startswith(b"HTTP/1.1 500 ")
        assert shown.encode() in page
        write(tmp_path, "three")
        reloaded(server, "three")
        assert b"three hello" in ask(server.address, BROWSER)
        assert "pounce/app" not in server.log  # the application's own frames
        assert server.stop(signal.SIGINT) == 0


def test_reload_with_a_lifespan_that_fails_serves_the_last_code(tmp_path):
    write(tmp_path)
    with reloading(tmp_path) as server:
        write(tmp_path, "two", startup="failed")
        server.wait_for("The application is served as it was before the change")
        assert version(server) == "one"
        write(tmp_path, "three")
        reloaded(server, "three")


def test_reload_with_a_lifespan_that_hangs_is_ended_by_the_next_change(tmp_path):
    write(tmp_path)
    with reloading(tmp_path) as server:
        write(tmp_path, "two", before="import pounce\n")
        text = (
            (tmp_path / "made.py")
            .read_text()
            .replace("await receive()\n", "print('hangs'); await pounce.sleep(600)\n", 1)
        )
        (tmp_path / "made.py").write_text(text)
        server.wait_for("hangs")
        assert version(server) == "one"
        write(tmp_path, "three")
        reloaded(server, "three")
        assert server.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("mistake", [{"before": "1 / 0\n"}, {"before": "def :\n"}, {"startup": "failed"}])
def test_reload_of_a_server_that_was_started_with_a_mistake_waits_for_the_change_that_mends_it(tmp_path, mistake):
    write(tmp_path, **mistake)
    with reloading(tmp_path) as server:
        status, text = get(server.address)
        assert (status, text) == (500, b"The application cannot be loaded. The server's log says why.\n")
        assert ask(server.address, BROWSER).startswith(b"HTTP/1.1 500 ")
        write(tmp_path, "two")
        reloaded(server, "two")
        assert server.stop(signal.SIGINT) == 0


def test_reload_is_not_held_up_by_event_streams_and_a_request_that_waits(tmp_path):
    write(tmp_path)
    with reloading(tmp_path) as server:
        events, waiting = begin(server.address, "/events"), begin(server.address, "/wait")
        while b"begun" not in events.recv(65536):
            ...
        server.wait_until_busy(server.address)
        write(tmp_path, "two")
        reloaded(server, "two")
        assert b"".join(iter(lambda: events.recv(65536), b"")).endswith(b"0\r\n\r\n")
        server.wait_for("Cancelled: GET /wait")
        assert waiting.recv(65536).startswith(b"HTTP/1.1 503 ")
        events.close()
        waiting.close()


def test_reload_of_a_changed_library_executes_the_command_again_with_its_sockets(tmp_path):
    library = tmp_path / "lib"
    library.mkdir()
    (library / "shelf.py").write_text("BOOK = 1\n")
    app = tmp_path / "app"
    app.mkdir()
    write(app, before="import shelf\n")
    environment = {"PYTHONPATH": str(library)}
    watched = ("--reload-dir", ".", "--reload-include", str(library / "shelf.py"))
    with reloading(app, *watched, env=environment) as server:
        pid = server.process.pid
        clients = Clients(server.address)
        clients.wait_for(100)
        (library / "shelf.py").write_text("BOOK = 22\n")
        server.wait_for("Restarting the process, because")
        server.wait_for("Pounce running on", count=2)
        clients.wait_for(clients.answered + 100)
        clients.stop()
        assert clients.refused == 0
        assert clients.cut == []
        assert server.process.pid == pid
        assert server.stop(signal.SIGINT) == 0


def test_reload_of_what_cannot_be_executed_twice_executes_the_command_again(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "register.py").write_text(
        "names = []\ndef add(name):\n    assert name not in names, 'registered already'\n    names.append(name)\n"
    )
    app = tmp_path / "app"
    app.mkdir()
    write(app, before="import register\nregister.add('metric')\n")
    with reloading(app, env={"PYTHONPATH": str(tmp_path / "lib")}) as server:
        for count, text in ((2, "two"), (3, "three")):
            write(app, text, before="import register\nregister.add('metric')\n")
            server.wait_for(
                "Restarting the process, because loading its modules again has failed: "
                "AssertionError: registered already.",
                count=count - 1,
            )
            server.wait_for("Pounce running on", count=count)
            assert version(server) == text
        assert server.stop(signal.SIGINT) == 0


def test_reload_of_a_changed_env_file_executes_the_command_again(tmp_path):
    pytest.importorskip("dotenv", reason="python-dotenv is not installed")
    write(tmp_path, before="import os\n")
    text = (tmp_path / "made.py").read_text().replace("VERSION = 'one'", "VERSION = os.environ['WHICH']")
    (tmp_path / "made.py").write_text(text)
    (tmp_path / ".env").write_text("WHICH=first\n")
    with reloading(tmp_path, "--env-file", ".env") as server:
        assert version(server) == "first"
        (tmp_path / ".env").write_text("WHICH=second\n")
        server.wait_for("Restarting the process, because '.env' is read only at the start.")
        server.wait_for("Pounce running on", count=2)
        assert version(server) == "second"


def test_reload_that_cannot_restart_the_process_serves_the_last_code(tmp_path):
    (tmp_path / "settings.py").write_text("VALUE = 1\n")
    write(tmp_path, before="import settings\n")
    (tmp_path / "pounce.toml").write_text("timeout_write = 30\n")
    with reloading(tmp_path) as server:
        (tmp_path / "pounce.toml").write_text("timeout_write = 'soon'\n")
        server.wait_for("pounce.toml: timeout_write: 'soon' is not")
        server.wait_for("The application is served as it was before the change")
        assert version(server) == "one"
        (tmp_path / "pounce.toml").write_text("timeout_write = 20\n")
        server.wait_for("Pounce running on", count=2)
        assert version(server) == "one"


def test_reload_ends_at_ctrl_c_while_the_new_code_is_imported_for_ever(tmp_path):
    write(tmp_path)
    with reloading(tmp_path, "--timeout-graceful-shutdown", "1") as server:
        write(tmp_path, "two", before="print('hangs')\nimport time\nwhile True: time.sleep(1)\n")
        server.wait_for("hangs")
        assert version(server) == "one"
        assert server.stop(signal.SIGINT) == 0


def test_reload_gives_each_thread_its_copy_of_what_is_bound_to_a_loop(tmp_path):
    if has_gil():
        pytest.skip("with the GIL there is one worker thread")
    bound = "import asyncio, threading\nlock = asyncio.Lock()\n"
    write(tmp_path, before=bound)
    with reloading(tmp_path, "--threads", "3") as server:
        for number in (1, 2, 3):
            write(tmp_path, f"version{number}", before=bound)
            reloaded(server, f"version{number}", number)
            assert server.log.count("3 copies of made") == number + 1
        assert server.stop(signal.SIGINT) == 0


def test_reload_with_the_gil_has_one_worker_thread(tmp_path):
    if not has_gil():
        pytest.skip("needs a Python with the GIL")
    write(tmp_path)
    with reloading(tmp_path, "--workers", "3") as server:
        assert "--reload: one worker thread, because this Python has the GIL." in server.log
        assert "1 worker thread" in server.log
        write(tmp_path, "two")
        reloaded(server, "two")


def test_reload_of_an_application_that_is_an_object_is_an_error_in_one_line(tmp_path):
    write(tmp_path)
    script = tmp_path / "script.py"
    script.write_text("import made, pounce\npounce.run(made.app, port=0, reload=True)\n")
    with Running(cwd=tmp_path, script=script, ready=False) as server:
        assert server.end() == 3
        assert server.lines == ["ERROR:    reload needs the application as an import string, such as 'main:app'"]


def test_reload_in_a_program_reloads_and_says_where_it_cannot(tmp_path):
    write(tmp_path, before="import json\n")
    (tmp_path / "pounce.toml").write_text("timeout_write = 30\n")
    script = tmp_path / "script.py"
    script.write_text("import pounce\nif __name__ == '__main__':\n    pounce.run('made:app', port=0, reload=True)\n")
    with Running(cwd=tmp_path, script=script) as server:
        write(tmp_path, "two")
        reloaded(server, "two")
        (tmp_path / "pounce.toml").write_text("timeout_write = 10\n")
        server.wait_for("Not reloaded: it needs a new process, because 'pounce.toml' is read only at the start.")
        assert version(server) == "two"
        assert server.stop(signal.SIGINT) == 0


def test_sighup_with_reload_reloads(tmp_path):
    write(tmp_path)
    with reloading(tmp_path) as server:
        server.send_signal(signal.SIGHUP)
        server.wait_for("SIGHUP: reloading.")
        server.wait_for("Reloaded in")
        assert server.stop(signal.SIGINT) == 0


IMPATIENT = """
import sys
from pounce.cli import main
from pounce.supervisor import reload

reload.MAX_LOAD = 0.3
main(sys.argv[1:])
"""


def test_reload_of_an_import_that_hangs_executes_the_command_again_at_the_next_change(tmp_path):
    script = tmp_path / "tool" / "impatient.py"
    script.parent.mkdir()
    script.write_text(IMPATIENT)
    app = tmp_path / "app"
    app.mkdir()
    write(app)
    with reloading(app, script=script) as server:
        write(app, "two", before="print('hangs')\nimport time\nwhile True: time.sleep(0.01)\n")
        server.wait_for("hangs")
        write(app, "three")
        server.wait_for("Restarting the process, because the import before this change has not ended.")
        server.wait_for("Pounce running on", count=2)
        assert version(server) == "three"
        assert server.stop(signal.SIGINT) == 0


def test_reload_of_a_first_start_that_hangs_starts_again_at_the_next_change(tmp_path):
    write(tmp_path)
    text = (tmp_path / "made.py").read_text()
    hanging = text.replace("await receive()\n", "print('hangs'); await pounce.sleep(600)\n", 1)
    (tmp_path / "made.py").write_text(hanging)
    with Running("made:app", *RELOAD, cwd=tmp_path, ready=False) as server:
        server.wait_for("hangs")
        write(tmp_path, "two")
        reloaded(server, "two")
        assert "detected changes in 'made.py'. Starting again..." in server.log
        assert server.stop(signal.SIGINT) == 0


def test_reload_of_a_folder_that_was_removed_and_made_again_serves_the_new_code(tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    write(app)
    with reloading(app, "--reload-dir", str(tmp_path)) as server:
        shutil.rmtree(app)
        server.wait_for("The application is served as it was before the change")
        assert version(server) == "one"
        app.mkdir()
        write(app, "two")
        reloaded(server, "two")
        assert server.stop(signal.SIGINT) == 0


def test_reload_of_an_application_that_leaves_processes_behind_executes_the_command_again(tmp_path):
    left = "import subprocess\nprint(subprocess.Popen(['sleep', '60']).pid, file=open('left', 'a'), flush=True)\n"
    write(tmp_path, before=left)
    (tmp_path / "pounce.toml").write_text("timeout_write = 30\n")
    with reloading(tmp_path) as server:
        (tmp_path / "pounce.toml").write_text("timeout_write = 20\n")
        try:
            server.wait_for("Pounce running on", count=2)
            assert version(server) == "one"
        finally:
            for pid in (tmp_path / "left").read_text().split():
                os.kill(int(pid), signal.SIGKILL)


TWICE = """
import sys, time
if hasattr(sys, "begun"):
    raise AssertionError("registered already")
sys.begun = True
"""
"""What cannot be executed twice in one process."""


def test_reload_shows_why_a_fresh_process_fails_where_that_gets_further(tmp_path):
    write(tmp_path, before=TWICE)
    with reloading(tmp_path) as server:
        write(tmp_path, "two", before=TWICE + "raise ValueError('mistaken')\n")
        server.wait_for("The application is served as it was before the change")
        page = ask(server.address, BROWSER)
        assert b"ValueError: mistaken" in page
        assert b"registered already" not in page
        assert version(server) == "one"


def test_reload_of_a_change_while_a_fresh_process_hangs_ends_that(tmp_path):
    write(tmp_path, before=TWICE)
    with reloading(tmp_path) as server:
        write(tmp_path, "two", before=TWICE + "open('hangs', 'w').close()\nwhile True: time.sleep(0.01)\n")
        while not (tmp_path / "hangs").exists():
            assert server.process.poll() is None
        write(tmp_path, "three")
        reloaded(server, "three")
        assert server.stop(signal.SIGINT) == 0


def test_reload_names_a_thread_in_which_code_from_before_the_change_still_runs(tmp_path):
    write(tmp_path, before="import threading, time\ndef tick():\n    while True: time.sleep(0.01)\n")
    text = (tmp_path / "made.py").read_text()
    start = 'threading.Thread(target=tick, name="ticker", daemon=True).start()'
    (tmp_path / "made.py").write_text(text.replace("await receive()\n", f"await receive(); {start}\n", 1))
    with reloading(tmp_path) as server:
        write(tmp_path, "two")
        reloaded(server, "two")
        server.wait_for("Code from before the change still runs in the thread 'ticker'.")
        assert server.stop(signal.SIGINT) == 0
