"""What the supervisor says of its server: live, ready, and each worker's condition; with a clock of its own."""

import pytest

from pounce.supervisor.health import LIVE_TIMEOUT, START_TIMEOUT, Health
from pounce.supervisor.watchdog import BLOCKED_AFTER
from pounce.worker.readiness import Readiness
from pounce.worker.worker import Report
from tests.support.workers import PoolRig


class Served:
    started = ready = True
    stopping = False

    def __init__(self):
        self.readiness = Readiness(ready=True)


class HealthRig(PoolRig):
    def __init__(self, count):
        super().__init__(count)
        self.server = Served()
        self.health = Health(self.loop, self.server)
        self.health.pool = self.pool

    def block(self, number, seconds):
        """Has a worker not turn its loop for so many seconds, as the watchdog sees it."""
        self.handles[number].waited = BLOCKED_AFTER
        self.scan()
        self.selector.skip = seconds - BLOCKED_AFTER
        self.loop.turn(0)

    def states(self):
        return [worker.state for worker in self.health.workers()]


def test_a_server_whose_workers_turn_is_live_and_ready_and_names_each():
    rig = HealthRig(2)
    rig.scan()
    assert rig.health.live
    assert rig.health.ready
    assert rig.health.workers() == [(1, "handle 0", "serving", 0.0), (2, "handle 1", "serving", 0.0)]


def test_one_worker_that_turns_is_enough():
    rig = HealthRig(2)
    rig.block(0, 60)
    assert rig.states() == ["blocked", "serving"]
    assert rig.health.workers()[0].blocked_for == pytest.approx(60, abs=1)
    assert rig.health.live
    assert rig.health.ready


def test_live_and_ready_end_when_no_worker_has_turned_for_5_seconds_and_come_back():
    rig = HealthRig(2)
    rig.block(0, 1)
    rig.block(1, LIVE_TIMEOUT - 0.1)
    assert rig.states() == ["blocked", "blocked"]
    assert rig.health.live
    assert rig.health.ready
    rig.selector.skip = 0.2
    rig.loop.turn(0)
    assert not rig.health.live
    assert not rig.health.ready
    rig.handles[1].waited = 0.0
    rig.scan()
    assert rig.health.live
    assert rig.health.ready
    assert rig.states() == ["blocked", "serving"]


def test_a_blocked_worker_is_not_live_on_a_machine_that_has_just_booted(monkeypatch):
    monkeypatch.setattr("pounce.supervisor.health.START_TIMEOUT", 1e12)  # longer than its monotonic clock has run
    rig = HealthRig(1)
    rig.block(0, LIVE_TIMEOUT + 1)
    assert not rig.health.live


def test_a_failed_worker_is_restarting_and_the_server_is_live_for_90_seconds_and_not_ready():
    rig = HealthRig(1)
    rig.handles[0].report(Report.ENDED)
    rig.loop.turn(0)
    rig.scan()
    assert rig.states() == ["restarting"]
    assert rig.health.live
    assert not rig.health.ready
    rig.selector.skip = START_TIMEOUT
    rig.loop.turn(0)
    assert not rig.health.live
    rig.owner.made[-1].report(Report.READY)
    assert rig.health.live
    assert rig.health.ready
    assert rig.states() == ["serving"]


def test_the_time_of_successors_that_fail_too_counts_from_the_first_failure():
    rig = HealthRig(1)
    rig.handles[0].report(Report.ENDED)
    rig.loop.turn(0)
    for _ in range(2):
        rig.selector.skip = START_TIMEOUT / 2 - 1
        rig.loop.turn(0)
        rig.owner.made[-1].report(Report.ENDED)
        rig.selector.skip = 1
        rig.loop.turn(0)
    rig.selector.skip = 2
    rig.loop.turn(0)
    assert not rig.health.live


def test_a_server_that_starts_is_live_and_not_ready():
    rig = HealthRig(2)
    rig.server.started = rig.server.ready = False
    rig.server.readiness.clear()
    rig.block(0, 60)
    rig.block(1, 60)
    assert rig.health.phase == "starting"
    assert rig.health.live
    assert not rig.health.ready
    rig.health.pool = None
    assert rig.health.live
    assert not rig.health.ready
    assert rig.health.workers() == []


def test_a_server_that_leaves_is_not_ready_and_one_that_stops_is_live():
    rig = HealthRig(1)
    rig.server.ready = False
    rig.server.readiness.clear()
    assert rig.health.phase == "leaving"
    assert rig.health.live
    assert not rig.health.ready
    rig.server.stopping = True
    rig.block(0, 60)
    assert rig.health.phase == "stopping"
    assert rig.health.live
    assert rig.states() == ["draining"]


def test_a_server_whose_sockets_another_process_has_taken_over_is_ready_because_new_clients_are_served():
    rig = HealthRig(1)
    rig.server.stopping, rig.server.ready = True, False
    assert rig.health.ready


def test_a_removed_slot_is_not_counted_and_a_new_one_starts():
    rig = HealthRig(2)
    rig.pool.remove_worker()
    assert rig.states() == ["serving"]
    rig.pool.add_worker()
    assert rig.states() == ["serving", "starting"]
    rig.block(0, 60)
    assert not rig.health.live
