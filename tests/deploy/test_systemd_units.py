"""pounce.service and pounce.socket: what systemd thinks of them, and their command as systemd would start it."""

import configparser
import os
import shlex
import signal
import subprocess
import sys

import pytest

from pounce.supervisor.health import LIVE_TIMEOUT
from tests.deploy.examples import FOLDER, changed
from tests.support.requirements import tool
from tests.support.server import Running, ask, get
from tests.support.service_manager import NotifySocket

PROGRAM = "/srv/app/.venv/bin/pounce"


class Unit(configparser.RawConfigParser):
    """A unit file: names as they are written, and the last of those that may be repeated."""

    def __init__(self, name):
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#",))
        self.optionxform = str
        self.read(FOLDER / name)

    def seconds(self, name):
        return float(self["Service"][name])


@pytest.fixture
def service():
    return Unit("pounce.service")


@pytest.fixture
def units(tmp_path):
    """Copies of both, for an application that is here."""
    folder = tmp_path / "units"
    folder.mkdir()
    (folder / "pounce.service").write_text(
        changed("pounce.service", [(PROGRAM, sys.executable + " -m pounce"), ("/srv/app", str(tmp_path))])
    )
    (folder / "pounce.socket").write_text(changed("pounce.socket"))
    return [folder / "pounce.service", folder / "pounce.socket"]


def analyze(*arguments):
    command = [tool("systemd-analyze"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_systemd_has_nothing_to_say_against_the_units(units):
    done = analyze("verify", "--man=no", *units)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_is_among_those_with_the_least_exposure(units):
    done = analyze("security", "--no-pager", "--offline=true", "--threshold=20", units[0])
    assert done.returncode == 0, done.stdout


def test_the_watchdog_waits_longer_than_a_worker_may_be_blocked(service):
    assert service.seconds("WatchdogSec") / 2 > LIVE_TIMEOUT


@pytest.fixture
def activated(tmp_path, service):
    """The service's command behind the socket's address, started by its first client, as systemd does it."""
    path = tmp_path / "http.sock"
    program, *words = shlex.split(service["Service"]["ExecStart"])
    assert (program, words[0]) == (PROGRAM, "main:app")
    assert Unit("pounce.socket")["Socket"]["ListenStream"].endswith("/http.sock")
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    environment["WATCHDOG_USEC"] = str(round(service.seconds("WatchdogSec") * 1e6))
    prefix = [tool("systemd-socket-activate"), "-l", str(path)]
    for name in (*environment, "PATH", "PYTHONUNBUFFERED"):  # it passes on nothing else
        prefix += ["-E", name]
    with (
        NotifySocket(environment["NOTIFY_SOCKET"]) as manager,
        Running("mirror:app", *words[1:], env=environment, prefix=prefix, ready=False) as server,
    ):
        server.wait_for("Listening on")
        yield server, manager, str(path)


def message(manager, start):
    """The next message with a line that begins so; it may be between others, such as the status."""
    while True:
        lines = manager.next()
        if any(line.startswith(start) for line in lines):
            return lines


def test_the_command_of_the_service_serves_the_sockets_of_systemd_and_leaves_them(activated):
    server, manager, path = activated
    answer = ask(path, b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\nConnection: close\r\n\r\n")
    assert b'"client": ["192.0.2.7", ' in answer
    assert message(manager, "READY=1")
    server.send_signal(signal.SIGTERM)
    assert message(manager, "STOPPING=1")
    assert server.end() in (0, 143)
    assert os.path.exists(path)  # it is systemd's


def test_exec_reload_restarts_the_application_and_tells_when_it_is_over(activated, service):
    server, manager, path = activated
    assert get(path)[0] == 200
    assert message(manager, "READY=1")
    command = service["Service"]["ExecReload"].replace("$MAINPID", str(server.process.pid))
    subprocess.run(shlex.split(command), check=True)
    assert message(manager, "RELOADING=1")
    assert message(manager, "READY=1")
    assert get(path)[0] == 200
