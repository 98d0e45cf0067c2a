"""The watchdog over workers, with a clock of its own: who is covered, relieved, named and replaced."""

import pytest

from pounce.supervisor.watchdog import BLOCKED_AFTER, SINGLE_WARNING_AFTER
from pounce.worker.worker import Report
from tests.support.workers import Crowd


def test_a_blocked_worker_is_covered_by_a_sibling_until_it_turns_again(caplog):
    crowd = Crowd(3)
    one, two, three = crowd.handles
    crowd.look(3)
    assert one.said == two.said == three.said == []
    two.waited = BLOCKED_AFTER
    crowd.look()
    helper = one if one.said else three
    assert helper.said == [("accept_for", 1)]
    assert list(crowd.balancer.blocked) == [0, 1, 0]
    assert "Worker 2 (handle 1) has been blocked for 0.6 s by GET /x; worker " in caplog.text
    crowd.look(3)
    assert helper.said == [("accept_for", 1)] * 4  # something may have been handed over meanwhile
    assert caplog.text.count("blocked") == 1
    two.waited = 0.0
    caplog.set_level("INFO", "pounce.error")
    crowd.look()
    assert helper.said[-1] == ("stop_accepting_for", 1)
    assert list(crowd.balancer.blocked) == [0, 0, 0]
    assert "Worker 2 responds again, after 1.4 s." in caplog.text
    crowd.forget()
    crowd.look(3)
    assert helper.said == []


def test_a_covering_worker_that_is_blocked_as_well_is_relieved():
    crowd = Crowd(3)
    crowd.handles[0].waited = 1.0
    crowd.look()
    first = next(handle for handle in crowd.handles if handle.said)
    first.waited = 1.0
    crowd.forget()
    crowd.look()
    last = next(handle for handle in crowd.handles if handle.waited == 0)
    assert sorted(last.said) == [("accept_for", 0), ("accept_for", first.number)]
    assert ("stop_accepting_for", 0) in first.said
    last.waited = 1.0
    crowd.forget()
    crowd.look()  # nobody is left, and nothing breaks
    assert [call for handle in crowd.handles for call in handle.said if call[0] == "accept_for"] == []


def test_a_sibling_accepts_for_a_missing_worker():
    crowd = Crowd(2)
    one, two = crowd.handles
    one.report(Report.WANTS_SUCCESSOR)  # its successor starts, which may take a while
    crowd.look()
    assert two.said == [("accept_for", 0)]
    crowd.owner.made[-1].report(Report.READY)
    crowd.look()
    assert two.said[-1] == ("stop_accepting_for", 0)
    crowd.forget()
    two.report(Report.ENDED)  # it has died
    crowd.loop.turn(0)
    crowd.look()
    assert ("accept_for", 1) in crowd.pool.slots[0].worker.said


def test_a_line_that_blocks_is_a_warning_once(caplog):
    caplog.set_level("INFO", "pounce.error")
    crowd = Crowd(2)
    one, two = crowd.handles

    def block(handle):
        caplog.clear()
        handle.waited = 1.0
        crowd.look(3)
        handle.waited = 0.0
        crowd.look()
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
    crowd = Crowd(1)
    (one,) = crowd.handles
    caplog.clear()
    for waited in (BLOCKED_AFTER, SINGLE_WARNING_AFTER - 0.1, SINGLE_WARNING_AFTER, SINGLE_WARNING_AFTER + 3, 0.0):
        one.waited = waited
        crowd.look()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["DEBUG"] * (level == "DEBUG") + ["WARNING", "INFO"]
    assert "by GET /x; it is the only one, so every other client waits" in caplog.text
    caplog.clear()
    for waited in (BLOCKED_AFTER, 0.0):
        one.waited = waited
        crowd.look()
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG"] * (level == "DEBUG")


def test_timeout_worker_stuck_gives_up_a_blocked_worker_and_replaces_it(caplog):
    crowd = Crowd(2, stuck_timeout=5.0)
    one, two = crowd.handles
    one.waited = 4.9
    crowd.look()
    assert ("give_up",) not in one.said
    one.waited = 5.0
    crowd.look()
    assert one.said == [("give_up",)]
    assert two.said[-1] == ("accept_for", 0)  # until the new one is there
    crowd.look()
    assert len(crowd.owner.made) == 3
    assert crowd.owner.made[-1].number == 0
    assert "Worker 1 (handle 0) is given up, blocked for 5.0 s." in caplog.text
    one.report(Report.WANTS_SUCCESSOR)  # it turns again, drains and ends
    one.report(Report.ENDED)
    assert len(crowd.owner.made) == 3
    assert crowd.owner.failures == []
