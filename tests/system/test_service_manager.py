"""Under a real systemd: a user's instance in a namespace of its own, which starts, watches and stops the server."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.requirements import tool
from tests.support.server import begin, get
from tests.support.upgrades import wait_ended

SYSTEMD = "/lib/systemd/systemd"
# It starts only where a systemd has booted the system, and needs a cgroup of its own that it may write to.
_BOOT = """
mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system &&
exec {SYSTEMD} --user --log-target=console
""".replace("{SYSTEMD}", SYSTEMD)

APP = """
import asyncio, os, time
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("lifespan ends", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/block":
        while not os.path.exists("gate"): time.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/slow":
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while not os.path.exists("gate"): await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"VERSION %d" % os.getpid()})
"""


class Systemd:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run")}
        self.environment.pop("DBUS_SESSION_BUS_ADDRESS", None)
        (folder / "run").mkdir(mode=0o700)
        self.units = folder / ".config" / "systemd" / "user"
        self.units.mkdir(parents=True)
        words = ["unshare", "--mount", "sh", "-c", _BOOT]
        self.process = subprocess.Popen(
            words, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def ctl(self, *words: str) -> str:
        """`systemctl`; raises CalledProcessError."""
        done = subprocess.run(
            ["systemctl", "--user", "--no-pager", *words], env=self.environment, capture_output=True, text=True,
            timeout=100, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def show(self, unit: str, name: str) -> str:
        return self.ctl("show", unit, f"--property={name}", "--value")

    def starts(self) -> bool:
        """Waits until it can be talked to."""
        end = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.ctl("list-units")
                return True
            time.sleep(0.05)
        return False

    def end(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            self.ctl("stop", "*.socket", "*.service")
        self.process.terminate()  # it stops what is left
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def systemd():
    tool("systemd-analyze")  # the package
    if os.geteuid() != 0 or shutil.which("unshare") is None or not os.path.exists(SYSTEMD):
        pytest.skip("needs root, unshare and systemd: a systemd in a namespace of its own")
    # Not pytest's folder: a path of a Unix socket is at most 107 bytes long.
    folder = Path(f"/tmp/pounce-systemd-{os.getpid()}")
    folder.mkdir()
    manager = Systemd(folder)
    try:
        if not manager.starts():
            pytest.skip("needs a machine where systemd can run in a namespace: a cgroup that it may write to")
        yield manager
    finally:
        manager.end()
        shutil.rmtree(folder)


class Service:
    """A service with its socket, both named after the test."""

    def __init__(self, systemd, folder, name, arguments, settings):
        self.systemd, self.folder, self.name = systemd, folder, name
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = free.getsockname()
        command = f"{sys.executable} -m pounce main:app {arguments}"
        self.log = folder / "log"
        (systemd.units / f"{name}.service").write_text(
            f"[Service]\nType=notify\nWorkingDirectory={folder}\nExecStart={command}\nKillMode=mixed\n{settings}\n"
            f"ExecReload=kill -USR2 $MAINPID\nStandardOutput=append:{self.log}\nStandardError=append:{self.log}\n"
        )
        (systemd.units / f"{name}.socket").write_text(f"[Socket]\nListenStream=127.0.0.1:{self.address[1]}\n")
        systemd.ctl("daemon-reload")
        systemd.ctl("start", f"{name}.socket")

    def ctl(self, word):
        return self.systemd.ctl(word, f"{self.name}.service")

    def show(self, name):
        return self.systemd.show(f"{self.name}.service", name)

    def wait_for(self, name, wanted):
        end = time.monotonic() + 60
        matches = wanted if callable(wanted) else wanted.__eq__
        while not matches(found := self.show(name)):
            assert time.monotonic() < end, (name, found, self.log.read_text())
            time.sleep(0.05)


def read_until(client, words):
    received = b""
    while words not in received:
        received += client.recv(4096) or pytest.fail(f"closed after {received!r}")


@pytest.fixture
def service(systemd, tmp_path, request):
    (tmp_path / "main.py").write_text(APP)
    name = "".join(character if character.isalnum() else "-" for character in request.node.name)[:40]

    def start(arguments="", settings=""):
        return Service(systemd, tmp_path, name, arguments, settings)

    yield start
    (tmp_path / "gate").touch()
    systemd.ctl("stop", f"{name}.socket", f"{name}.service")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_first_client_starts_it_and_status_says_what_it_does(service, workers):
    served = service(f"--workers {workers}")
    assert served.show("ActiveState") == "inactive"
    assert get(served.address)[0] == 200
    assert served.show("ActiveState") == "active"
    assert served.show("StatusText").startswith(f"Serving: {workers} worker")
    served.ctl("stop")
    assert served.show("Result") == "success"
    assert "lifespan ends" in served.log.read_text()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("upgrades", [0, 1, 2])
def test_stop_waits_for_the_request_that_runs_also_after_an_upgrade(service, workers, upgrades):
    served = service(f"--workers {workers}", "TimeoutStopSec=1")
    assert get(served.address)[0] == 200
    for _ in range(upgrades):
        before = served.show("MainPID")
        served.ctl("reload")
        served.wait_for("MainPID", lambda pid, before=before: pid != before)
        wait_ended(int(before))  # what that has accepted ends with the service
    client = begin(served.address, "/slow")
    read_until(client, b"begun")
    served.systemd.ctl("stop", "--no-block", f"{served.name}.socket", f"{served.name}.service")
    served.wait_for("SubState", "stop-sigterm")
    with contextlib.suppress(TimeoutError):  # longer than TimeoutStopSec=
        client.settimeout(2)
        assert client.recv(4096) is None
    (served.folder / "gate").touch()
    client.settimeout(30)
    read_until(client, b"VERSION")
    client.close()
    served.wait_for("ActiveState", "inactive")
    assert served.show("Result") == "success"


def test_watchdog_sec_ends_a_server_whose_workers_are_blocked_and_clients_in_the_queue_get_the_next(service):
    served = service("--workers 1 --timeout-graceful-shutdown 1", "WatchdogSec=1\nRestart=on-failure\nRestartSec=0")
    assert get(served.address)[0] == 200
    before = served.show("MainPID")
    blocking = begin(served.address, "/block")
    served.wait_for("NRestarts", "1")
    blocking.close()
    assert get(served.address)[0] == 200
    assert served.show("MainPID") != before


def test_a_server_that_does_not_start_fails_the_service(service):
    served = service("--user nobody-of-this-name")
    with contextlib.suppress(OSError), socket.create_connection(served.address, timeout=5) as client:
        client.settimeout(5)
        client.recv(1)
    served.wait_for("ActiveState", "failed")
    assert served.show("ExecMainStatus") == "2"
    assert "ERROR:    --user nobody-of-this-name: there is no such user\n" in served.log.read_text()
