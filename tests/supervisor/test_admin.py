"""--admin and --health of whole servers: what probes are told while a server starts, works, is replaced and ends."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading

import pytest

import pounce
from pounce.admin.listener import MAX_FAILURES
from pounce.testing import TestServer
from tests.support.server import APPS, Running, begin, get, single
from tests.support.upgrades import Lineage, wait_ended, write_version
from tests.system.test_cli import run

ADMIN = ("--admin", "127.0.0.1:0")
LONG = "600"


def started(*arguments, app="plain:app", **options):
    return Running(app, "--port", "0", *ADMIN, *arguments, **options)


def readyz(server):
    status, content = get(server.admin, "/readyz")
    return status, json.loads(content)


def wait_until(condition, turns=3000):
    for _ in range(turns):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it does not happen")


class Probes:
    """Asks for one path all the while, each time on a new connection, and notes every answer and failure."""

    def __init__(self, address, path):
        self.answers = []
        self._address, self._path = address, path
        self._stopped = False
        self._thread = threading.Thread(target=self._ask)

    def _ask(self):
        while not self._stopped:
            try:
                status, content = get(self._address, self._path)
                self.answers.append(status if status == 200 else (status, content))
            except (OSError, ValueError, IndexError) as error:
                self.answers.append(repr(error))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped = True
        self._thread.join(30)


# While it works


@pytest.mark.parametrize("arguments", [
    ("--workers", "1"), ("--workers", "4"), ("--workers", "2", "--worker-kind", "process"),
    ("--workers", "2", "--worker-kind", "thread"),
], ids=" ".join)  # fmt: skip
def test_the_admin_listener_answers_while_every_worker_is_blocked(arguments):
    with started(*arguments) as server:
        count = int(arguments[1])
        blockers = []

        def blocked():
            found = [worker["state"] for worker in readyz(server)[1]["workers"]]
            if found.count("blocked") == count:
                return True
            if len(blockers) < 64:  # until each worker has got one
                blockers.append(begin(server.address, "/block?3"))
            return False

        wait_until(blocked)
        asked = [get(server.admin, path)[0] for _ in range(20) for path in ("/livez", "/readyz")]
        assert set(asked) == {200}
        for blocker in blockers:  # nobody has been answered yet: all 40 answers came before
            blocker.setblocking(False)
            with pytest.raises(BlockingIOError):
                blocker.recv(1)
            blocker.close()
        server.send_signal(signal.SIGINT)
        server.wait_for("Shutting down")
        server.stop(signal.SIGINT)


def test_admin_gives_a_single_worker_a_thread_of_its_own():
    with started("--workers", "1", "--worker-kind", "thread") as server:
        assert json.loads(get(server.address, "/who")[1])["thread"] == "pounce-worker-1"
        server.stop()
    with Running("plain:app", "--port", "0", "--workers", "1") as server:
        assert json.loads(get(server.address, "/who")[1])["thread"] == "MainThread"
        server.stop()


def test_neither_admin_nor_health_requests_are_logged():
    with started("--health", "/healthz") as server:
        assert get(server.admin, "/livez")[0] == get(server.address, "/healthz")[0] == get(server.address)[0] == 200
        server.stop()
        assert '"GET / HTTP/1.1" 200' in server.log
        assert "/healthz HTTP" not in server.log
        assert "/livez HTTP" not in server.log


def test_a_worker_process_that_is_killed_is_shown_and_replaced_and_the_server_stays_live():
    with (
        started("--workers", "2", "--worker-kind", "process") as server,
        Probes(server.admin, "/livez") as live,
        Probes(server.admin, "/readyz") as ready,
    ):
        for _ in range(3):
            name = readyz(server)[1]["workers"][0]["name"]
            os.kill(int(name.removeprefix("process ")), signal.SIGKILL)
            wait_until(lambda name=name: readyz(server)[1]["workers"][0]["name"] not in (name, ""))
        wait_until(lambda: {each["state"] for each in readyz(server)[1]["workers"]} == {"serving"})
        assert set(live.answers) == set(ready.answers) == {200}


# While it starts and ends

SLOW_START = """
import os, pounce
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    while not os.path.exists("gate"):
        await pounce.sleep(0.01)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_whose_application_starts_is_live_and_not_ready(tmp_path, workers):
    (tmp_path / "slow.py").write_text(SLOW_START)
    with started("--workers", workers, app="slow:app", cwd=tmp_path, ready=False) as server:
        assert get(server.admin, "/livez")[0] == 200
        status, content = readyz(server)
        assert status == 503
        assert content["state"] == "starting"
        assert content["workers"][0]["state"] == "starting"
        (tmp_path / "gate").touch()
        server.wait_for("Pounce running on")
        wait_until(lambda: get(server.admin, "/readyz")[0] == 200)
        server.stop()


@pytest.mark.parametrize("workers", ["1", "2", "4"])
def test_during_the_drain_delay_health_and_readyz_answer_503_and_requests_are_served(workers):
    arguments = ("--workers", workers, "--drain-delay", LONG, "--health", "/healthz")
    with started(*arguments) as server:
        assert {get(server.address, "/healthz") for _ in range(20)} == {(200, b"ok\n")}
        server.send_signal(signal.SIGTERM)
        server.wait_for("Shutting down in 600 s.")
        assert {get(server.address, "/healthz") for _ in range(20)} == {(503, b"draining\n")}
        assert {get(server.address)[0] for _ in range(20)} == {200}
        status, content = readyz(server)
        assert (status, content["ready"], content["state"]) == (503, False, "leaving")
        assert get(server.admin, "/livez")[0] == 200
        assert server.stop(signal.SIGTERM) == (143 if single(workers) else 0)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_while_requests_end_the_admin_listener_answers_and_says_that_it_stops(workers):
    with started("--workers", workers) as server:
        slow = begin(server.address, "/sleep?600")
        server.wait_until_busy(server.address)
        server.send_signal(signal.SIGINT)
        server.wait_for("1 request still running")
        status, content = readyz(server)
        assert (status, content["state"]) == (503, "stopping")
        assert {worker["state"] for worker in content["workers"]} == {"draining"}
        assert get(server.admin, "/livez")[0] == 200
        server.stop(signal.SIGINT)
        slow.close()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_clients_of_the_admin_listener_that_hang_hold_up_no_end(workers, number):
    with started("--workers", workers, "--timeout-request-head", "off") as server:
        clients = [socket.create_connection(server.admin) for _ in range(5)]
        for client, data in zip(clients, [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
                                          b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
                                          b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n" * 5000], strict=True):  # fmt: skip
            client.sendall(data)
        assert get(server.admin, "/livez")[0] == 200
        server.stop(number)
        assert "Waiting for connections to close" not in server.log
        for client in clients:
            client.close()


def test_ctrl_c_twice_ends_a_server_with_an_admin_listener():
    with started("--workers", "2") as server:
        slow = begin(server.address, "/sleep?600")
        server.wait_until_busy(server.address)
        hanging = socket.create_connection(server.admin)
        server.send_signal(signal.SIGINT)
        server.wait_for("Waiting for connections to close")
        server.stop(signal.SIGINT)
        assert "Traceback" not in server.log
        slow.close()
        hanging.close()


def test_worker_processes_do_not_hold_the_admin_socket_when_the_supervisor_is_killed(tmp_path):
    path = tmp_path / "admin.sock"
    arguments = ("--workers", "2", "--worker-kind", "process", "--admin", f"unix:{path}")
    arguments += ("--timeout-graceful-shutdown", "2")
    with Running("plain:app", "--port", "0", *arguments) as server:
        idle = socket.socket(socket.AF_UNIX)
        idle.settimeout(30)
        idle.connect(str(path))
        idle.sendall(b"GET /livez HTT")
        name = json.loads(get(str(path), "/readyz")[1])["workers"][0]["name"]
        os.kill(int(name.removeprefix("process ")), signal.SIGKILL)  # the next worker is forked beside the client
        wait_until(lambda: json.loads(get(str(path), "/readyz")[1])["workers"][0]["name"] not in (name, ""))
        running = [begin(server.address, "/sleep?600") for _ in range(8)]
        server.wait_until_busy(server.address)
        server.process.kill()
        server.process.wait(30)
        assert idle.recv(100) == b""  # no copy of it is open
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(str(path))
        for client in (idle, *running):
            client.close()


def test_worker_processes_of_a_new_server_process_do_not_hold_the_admin_socket_either(tmp_path):
    write_version(tmp_path, "one", before="import pounce\n")
    source = (tmp_path / "main.py").read_text()
    (tmp_path / "main.py").write_text(source.replace('    await send({"type": "http.response.start"',
                                                     '    await pounce.sleep(len(scope["path"]) * 100)\n'
                                                     '    await send({"type": "http.response.start"'))  # fmt: skip
    arguments = ("--port", "0", *ADMIN, "--workers", "2", "--worker-kind", "process")
    with Lineage("main:app", *arguments, "--timeout-graceful-shutdown", "2", cwd=tmp_path) as server:
        pid = server.upgrade()  # its workers were forked before it has let clients in at the admin listener
        assert server.end() == 0
        assert get(server.admin, "/livez")[0] == 200
        running = [begin(server.address, "/long") for _ in range(8)]
        server.wait_until_busy(server.address)
        os.kill(pid, signal.SIGKILL)
        wait_ended(pid)
        with socket.socket() as late, pytest.raises(ConnectionRefusedError):
            late.connect(server.admin)
        for client in running:
            client.close()


# Addresses


def free_port():
    """Free at all addresses of the machine, and none that the kernel gives to clients meanwhile."""
    for port in range(20000 + os.getpid() % 10000, 32000):
        with (
            contextlib.suppress(OSError),
            socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True),
        ):
            return port
    raise AssertionError("no port is free")


def test_a_taken_port_is_one_line_that_names_the_option_and_the_process():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = run("plain:app", "--port", "0", "--admin", address)
    assert code == 3
    assert f"cannot bind (--admin {address}): address already in use by process {os.getpid()} (" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_the_applications_own_port_is_one_line(workers, host):
    port = str(free_port())
    code, said = run("plain:app", "--host", host, "--port", port, "--admin", f"127.0.0.1:{port}", "--workers", workers)
    assert code == 2
    assert f"--admin 127.0.0.1:{port}: " in said
    assert "choose another port" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("address", ["0.0.0.0:0", ":0", "[::]:0"])
def test_an_address_that_other_machines_reach_is_refused_in_one_line_unless_admin_public_is_given(address):
    code, said = run("plain:app", "--port", "0", "--admin", address)
    assert code == 2
    assert f"--admin {address}: " in said
    assert "can be reached by other machines" in said
    assert "--admin-public" in said
    assert len(said.splitlines()) == 1
    with Running("plain:app", "--port", "0", "--admin", address, "--admin-public") as server:
        server.wait_for("Admin listener on")
        server.stop()


@pytest.mark.parametrize("address", ["localhost:0", "127.0.0.2:0", "[::1]:0"])
def test_loopback_addresses_are_taken(address):
    with Running("plain:app", "--port", "0", "--admin", address) as server:
        server.wait_for("Admin listener on")
        server.stop()


@pytest.mark.parametrize("address", ["8000", "fd://3", "unix:", "localhost", "127.0.0.1:99999", ""])
def test_what_is_no_address_is_refused_in_one_line(address):
    code, said = run("plain:app", "--admin", address)
    assert code == 2
    assert "--admin: " in said
    assert "is not HOST:PORT, [IPv6]:PORT or unix:PATH" in said


@pytest.mark.parametrize("path", ["health", "", "/a b", "/a?b", "/a#b", "/ä"])
def test_what_is_no_path_is_refused_in_one_line(path):
    code, said = run("plain:app", "--health", path)
    assert code == 2
    assert "--health: " in said
    assert "is not a path" in said


def test_a_unix_socket_is_for_the_servers_user_and_its_file_goes_with_the_server(tmp_path):
    path = tmp_path / "admin.sock"
    command = ["sh", "-c", 'umask 027 && exec "$0" "$@"']
    with Running("plain:app", "--port", "0", "--admin", f"unix:{path}", prefix=command) as server:
        server.wait_for(f"Admin listener on unix:{path}: /livez, /readyz")
        assert stat.S_IMODE(path.stat().st_mode) == 0o750
        assert get(str(path), "/livez") == (200, b"ok\n")
        server.stop()
    assert not path.exists()


def test_a_stale_unix_socket_is_replaced_and_one_of_another_server_is_not(tmp_path):
    path = tmp_path / "admin.sock"
    with Running("plain:app", "--port", "0", "--admin", f"unix:{path}") as server:
        code, said = run("plain:app", "--port", "0", "--admin", f"unix:{path}")
        assert code == 3
        assert f"cannot bind (--admin unix:{path}): a server is listening at {path} by process" in said
        server.process.kill()
        server.process.wait(30)
    assert path.exists()
    with Running("plain:app", "--port", "0", "--admin", f"unix:{path}") as server:
        assert get(str(path), "/livez")[0] == 200
        server.stop()
    assert not path.exists()


# Replacing


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_keeps_the_admin_listener_and_readiness_and_changes_the_path_of_health(tmp_path, workers):
    write_version(tmp_path, "one")
    (tmp_path / "pounce.toml").write_text("health = '/one'\n")
    with (
        started("--workers", workers, app="main:app", cwd=tmp_path) as server,
        Probes(server.admin, "/readyz") as probes,
    ):
        assert get(server.address, "/one") == (200, b"ok\n")
        (tmp_path / "pounce.toml").write_text("health = '/two'\nadmin_public = true\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for("--admin-public cannot change while the server runs: it stays off, not on.")
        wait_until(lambda: get(server.address, "/two") == (200, b"ok\n"))
        wait_until(lambda: get(server.address, "/one") == (200, b"one"))
        assert set(probes.answers) == {200}
        server.stop()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("unix", [False, True])
def test_sigusr2_hands_the_admin_listener_on_and_no_probe_of_those_that_ask_all_the_while_fails(
    tmp_path, workers, unix
):
    write_version(tmp_path, "one")
    path = str(tmp_path / "admin.sock")
    admin = ("--admin", f"unix:{path}") if unix else ADMIN
    arguments = ("--port", "0", *admin, "--health", "/healthz", "--workers", workers)
    with Lineage("main:app", *arguments, cwd=tmp_path) as server:
        address = path if unix else server.admin
        with (
            Probes(address, "/readyz") as ready,
            Probes(address, "/livez") as live,
            Probes(server.address, "/healthz") as health,
        ):
            first = server.newest
            for _ in range(3):
                server.upgrade()
            wait_ended(first)
            assert server.end() == 0
        assert set(live.answers) == set(ready.answers) == set(health.answers) == {200}
        assert get(address, "/livez")[0] == 200
        server.stop_newest()
        assert not os.path.exists(path)


def test_a_new_process_answers_no_probe_before_it_is_ready(tmp_path):
    write_version(tmp_path, "one")
    with Lineage("main:app", "--port", "0", *ADMIN, cwd=tmp_path) as server, Probes(server.admin, "/readyz") as ready:
        (tmp_path / "main.py").write_text(SLOW_START)
        server.order_upgrade()
        server.wait_for("Waiting for application startup.", count=2)
        seen = len(ready.answers)
        wait_until(lambda: len(ready.answers) > seen + 50)
        assert set(ready.answers) == {200}
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("is not ready; it is ended")
        (tmp_path / "gate").touch()
        server.end()


def test_sigusr2_without_the_option_closes_the_admin_listener_with_the_old_process(tmp_path):
    write_version(tmp_path, "one")
    (tmp_path / "pounce.toml").write_text("admin = '127.0.0.1:0'\n")
    with Lineage("main:app", "--port", "0", cwd=tmp_path) as server:
        address = server.admin
        (tmp_path / "pounce.toml").write_text("")
        server.upgrade()
        assert server.end() == 0
        with pytest.raises(ConnectionRefusedError):
            get(address, "/livez")
        server.stop_newest()


def test_reload_in_the_process_and_by_executing_it_again_keep_the_admin_listener(tmp_path):
    write_version(tmp_path, "one")
    (tmp_path / "pounce.toml").write_text("health = '/one'\n")
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}
    with started("--reload", app="main:app", cwd=tmp_path, env=environment) as server:
        address = server.admin
        write_version(tmp_path, "two")
        server.wait_for("Reloaded in")
        assert get(address, "/readyz")[0] == 200
        idle = socket.create_connection(address)
        idle.settimeout(30)
        (tmp_path / "pounce.toml").write_text("health = '/two'\n")
        server.wait_for("Pounce running on", count=2)
        wait_until(lambda: get(address, "/readyz")[0] == 200)
        assert get(server.address, "/two") == (200, b"ok\n")
        assert idle.recv(100) == b""
        idle.close()
        assert server.stop(signal.SIGINT) == 0


def test_with_reload_the_admin_listener_answers_while_the_application_cannot_be_loaded(tmp_path):
    (tmp_path / "main.py").write_text("raise RuntimeError\n")
    with started("--reload", app="main:app", cwd=tmp_path) as server:
        assert get(server.admin, "/livez")[0] == 200
        server.stop()


# In a program


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize("workers", [1, 2])
def test_await_serve_with_an_admin_listener_and_sockets_of_the_program(tmp_path, workers):
    path = str(tmp_path / "admin.sock")

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as ours:
            config = pounce.Config(app, admin=f"unix:{path}", workers=workers, worker_kind="thread", log_config=None)
            running = pounce.Server(config)
            task = asyncio.create_task(running.serve(sockets=[ours]))
            assert await asyncio.to_thread(running.wait_started, 30)
            assert running.addresses == [ours.getsockname()]
            assert await asyncio.to_thread(get, ours.getsockname()) == (200, b"hello")
            assert await asyncio.to_thread(get, path, "/livez") == (200, b"ok\n")
            hanging = socket.socket(socket.AF_UNIX)
            hanging.connect(path)
            running.should_exit = True
            await task
            assert hanging.recv(1) == b""
            hanging.close()

    asyncio.run(main())
    assert not os.path.exists(path)


def test_two_servers_of_one_program_each_with_an_admin_listener(tmp_path):
    paths = [str(tmp_path / name) for name in "ab"]
    with TestServer(app, admin=f"unix:{paths[0]}"), TestServer(app, admin=f"unix:{paths[1]}"):
        assert [get(path, "/readyz")[0] for path in paths] == [200, 200]


def test_a_defect_behind_the_admin_listener_ends_its_connections_and_nothing_else(tmp_path, monkeypatch, caplog):
    path = str(tmp_path / "admin.sock")
    with TestServer(app, admin=f"unix:{path}") as server:
        with monkeypatch.context() as patched, socket.socket(socket.AF_UNIX) as idle:
            patched.setattr("pounce.supervisor.health.Health.workers", lambda self: 1 / 0)
            idle.connect(path)
            with pytest.raises((ConnectionError, IndexError)):
                get(path, "/readyz")
            idle.settimeout(30)
            assert idle.recv(1) == b""
        assert "The admin listener has failed. Its connections are closed." in caplog.text
        assert "ZeroDivisionError" in caplog.text
        assert get(path, "/readyz")[0] == 200
        assert get(server.server.addresses[0])[0] == 200


def test_an_admin_listener_that_fails_again_and_again_is_closed_and_the_server_goes_on(tmp_path, monkeypatch, caplog):
    path = str(tmp_path / "admin.sock")
    with TestServer(app, admin=f"unix:{path}") as server:
        monkeypatch.setattr("pounce.supervisor.health.Health.workers", lambda self: 1 / 0)
        for _ in range(MAX_FAILURES + 1):
            with pytest.raises((ConnectionError, IndexError)):
                get(path, "/readyz")
        with pytest.raises(ConnectionRefusedError):
            get(path, "/livez")
        assert "It is closed." in caplog.text
        assert get(server.server.addresses[0])[0] == 200


def test_a_server_that_cannot_start_leaves_no_admin_socket_behind(tmp_path):
    path = tmp_path / "admin.sock"
    code, _ = run("plain:failing", "--port", "0", "--admin", f"unix:{path}")
    assert code == 3
    assert not path.exists()
    code, _ = run("broken:app", "--port", "0", "--admin", f"unix:{path}")
    assert code == 1
    assert not path.exists()


def test_a_server_without_the_option_does_not_load_what_it_needs():
    script = (
        "import sys\n"
        "from pounce.testing import TestServer\n"
        "from pounce.worker import worker\n"
        "assert not [name for name in sys.modules if name.startswith('pounce.admin')]\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=APPS)
