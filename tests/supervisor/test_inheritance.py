"""The server's command is executed again: in place, with the sockets, or only to see whether the application loads."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from pounce.supervisor.inheritance import LISTENERS, READY_FD, Command, Predecessor
from tests.support.server import Running, begin, get
from tests.support.service_manager import activating
from tests.support.upgrades import Asking, write_version

# At `/again` it orders what `--reload` orders when a change needs a new process.
AGAIN = """
import os, signal
import pounce
server = signal.getsignal(signal.SIGTERM).__self__
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("lifespan ends", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/again":
        server._post(lambda: server._supervisor.execute_again(GRACE))
    headers = [(b"content-type", b"text/event-stream")] if scope["path"] == "/events" else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"VERSION ", "more_body": True})
    if scope["path"] in ("/slow", "/events"):
        while (await receive())["type"] != "http.disconnect": pass
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""


def write(folder, version, grace="30.0", before=""):
    (folder / "main.py").write_text(before + AGAIN.replace("VERSION", version).replace("GRACE", grace))


def started(folder, *arguments):
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    return Running("main:app", *(arguments or ("--port", "0")), cwd=folder, env=env)


def test_in_place_it_keeps_the_sockets_of_the_service_manager(tmp_path):
    write(tmp_path, "one")
    with socket.create_server(("127.0.0.1", 0)) as given:
        fds = [given.fileno()]
        env = {"PYTHONDONTWRITEBYTECODE": "1"}
        with Running("main:app", cwd=tmp_path, env=env, prefix=activating(fds, "web"), pass_fds=fds) as server:
            write(tmp_path, "two")
            assert get(server.address, "/again")[0] == 200
            server.wait_for("Pounce running on", count=2)
            content = get(given.getsockname())[1]
            assert b"two" in content
            assert str(server.process.pid).encode() in content


def test_in_place_it_keeps_the_pid_file_and_removes_it_at_the_end(tmp_path):
    write(tmp_path, "one")
    path = tmp_path / "server.pid"
    with started(tmp_path, "--port", "0", "--pid-file", str(path)) as server:
        for count in (2, 3):
            assert get(server.address, "/again")[0] == 200
            server.wait_for("Pounce running on", count=count)
            assert path.read_text() == f"{server.process.pid}\n"
        server.stop()
    assert not path.exists()


def test_in_place_it_keeps_number_and_port_and_clients_that_ask_meanwhile_are_answered(tmp_path):
    write(tmp_path, "one")
    with started(tmp_path) as server, Asking(server.address) as clients:
        address, pid = server.address, str(server.process.pid).encode()
        for count, version in enumerate((b"two", b"three"), 2):
            write(tmp_path, version.decode())
            assert get(address, "/again")[0] == 200
            clients.wait_for(version)
            server.wait_for("Pounce running on", count=count)
        content = get(address)[1]
        assert b"three" in content
        assert pid in content
        assert not clients.failures
        assert {status for status, _ in clients.answers} == {200}
        assert server.log.count("lifespan ends") == 2
    assert server.address == address


def test_in_place_the_file_of_a_unix_socket_stays(tmp_path):
    write(tmp_path, "one")
    path = str(tmp_path / "a.sock")
    with started(tmp_path, "--uds", path) as server:
        inode = os.stat(path).st_ino
        write(tmp_path, "two")
        get(path, "/again")
        server.wait_for("Pounce running on", count=2)
        assert os.stat(path).st_ino == inode
        assert b"two" in get(path)[1]
        server.stop()
        assert not os.path.exists(path)


def test_in_place_a_request_that_runs_has_the_grace_and_is_cancelled_then(tmp_path):
    write(tmp_path, "one", grace="0.1")
    with started(tmp_path) as server:
        slow = begin(server.address, "/slow")
        assert b"one" in slow.recv(4096)
        get(server.address, "/again")
        server.wait_for("Pounce running on", count=2)
        assert "Cancelled: GET /slow" in server.log
        slow.close()


def test_in_place_an_event_stream_ends_at_once_as_if_it_were_complete(tmp_path):
    write(tmp_path, "one", grace="600.0")
    with started(tmp_path) as server:
        stream = begin(server.address, "/events")
        assert b"one" in stream.recv(4096)
        get(server.address, "/again")
        assert stream.recv(4096).endswith(b"0\r\n\r\n")
        server.wait_for("Pounce running on", count=2)
        stream.close()


def test_in_place_a_signal_meanwhile_ends_the_server_and_closes_the_sockets(tmp_path):
    write(tmp_path, "one", grace="600.0")
    path = str(tmp_path / "a.sock")
    with started(tmp_path, "--uds", path) as server:
        slow = begin_at(path, "/slow")
        assert b"one" in slow.recv(4096)
        get(path, "/again")
        server.wait_for("Shutting down")
        server.send_signal(signal.SIGTERM)
        slow.close()
        assert server.end() == 143
        assert server.log.count("Pounce running on") == 1
        assert not os.path.exists(path)


def begin_at(path, target):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(path)
    client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return client


def test_in_place_ctrl_c_while_threads_are_waited_for_ends_the_process(tmp_path):
    write(tmp_path, "one", before="import threading\nthreading.Thread(target=threading.Event().wait).start()\n")
    with started(tmp_path) as server:
        get(server.address, "/again")
        server.wait_for("Waiting for threads to end")
        assert server.stop(signal.SIGINT) == 0
        assert server.log.count("Pounce running on") == 1


def test_in_place_a_command_that_is_not_there_any_more_is_one_line(tmp_path):
    write(tmp_path, "one")
    (tmp_path / "start.py").write_text(
        "import sys\nfrom pounce.supervisor import inheritance\n"
        "of = inheritance.Command.of_this_process\n"
        "inheritance.Command.of_this_process = lambda: of()._replace(arguments=['/nowhere/python'])\n"
        "from pounce.cli import main\nmain(['main:app', '--port', '0'])\n"
    )
    with Running(script=tmp_path / "start.py", cwd=tmp_path) as server:
        get(server.address, "/again")
        assert server.end() == 3
        assert server.lines[-1] == "ERROR:    cannot execute /nowhere/python: no such file or directory."
        assert "Traceback" not in server.log


# What goes to the next process


def test_the_command_has_the_environment_of_the_server_s_start(monkeypatch):
    command = Command.of_this_process()
    monkeypatch.setenv("SET_LATER", "by the application")
    assert b"SET_LATER" not in command.environment
    environment = command.environment_with(**{LISTENERS: "7 8", READY_FD: ""})
    assert environment[LISTENERS.encode()] == b"7 8"
    assert READY_FD.encode() not in environment


def test_the_folder_is_that_of_pwd_only_where_that_is_the_same_folder(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "link")
    for named, expected in (("link", "link"), ("real", "real"), (".", "real"), ("nowhere", "real")):
        monkeypatch.setenv("PWD", str(tmp_path / named))
        assert Command.of_this_process().folder == str(tmp_path / expected)


def test_the_application_and_what_it_executes_see_nothing_of_what_was_inherited(monkeypatch):
    reader, writer = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        os.set_inheritable(writer, True)
        fd = os.dup(sock.fileno())
        os.set_inheritable(fd, True)
        monkeypatch.setenv(LISTENERS, str(fd))
        monkeypatch.setenv(READY_FD, str(writer))
        predecessor = Predecessor()
        assert LISTENERS not in os.environ
        assert READY_FD not in os.environ
        assert not os.get_inheritable(writer)
        assert not os.get_inheritable(fd)
        assert predecessor.serves
        (taken,) = predecessor.sockets.of_tcp(socket.AF_INET, "127.0.0.1", 0, dual=False)
        assert taken.fileno() == fd
        assert predecessor.tell()
        assert not predecessor.serves
        assert os.read(reader, 100) == f"{fd}\n".encode()
        taken.close()
    os.close(reader)


def test_a_process_that_is_forked_before_does_not_keep_the_pipe_open(monkeypatch):
    reader, writer = os.pipe()
    monkeypatch.setenv(READY_FD, str(writer))
    predecessor = Predecessor()
    waits, ends = os.pipe()
    child = os.fork()
    if not child:
        os.close(ends)
        os.read(waits, 1)
        os._exit(0)
    os.close(waits)
    assert predecessor.serves
    os.close(writer)  # as at the end of this process
    assert os.read(reader, 1) == b""
    predecessor._ready_fd = None
    os.close(ends)
    os.waitpid(child, 0)
    os.close(reader)


def test_a_predecessor_that_is_gone_is_not_told(monkeypatch):
    reader, writer = os.pipe()
    monkeypatch.setenv(READY_FD, str(writer))
    predecessor = Predecessor()
    os.close(reader)
    assert not predecessor.tell()


@pytest.mark.parametrize("text", ["", "x", "987654"])
def test_without_a_pipe_there_is_no_predecessor(monkeypatch, text):
    monkeypatch.setenv(READY_FD, text)
    assert not Predecessor().serves


# POUNCE_ONLY_LOAD


def load_only(folder, *arguments, timeout=60):
    return subprocess.run(
        [sys.executable, "-m", "pounce", "main:app", *arguments],
        cwd=folder, env={**os.environ, "POUNCE_ONLY_LOAD": "1"}, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


def test_only_load_loads_and_ends_without_a_socket_and_whatever_threads_are_left(tmp_path):
    write_version(tmp_path, "one", before=(
        "import os, threading\nthreading.Thread(target=threading.Event().wait).start()\n"
        "print('loaded', 'POUNCE_ONLY_LOAD' in os.environ, flush=True)\n"
    ))  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = load_only(tmp_path, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "loaded False\n"
    assert "running on" not in done.stderr


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [("1 +", 1, "SyntaxError"), ("raise RuntimeError('as told')", 1, "RuntimeError: as told"), ("", 3, "Attribute"),
     ("import sys\nsys.exit(5)", 5, "")],
)  # fmt: skip
def test_only_load_gives_the_code_and_the_words_of_a_start_that_fails(tmp_path, source, code, words):
    (tmp_path / "main.py").write_text(source)
    done = load_only(tmp_path)
    assert done.returncode == code
    assert words in done.stderr
    assert str(tmp_path / "main.py") in done.stderr or code in (3, 5)


def test_only_load_with_an_invalid_option_ends_with_2(tmp_path):
    write_version(tmp_path, "one")
    assert load_only(tmp_path, "--log-config", "nowhere.json").returncode == 2
