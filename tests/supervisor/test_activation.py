"""Sockets that the service manager has opened: LISTEN_FDS."""

import contextlib
import json
import os
import socket
import subprocess
import sys

import pytest

from tests.support.requirements import tool
from tests.support.server import get
from tests.support.service_manager import activating
from tests.support.upgrades import Asking, Lineage, wait_ended, write_version

# Answers with what it knows of itself.
REPORT = """
import json, os
async def app(scope, receive, send):
    assert scope["type"] == "http"
    environment = {name: value for name, value in os.environ.items() if name.startswith("LISTEN_")}
    content = {"environment": environment, "server": scope["server"]}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(REPORT)
    return tmp_path


@pytest.fixture
def tcp():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def unix(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "http.sock"))
        sock.listen()
        yield sock


def started(folder, sockets, names, *arguments, **options):
    fds = [sock.fileno() for sock in sockets]
    return Lineage(
        "main:app", *arguments, cwd=folder, prefix=activating(fds, names), pass_fds=fds, env={"LANG": "C"}, **options
    )


def refusal(folder, sockets, names, *arguments):
    """The line with which the server does not start."""
    with started(folder, sockets, names, *arguments, ready=False) as server:
        assert server.end() == 3
        (line,) = [line for line in server.lines if line.startswith("ERROR")]
        assert "Traceback" not in server.log
        return line.removeprefix("ERROR:").strip()


def address(sock):
    name = sock.getsockname()
    return name if isinstance(name, str) else name[:2]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_listen_fds_all_of_them_are_used_without_an_option_and_the_application_sees_no_variable(
    folder, tcp, unix, workers
):
    with started(folder, [tcp, unix], "web:admin", "--workers", workers) as server:
        for sock in (tcp, unix):
            status, content = get(address(sock))
            assert status == 200
            wanted = [address(sock), None] if sock is unix else list(address(sock))
            assert json.loads(content) == {"environment": {}, "server": wanted}
        assert "has no effect" not in server.log


@pytest.mark.parametrize("option", [["--port", "0"], ["--uds", "other.sock"], ["--bind", "127.0.0.1:0"]])
def test_listen_fds_wins_over_an_address_which_is_logged(folder, tcp, option):
    with started(folder, [tcp], "web", *option) as server:
        assert get(address(tcp))[0] == 200
        assert server.address == address(tcp)
        assert "has no effect: the server listens at the sockets that the service manager has given it" in server.log
    assert not (folder / "other.sock").exists()


@pytest.mark.parametrize("option", [["--fd", "4"], ["--bind", "fd://4"], ["--bind", "fd://web"]])
def test_fd_by_number_or_name_chooses_among_them_and_one_that_is_left_is_logged(folder, tcp, unix, option):
    with started(folder, [unix, tcp], "admin:web", *option) as server:
        assert get(address(tcp))[0] == 200
        assert "given a socket that no option names, and nobody accepts from it: descriptor 3, admin" in server.log


def test_fd_name_means_every_socket_of_that_name(folder, tcp, unix):
    with started(folder, [tcp, unix], "shop.socket:shop.socket", "--bind", "fd://shop.socket") as server:
        assert get(address(tcp))[0] == get(address(unix))[0] == 200
        assert "no option names" not in server.log


def test_fd_name_that_is_none_of_theirs_ends_the_start_with_those_there_are(folder, tcp, unix):
    line = refusal(folder, [tcp, unix], "web:admin", "--bind", "fd://wbe")
    assert line == (
        "cannot bind (--bind fd://wbe): the service manager has given no socket of this name; it has given admin, web"
    )


def test_fd_name_without_a_service_manager_ends_the_start(folder):
    with Lineage("main:app", "--bind", "fd://web", cwd=folder, ready=False) as server:
        assert server.end() == 3
        assert "no socket of this name; it has given none at all" in server.log


def test_listen_pid_of_another_process_is_logged_and_its_sockets_are_not_used(folder, tcp):
    env = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "web"}
    with Lineage("main:app", "--port", "0", cwd=folder, env=env) as server:
        assert f"the sockets are for process {os.getpid()}, and this one is {server.process.pid}" in server.log
        assert json.loads(get(server.address)[1])["environment"] == {}


@contextlib.contextmanager
def connection():
    """As of a socket unit with Accept=yes."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            yield accepted


@contextlib.contextmanager
def file():
    with open(os.devnull) as opened:
        yield opened


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (connection, "it is a connection, not a listening socket; a systemd socket unit needs Accept=no"),
        (lambda: socket.socket(type=socket.SOCK_DGRAM), "it is not a stream socket; a systemd socket unit needs"),
        (lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW), "it is neither an IP socket nor a Unix socket"),
        (file, "socket operation on non-socket"),
    ],
    ids=["accepted", "datagram", "netlink", "file"],
)
def test_listen_fds_of_another_kind_end_the_start_in_one_line(folder, make, wanted):
    with make() as given:
        assert refusal(folder, [given], "web").startswith(f"cannot bind (LISTEN_FDS: descriptor 3, web): {wanted}")


def test_listen_fds_that_is_no_number_ends_the_start(folder):
    with Lineage("main:app", cwd=folder, env={"LISTEN_FDS": "one"}, ready=False) as server:
        assert server.end() == 3
        assert "LISTEN_FDS=one is not a number" in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigusr2_passes_them_on_with_their_names_and_no_client_is_refused(tmp_path, tcp, unix, workers):
    write_version(tmp_path, "one")
    with started(tmp_path, [tcp, unix], "web:admin", "--workers", workers) as server:
        with Asking(address(tcp)) as clients, Asking(address(unix), 1) as others:
            for version in ("two", "three"):
                write_version(tmp_path, version)
                server.upgrade()
                clients.wait_for(version.encode())
                others.wait_for(version.encode())
        assert not clients.failures + others.failures
        assert server.end() == 0
        server.stop_newest()
    assert os.path.exists(address(unix))


def test_sigusr2_with_an_option_that_chooses_by_name_still_has_that_socket(tmp_path, tcp, unix):
    write_version(tmp_path, "one")
    with started(tmp_path, [unix, tcp], "admin:web", "--bind", "fd://web") as server:
        write_version(tmp_path, "two")
        server.upgrade()
        assert server.end() == 0
        assert get(address(tcp)) == (200, b"two")
        server.stop_newest()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_client_that_comes_between_two_servers_is_answered_by_the_second(tmp_path, tcp, workers):
    write_version(tmp_path, "one")
    with started(tmp_path, [tcp], "web", "--workers", workers) as server:
        assert get(address(tcp)) == (200, b"one")
        server.stop()
    with socket.create_connection(address(tcp), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        with started(tmp_path, [tcp], "web", "--workers", workers):
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_systemd_socket_activate_starts_the_server_when_the_first_client_comes(folder, tmp_path):
    path = str(tmp_path / "activated.sock")
    server = [sys.executable, "-m", "pounce", "main:app", "--bind", "fd://web"]
    command = [tool("systemd-socket-activate"), "-l", path, "--fdname=web", "-E", "PATH", *server]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "Listening on" in line:
                    break
            status, content = get(path)
            assert status == 200
            assert json.loads(content) == {"environment": {}, "server": [path, None]}
        finally:
            process.terminate()
    wait_ended(process.pid)
