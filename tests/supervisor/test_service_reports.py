"""What the service manager is told all the while, and when; with a clock of its own."""

import os

import pytest

from pounce.supervisor.health import WorkerHealth
from pounce.supervisor.service_reports import STATUS_INTERVAL, ServiceReports, longest_end
from tests.support.harness import skipping_loop
from tests.support.service_manager import NotifySocket


class Workers:
    requests = 0

    def running(self):
        return self.requests


class Pool:
    def __init__(self):
        self.workers = Workers()


class Health:
    live = True

    def __init__(self):
        self.pool = Pool()
        self.states = ["serving"]

    def workers(self):
        return [WorkerHealth(number, "", state, 0.0) for number, state in enumerate(self.states, 1)]


class ReportsRig:
    def __init__(self, manager):
        self.loop, self.selector = skipping_loop()
        self.manager = manager
        self.health = Health()
        self.reports = ServiceReports(self.loop, self.health, owns_process=True)

    def wait(self, seconds):
        """Lets time pass, and gives the messages."""
        self.selector.skip = seconds
        self.loop.turn(0)
        return self.messages()

    def messages(self):
        found = []
        self.manager.sock.setblocking(False)
        try:
            while True:
                found.append(self.manager.sock.recv(4096).decode().splitlines())
        except BlockingIOError:
            return found


@pytest.fixture
def environment(tmp_path, monkeypatch):
    with NotifySocket(str(tmp_path / "notify")) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        yield manager, monkeypatch


@pytest.fixture
def rig(environment):
    return ReportsRig(environment[0])


def watched(environment, usec="8000000"):
    manager, monkeypatch = environment
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    return ReportsRig(manager)


SERVING = "STATUS=Serving: 1 worker, 0 requests in flight"


def test_status_is_sent_at_once_and_then_when_it_has_changed(rig):
    rig.reports.start(has_predecessor=False)
    assert rig.messages() == [[SERVING]]
    assert rig.wait(STATUS_INTERVAL) == []
    rig.health.pool.workers.requests = 3
    assert rig.wait(STATUS_INTERVAL) == [["STATUS=Serving: 1 worker, 3 requests in flight"]]
    rig.health.states = ["serving", "blocked", "starting", "blocked"]
    rig.health.pool.workers.requests = 1
    assert rig.wait(STATUS_INTERVAL) == [["STATUS=Serving: 4 workers, 2 blocked, 1 starting, 1 request in flight"]]


def test_status_waits_for_its_interval_where_the_watchdogs_is_shorter(environment):
    rig = watched(environment)
    rig.reports.start(has_predecessor=False)
    assert rig.messages() == [["WATCHDOG=1", SERVING]]
    rig.health.states = ["blocked"]
    assert rig.wait(4) == rig.wait(4) == [["WATCHDOG=1"]]
    assert rig.wait(4) == [["WATCHDOG=1", "STATUS=Serving: 1 worker, 1 blocked, 0 requests in flight"]]


def test_watchdog_is_answered_at_half_its_time_while_the_server_is_live(environment):
    rig = watched(environment)
    rig.reports.start(has_predecessor=False)
    rig.messages()
    assert rig.wait(3.9) == []
    assert rig.wait(0.2) == [["WATCHDOG=1"]]
    rig.health.live = False
    assert rig.wait(4) == rig.wait(4) == []
    rig.health.live = True
    assert rig.wait(4) == [["WATCHDOG=1"]]


@pytest.mark.parametrize("usec", ["", "0", "-1", "soon"])
def test_watchdog_usec_that_is_no_time_is_ignored(environment, usec):
    rig = watched(environment, usec)
    rig.reports.start(has_predecessor=False)
    assert rig.messages() == [[SERVING]]


def test_watchdog_variables_stay_where_the_process_is_another_programs(environment, monkeypatch):
    rig = watched(environment)
    with pytest.raises(KeyError):
        monkeypatch.delenv("WATCHDOG_USEC")
    monkeypatch.setenv("WATCHDOG_USEC", "8000000")
    ServiceReports(rig.loop, rig.health, owns_process=False)
    monkeypatch.delenv("WATCHDOG_USEC")


def test_a_new_process_waits_until_it_is_the_main_one(environment):
    environment[1].setenv("WATCHDOG_PID", "1")  # its predecessor
    rig = watched(environment)
    rig.reports.start(has_predecessor=True)
    assert rig.wait(0.9) == []
    assert rig.wait(0.2) == [["WATCHDOG=1", SERVING]]


def test_the_end_has_the_time_that_the_server_gives_itself(rig):
    rig.reports.start(has_predecessor=False)
    rig.messages()
    rig.reports.stopping(grace=5.0)
    assert rig.messages() == [
        ["STOPPING=1", "EXTEND_TIMEOUT_USEC=24000000"], ["STATUS=Shutting down: 1 worker, 0 requests in flight"],
    ]  # fmt: skip
    assert longest_end(5.0) == 24
    assert rig.wait(STATUS_INTERVAL) == []


def test_an_end_without_a_limit_asks_for_more_again_and_again(rig):
    rig.reports.start(has_predecessor=False)
    rig.messages()
    rig.reports.stopping(grace=None)
    assert rig.messages()[0] == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=30000000"]
    assert rig.wait(STATUS_INTERVAL) == rig.wait(STATUS_INTERVAL) == [["EXTEND_TIMEOUT_USEC=30000000"]]
    rig.reports.close()
    assert rig.wait(STATUS_INTERVAL) == []


def test_a_status_that_was_lost_is_sent_again(rig):
    rig.manager.sock.close()
    rig.reports.start(has_predecessor=False)
    os.unlink(rig.manager.address)
    with NotifySocket(rig.manager.address) as rig.manager:
        assert rig.wait(STATUS_INTERVAL) == [[SERVING]]


def test_without_a_service_manager_nothing_is_set(environment):
    environment[1].delenv("NOTIFY_SOCKET")
    rig = watched(environment)
    rig.reports.start(has_predecessor=False)
    rig.reports.stopping(grace=None)
    assert rig.loop.horizon == float("inf")
