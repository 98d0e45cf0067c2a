"""`Pool.roll`: the workers of one generation are replaced by those of another, slot by slot, at the test's own time."""

import errno

import pytest

from pounce.supervisor.slot import SlotState
from pounce.worker.control import Report
from tests.support.workers import FIRST, SECOND, THIRD, Crowd


def numbers(crowd):
    """Of the generation of each worker that has a slot."""
    return [slot.worker and slot.worker.generation.number for slot in crowd.pool.slots]


def newest(crowd):
    return crowd.owner.made[-1]


def test_a_successor_is_ready_before_its_predecessor_retires_slot_by_slot(caplog):
    caplog.set_level("INFO", "pounce.error")
    crowd = Crowd(2)
    one, two = crowd.handles
    crowd.pool.roll(SECOND)
    assert len(crowd.owner.made) == 3
    assert (newest(crowd).number, newest(crowd).generation) == (0, SECOND)
    assert one.said == two.said == []  # they serve
    newest(crowd).report(Report.READY)
    assert one.said == [("retire",)]
    assert ("serve",) in crowd.pool.slots[0].worker.said
    assert numbers(crowd) == [2, 1]
    assert two.said == []
    assert (newest(crowd).number, newest(crowd).generation) == (1, SECOND)
    assert "have been replaced" not in caplog.text
    newest(crowd).report(Report.READY)
    assert two.said == [("retire",)]
    assert numbers(crowd) == [2, 2]
    assert "The workers have been replaced." in caplog.text
    assert crowd.pool.generation is SECOND
    one.report(Report.ENDED)
    two.report(Report.ENDED)
    assert numbers(crowd) == [2, 2]
    assert crowd.owner.failures == []


@pytest.mark.parametrize("how", [Report.START_FAILED, Report.ENDED])
@pytest.mark.parametrize("failing", [0, 1])
def test_a_successor_that_does_not_start_ends_the_roll_and_its_predecessor_stays(how, failing, caplog):
    crowd = Crowd(2)
    crowd.pool.roll(SECOND)
    for _ in range(failing):
        newest(crowd).report(Report.READY)
    made = len(crowd.owner.made)
    newest(crowd).report(how)
    newest(crowd).report(Report.ENDED)
    assert f"Worker {failing + 1} is not replaced: its successor did not start. The workers stay." in caplog.text
    assert numbers(crowd) == [2, 1][1 - failing :] + [1] * (1 - failing)
    assert crowd.handles[failing].said == []
    assert len(crowd.owner.made) == made
    assert crowd.owner.failures == []


def test_a_successor_that_cannot_be_made_ends_the_roll(caplog):
    crowd = Crowd(2)

    def fail(generation, number, on_report):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    crowd.owner.make_worker = fail
    crowd.pool.roll(SECOND)
    assert "Worker 1 cannot be started: " in caplog.text
    assert numbers(crowd) == [1, 1]
    del crowd.owner.make_worker
    crowd.pool.roll(SECOND)
    newest(crowd).report(Report.READY)
    newest(crowd).report(Report.READY)
    assert numbers(crowd) == [2, 2]


def test_a_roll_during_a_roll_goes_on_with_the_newer_generation(caplog):
    caplog.set_level("INFO", "pounce.error")
    crowd = Crowd(3)
    crowd.pool.roll(SECOND)
    newest(crowd).report(Report.READY)
    crowd.pool.roll(THIRD)  # the second slot's successor is starting
    made = len(crowd.owner.made)
    assert newest(crowd).generation is SECOND
    while len(crowd.owner.made) < made + 3:
        newest(crowd).report(Report.READY)
    newest(crowd).report(Report.READY)
    assert numbers(crowd) == [3, 3, 3]
    assert [handle.number for handle in crowd.owner.made[made:]] == [0, 1, 2]
    assert caplog.text.count("The workers have been replaced.") == 1


def test_a_successor_of_an_older_roll_that_does_not_start_does_not_end_the_newer_one():
    crowd = Crowd(2)
    crowd.pool.roll(SECOND)
    crowd.pool.roll(THIRD)
    newest(crowd).report(Report.START_FAILED)
    assert newest(crowd).generation is THIRD
    newest(crowd).report(Report.READY)
    newest(crowd).report(Report.READY)
    assert numbers(crowd) == [3, 3]


def test_stop_during_a_roll_ends_the_successor_too_and_starts_no_other():
    crowd = Crowd(2)
    crowd.pool.roll(SECOND)
    successor = newest(crowd)
    crowd.pool.stop(30.0)
    assert ("stop",) in successor.said
    assert all(("stop",) in handle.said for handle in crowd.handles)
    successor.report(Report.READY)
    assert len(crowd.owner.made) == 3
    assert numbers(crowd) == [1, 1]
    for handle in crowd.owner.made:
        assert not crowd.owner.ended
        handle.report(Report.ENDED)
    assert crowd.owner.ended == 1


def test_stop_kills_a_successor_that_is_still_starting_after_the_graceful_timeout(caplog):
    crowd = Crowd(1)
    crowd.pool.roll(SECOND)
    crowd.pool.stop(5.0)
    crowd.look(50)
    assert ("kill",) in newest(crowd).said
    assert "Worker 1 is still starting; it is given up." in caplog.text


def test_a_worker_that_dies_while_its_successor_starts_is_replaced_by_it():
    crowd = Crowd(2)
    crowd.pool.roll(SECOND)
    crowd.handles[0].report(Report.ENDED)
    crowd.look(20)
    assert len(crowd.owner.made) == 3
    crowd.owner.made[2].report(Report.READY)
    assert numbers(crowd) == [2, 1]


def test_a_worker_that_dies_while_its_successor_starts_in_vain_is_replaced_by_its_own_generation():
    crowd = Crowd(2)
    crowd.pool.roll(SECOND)
    crowd.handles[0].report(Report.ENDED)
    newest(crowd).report(Report.START_FAILED)
    assert newest(crowd).generation is FIRST
    newest(crowd).report(Report.READY)
    assert numbers(crowd) == [1, 1]


def test_a_worker_that_dies_after_a_roll_is_replaced_by_the_new_generation():
    crowd = Crowd(1)
    crowd.pool.roll(SECOND)
    newest(crowd).report(Report.READY)
    newest(crowd).report(Report.ENDED)
    crowd.look()
    assert newest(crowd).generation is SECOND
    assert len(crowd.owner.made) == 3


def test_an_empty_slot_gets_the_new_generation_when_another_slot_has_it():
    crowd = Crowd(2)
    crowd.handles[0].report(Report.ENDED)
    crowd.look()
    newest(crowd).report(Report.ENDED)  # the second time in a row, so the next worker waits for its delay
    assert crowd.pool.slots[0].worker is None
    crowd.pool.roll(SECOND)
    assert (newest(crowd).number, newest(crowd).generation) == (1, SECOND)
    assert crowd.pool.slots[0].generation is FIRST
    newest(crowd).report(Report.READY)
    assert crowd.pool.slots[0].generation is SECOND
    crowd.look(20)
    assert (newest(crowd).number, newest(crowd).generation) == (0, SECOND)


def test_a_worker_that_is_still_starting_when_its_successor_is_ready_is_stopped():
    crowd = Crowd(2)
    crowd.handles[0].report(Report.ENDED)
    crowd.look()
    starting = crowd.pool.slots[0].worker
    crowd.pool.roll(SECOND)
    newest(crowd).report(Report.READY)
    assert starting.said[-1] == ("stop",)
    crowd.look(20)
    assert ("kill",) in starting.said


def test_a_slot_that_is_removed_during_a_roll_takes_its_successor_with_it(caplog):
    caplog.set_level("INFO", "pounce.error")
    crowd = Crowd(2)
    crowd.pool.roll(SECOND)
    newest(crowd).report(Report.READY)
    successor = newest(crowd)
    assert successor.number == 1
    crowd.pool.remove_worker()
    assert crowd.handles[1].said == [("retire",)]
    assert successor.said[-1] == ("stop",)
    assert "The workers have been replaced." in caplog.text
    successor.report(Report.READY)
    successor.report(Report.ENDED)
    assert numbers(crowd) == [2, None]
    crowd.pool.add_worker()
    assert (newest(crowd).number, newest(crowd).generation) == (1, SECOND)


def test_a_slot_that_is_added_during_a_roll_is_rolled_too():
    crowd = Crowd(1)
    crowd.pool.roll(SECOND)
    successor = newest(crowd)
    crowd.pool.add_worker()
    added = newest(crowd)
    assert added.generation is FIRST  # the second has started nowhere yet
    added.report(Report.READY)
    successor.report(Report.READY)
    assert (newest(crowd).number, newest(crowd).generation) == (1, SECOND)
    newest(crowd).report(Report.READY)
    assert numbers(crowd) == [2, 2]
    assert added.said[-1] == ("retire",)


def test_an_added_worker_that_does_not_start_leaves_no_slot_behind(caplog):
    crowd = Crowd(1)
    crowd.pool.add_worker()
    newest(crowd).report(Report.ENDED)
    assert "Worker 2 does not start; the server goes on without it." in caplog.text
    assert crowd.pool.count == 1
    assert crowd.pool.slots[1].state is SlotState.REMOVED
