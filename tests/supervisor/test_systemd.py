"""What the service manager is told over NOTIFY_SOCKET, and when."""

import os
import signal
import socket
import time

import pytest

from pounce.supervisor import systemd
from tests.support.server import get
from tests.support.upgrades import Lineage, wait_ended, write_version


class Manager:
    """Receives the messages, as systemd does."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + address[1:] if address.startswith("@") else address)
        self.sock.settimeout(30)

    def next(self) -> list[str]:
        return self.sock.recv(4096).decode().splitlines()

    def has_more(self) -> bool:
        self.sock.setblocking(False)
        try:
            return bool(self.sock.recv(4096))
        except BlockingIOError:
            return False
        finally:
            self.sock.settimeout(30)

    def __enter__(self) -> "Manager":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


@pytest.fixture
def manager(tmp_path):
    with Manager(str(tmp_path / "notify")) as manager:
        yield manager


@pytest.fixture
def folder(tmp_path):
    write_version(tmp_path, "one")
    return tmp_path


def started(folder, manager, *arguments):
    return Lineage("main:app", "--port", "0", *arguments, cwd=folder, env={"NOTIFY_SOCKET": manager.address})


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ready_when_clients_are_let_in_and_stopping_when_the_end_begins(folder, manager, workers):
    with started(folder, manager, "--workers", workers) as server:
        assert manager.next() == ["READY=1"]
        server.stop()
        assert manager.next() == ["STOPPING=1"]
        assert not manager.has_more()


def test_an_application_that_does_not_start_is_never_ready(folder, manager):
    write_version(folder, "broken", before="raise RuntimeError\n")
    with Lineage("main:app", "--port", "0", cwd=folder, env={"NOTIFY_SOCKET": manager.address}, ready=False) as server:
        server.end()
        assert not manager.has_more()


def test_sigusr2_makes_the_new_process_the_main_one_and_the_old_one_says_nothing_more(folder, manager):
    with started(folder, manager) as server:
        assert manager.next() == ["READY=1"]
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        new = server.upgrade()
        reloading, stamp = manager.next()
        assert reloading == "RELOADING=1"
        name, _, microseconds = stamp.partition("=")
        assert name == "MONOTONIC_USEC"
        assert before <= int(microseconds) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert manager.next() == [f"MAINPID={new}", "READY=1"]
        assert server.end() == 0
        assert not manager.has_more()  # from a process that is not the main one, systemd would log each
        server.stop_newest()
        assert manager.next() == ["STOPPING=1"]


def test_sigusr2_without_success_is_over_with_ready(folder, manager):
    with started(folder, manager) as server:
        assert manager.next() == ["READY=1"]
        write_version(folder, "broken", before="raise RuntimeError\n")
        server.order_upgrade()
        assert manager.next()[0] == "RELOADING=1"
        assert manager.next() == ["READY=1"]
        server.wait_for("this one goes on")
        assert get(server.address)[0] == 200


@pytest.mark.parametrize("setting", ["timeout_write = 20\n", "timeout_write = 'soon'\n"])
def test_sighup_is_over_with_ready_whether_the_workers_are_replaced_or_it_is_refused(folder, manager, setting):
    with started(folder, manager) as server:
        assert manager.next() == ["READY=1"]
        (folder / "pounce.toml").write_text(setting)
        server.process.send_signal(signal.SIGHUP)
        assert manager.next()[0] == "RELOADING=1"
        assert manager.next() == ["READY=1"]
        assert get(server.address)[0] == 200


def test_a_new_process_whose_predecessor_is_gone_makes_itself_the_main_one(folder, manager):
    gate = folder / "gate"
    with started(folder, manager) as server:
        assert manager.next() == ["READY=1"]
        write_version(folder, "two", before=(
            "import os, time\nprint('importing', os.getpid(), flush=True)\n"
            f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        ))  # fmt: skip
        server.order_upgrade()
        new = int(server.wait_for("importing").split()[1])
        assert manager.next()[0] == "RELOADING=1"
        server.process.kill()
        server.process.wait(30)
        gate.touch()
        assert manager.next() == [f"MAINPID={new}", "READY=1"]
        os.kill(new, signal.SIGTERM)
        wait_ended(new)


def test_an_abstract_address_is_reached(monkeypatch):
    with Manager(f"@pounce-test-{os.getpid()}") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        systemd.ready()
        assert manager.next() == ["READY=1"]


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "/" + "a" * 300, "@" + "a" * 300])
def test_an_address_where_nobody_is_is_ignored(monkeypatch, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.ready()
    systemd.stopping()
