"""The watchdog over workers, with a clock of its own: who is covered, relieved, named and replaced."""

import pytest

from pounce.supervisor.watchdog import BLOCKED_AFTER, SINGLE_WARNING_AFTER
from pounce.worker.worker import Report
from tests.support.workers import PoolRig


def test_a_blocked_worker_is_covered_by_a_sibling_until_it_turns_again(caplog):
    rig = PoolRig(3)
    one, two, three = rig.handles
    rig.scan(3)
    assert one.orders == two.orders == three.orders == []
    two.waited = BLOCKED_AFTER
    rig.scan()
    helper = one if one.orders else three
    assert helper.orders == [("accept_for", 1)]
    assert list(rig.balancer.blocked) == [0, 1, 0]
    assert "Worker 2 (handle 1) has been blocked for 0.6 s by GET /x; worker " in caplog.text
    rig.scan(3)
    assert helper.orders == [("accept_for", 1)] * 4  # something may have been handed over meanwhile
    assert caplog.text.count("blocked") == 1
    two.waited = 0.0
    caplog.set_level("INFO", "pounce.error")
    rig.scan()
    assert helper.orders[-1] == ("stop_accepting_for", 1)
    assert list(rig.balancer.blocked) == [0, 0, 0]
    assert "Worker 2 responds again, after 1.4 s." in caplog.text
    rig.forget()
    rig.scan(3)
    assert helper.orders == []


def test_a_covering_worker_that_is_blocked_as_well_is_relieved():
    rig = PoolRig(3)
    rig.handles[0].waited = 1.0
    rig.scan()
    first = next(handle for handle in rig.handles if handle.orders)
    first.waited = 1.0
    rig.forget()
    rig.scan()
    last = next(handle for handle in rig.handles if handle.waited == 0)
    assert sorted(last.orders) == [("accept_for", 0), ("accept_for", first.number)]
    assert ("stop_accepting_for", 0) in first.orders
    last.waited = 1.0
    rig.forget()
    rig.scan()  # no worker is left, and nothing breaks
    assert [call for handle in rig.handles for call in handle.orders if call[0] == "accept_for"] == []


def test_a_sibling_accepts_for_a_missing_worker():
    rig = PoolRig(2)
    one, two = rig.handles
    one.report(Report.ENDED)  # it has died; its successor starts, which may take a while
    rig.loop.turn(0)
    rig.scan()
    assert two.orders == [("accept_for", 0)]
    rig.owner.made[-1].report(Report.READY)
    rig.scan()
    assert two.orders[-1] == ("stop_accepting_for", 0)
    rig.forget()
    two.report(Report.ENDED)  # it has died
    rig.loop.turn(0)
    rig.scan()
    assert ("accept_for", 1) in rig.pool.slots[0].worker.orders


def test_a_line_that_blocks_is_a_warning_once(caplog):
    caplog.set_level("INFO", "pounce.error")
    rig = PoolRig(2)
    one, two = rig.handles

    def block(handle):
        caplog.clear()
        handle.waited = 1.0
        rig.scan(3)
        handle.waited = 0.0
        rig.scan()
        return [record.levelname for record in caplog.records]

    assert block(one) == ["WARNING", "INFO"]
    one.stack = one.stack.replace("line 1", "line 2")
    assert block(one) == block(two) == []
    caplog.set_level("DEBUG", "pounce.error")
    assert block(one) == ["DEBUG", "DEBUG"]
    two.stack = two.stack.replace("app.py", "other.py")
    assert block(two) == ["WARNING", "INFO"]


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_the_only_worker_being_blocked_is_a_warning_after_a_while(caplog, level):
    caplog.set_level(level, "pounce.error")
    rig = PoolRig(1)
    (one,) = rig.handles
    caplog.clear()
    for waited in (BLOCKED_AFTER, SINGLE_WARNING_AFTER - 0.1, SINGLE_WARNING_AFTER, SINGLE_WARNING_AFTER + 3, 0.0):
        one.waited = waited
        rig.scan()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["DEBUG"] * (level == "DEBUG") + ["WARNING", "INFO"]
    assert "by GET /x; it is the only one, so every other client waits" in caplog.text
    caplog.clear()
    for waited in (BLOCKED_AFTER, 0.0):
        one.waited = waited
        rig.scan()
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG"] * (level == "DEBUG")


def test_timeout_worker_stuck_gives_up_a_blocked_worker_and_replaces_it(caplog):
    rig = PoolRig(2, stuck_timeout=5.0)
    one, two = rig.handles
    one.waited = 4.9
    rig.scan()
    assert ("give_up",) not in one.orders
    one.waited = 5.0
    rig.scan()
    assert one.orders == [("give_up",)]
    assert two.orders[-1] == ("accept_for", 0)  # until the new one is there
    rig.scan()
    assert len(rig.owner.made) == 3
    assert rig.owner.made[-1].number == 0
    assert "Worker 1 (handle 0) is given up, blocked for 5.0 s." in caplog.text
    one.report(Report.WANTS_SUCCESSOR)  # it turns again, drains and ends
    one.report(Report.ENDED)
    assert len(rig.owner.made) == 3
    assert rig.owner.failures == []
