"""What the service manager is told over NOTIFY_SOCKET, and when."""

import os
import signal
import time

import pytest

from pounce.supervisor import systemd
from tests.support.server import begin, get
from tests.support.service_manager import NotifySocket
from tests.support.upgrades import Lineage, parent, wait_ended, write_version

STOPPING = ["STOPPING=1", "EXTEND_TIMEOUT_USEC=94000000"]
"""With the default --timeout-graceful-shutdown of 30 s: see `longest_end`."""


@pytest.fixture
def folder(tmp_path):
    write_version(tmp_path, "one")
    return tmp_path


def started(folder, manager, *arguments, env=None):
    env = {"NOTIFY_SOCKET": manager.address, **(env or {})}
    return Lineage("main:app", "--port", "0", *arguments, cwd=folder, env=env)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ready_when_clients_are_let_in_and_stopping_when_the_end_begins(folder, manager, workers):
    with started(folder, manager, "--workers", workers) as server:
        assert manager.next() == ["READY=1"]
        server.stop()
        assert manager.next() == STOPPING
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
        assert parent(new) != server.process.pid  # systemd waits for its own children only
        assert server.end() == 0
        assert not manager.has_more()  # from a process that is not the main one, systemd would log each
        server.stop_newest()
        assert manager.next() == STOPPING


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
    with NotifySocket(f"@pounce-test-{os.getpid()}") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        systemd.ready()
        assert manager.next() == ["READY=1"]


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "/" + "a" * 300, "@" + "a" * 300])
def test_an_address_where_nobody_is_is_ignored(monkeypatch, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.ready()
    systemd.reloading()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_status_counts_workers_and_requests_in_flight(folder, manager, workers):
    many = "s" * (workers != "1")
    with started(folder, manager, "--workers", workers) as server:
        assert manager.next_status() == f"Serving: {workers} worker{many}, 0 requests in flight"
        server.stop()
        assert manager.next_status() == f"Shutting down: {workers} worker{many}, 0 requests in flight"


def test_the_end_after_a_drain_delay_may_take_longer_by_that(folder, manager):
    with started(folder, manager, "--drain-delay", "60") as server:
        assert manager.next() == ["READY=1"]
        server.send_signal(signal.SIGTERM)
        assert manager.next() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=154000000"]
        server.send_signal(signal.SIGTERM)  # ends the delay
        server.end()
        assert not manager.has_more()


WATCHDOG_USEC = "200000"
REPORT = """
import json, os, threading, time
block = threading.Event()
async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/block":
        print("blocks", flush=True)
        while not os.path.exists("gate"): time.sleep(0.01)
    content = json.dumps([name for name in os.environ if name.startswith("WATCHDOG")]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": content})
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_watchdog_usec_is_answered_all_the_while_and_the_application_does_not_see_it(folder, manager, workers):
    (folder / "main.py").write_text(REPORT)
    with started(folder, manager, "--workers", workers, env={"WATCHDOG_USEC": WATCHDOG_USEC}) as server:
        assert manager.next() == ["READY=1"]
        assert [manager.next() for _ in range(5)] == [["WATCHDOG=1"]] * 5
        assert get(server.address)[1] == b"[]"


def test_watchdog_pid_of_another_process_is_not_answered(folder, manager):
    env = {"WATCHDOG_USEC": WATCHDOG_USEC, "WATCHDOG_PID": str(os.getpid())}
    with started(folder, manager, env=env) as server:
        assert manager.next() == ["READY=1"]
        server.stop()
        assert manager.next() == STOPPING


def test_sigusr2_the_new_process_answers_the_watchdog_when_it_is_the_main_one(folder, manager):
    with started(folder, manager, env={"WATCHDOG_USEC": WATCHDOG_USEC}) as server:
        new = server.upgrade()
        server.end()
        seen = []
        while seen[-3:] != [["WATCHDOG=1"]] * 3 or [f"MAINPID={new}", "READY=1"] not in seen:
            seen.append(manager.next())
        server.stop_newest()


@pytest.mark.parametrize("own_thread", [True, False], ids=["supervisor's thread", "thread of its own"])
def test_watchdog_usec_is_not_answered_while_the_only_worker_is_blocked(folder, manager, own_thread):
    (folder / "main.py").write_text(REPORT)
    # With an admin listener the only worker has a thread of its own, and the supervisor's loop turns.
    more = [] if own_thread else ["--admin", f"unix:{folder / 'admin.sock'}"]
    with started(folder, manager, *more, env={"WATCHDOG_USEC": WATCHDOG_USEC}) as server:
        assert manager.next() == ["READY=1"]
        client = begin(server.address, "/block")
        server.wait_for("blocks")
        manager.wait_silent(1.0)
        (folder / "gate").touch()
        assert client.recv(4096)
        assert manager.next() == ["WATCHDOG=1"]
        client.close()


def test_a_manager_that_reads_nothing_does_not_hold_up_the_requests(folder, manager):
    with started(folder, manager, env={"WATCHDOG_USEC": "2000"}) as server:
        while not manager.full():
            pass
        for _ in range(20):
            assert get(server.address)[0] == 200
        server.stop()
        assert "Traceback" not in server.log
