"""`Pool.roll`: the workers of one generation are replaced by those of another, slot by slot, at the test's own time."""

import dataclasses
import errno

import pytest

from pounce.app.sharing import NeedsProcesses
from pounce.supervisor.slot import SlotState
from pounce.worker.control import Report
from tests.support.workers import FIRST, SECOND, THIRD, PoolRig


def numbers(rig):
    """Of the generation of each worker that has a slot."""
    return [slot.worker and slot.worker.generation.number for slot in rig.pool.slots]


def newest(rig):
    return rig.owner.made[-1]


def test_a_successor_is_ready_before_its_predecessor_retires_slot_by_slot(caplog):
    caplog.set_level("INFO", "pounce.error")
    rig = PoolRig(2)
    one, two = rig.handles
    rig.pool.roll(SECOND)
    assert len(rig.owner.made) == 3
    assert (newest(rig).number, newest(rig).generation) == (0, SECOND)
    assert one.orders == two.orders == []  # they serve
    heir = newest(rig)
    heir.report(Report.READY)
    assert one.orders == [("retire", heir)]
    assert ("serve",) in rig.pool.slots[0].worker.orders
    assert numbers(rig) == [2, 1]
    assert two.orders == []
    assert (newest(rig).number, newest(rig).generation) == (1, SECOND)
    assert "have been replaced" not in caplog.text
    heir = newest(rig)
    heir.report(Report.READY)
    assert two.orders == [("retire", heir)]
    assert numbers(rig) == [2, 2]
    assert "The workers have been replaced." in caplog.text
    assert rig.pool.generation is SECOND
    one.report(Report.ENDED)
    two.report(Report.ENDED)
    assert numbers(rig) == [2, 2]
    assert rig.owner.failures == []


@pytest.mark.parametrize("how", [Report.START_FAILED, Report.ENDED])
@pytest.mark.parametrize("failing", [0, 1])
def test_a_successor_that_does_not_start_ends_the_roll_and_its_predecessor_stays(how, failing, caplog):
    rig = PoolRig(2)
    rig.pool.roll(SECOND)
    for _ in range(failing):
        newest(rig).report(Report.READY)
    made = len(rig.owner.made)
    newest(rig).report(how)
    newest(rig).report(Report.ENDED)
    assert f"Worker {failing + 1} is not replaced: its successor did not start. The workers stay." in caplog.text
    assert numbers(rig) == [2, 1][1 - failing :] + [1] * (1 - failing)
    assert rig.handles[failing].orders == []
    assert len(rig.owner.made) == made
    assert rig.owner.failures == []


def test_a_successor_that_cannot_be_made_ends_the_roll(caplog):
    rig = PoolRig(2)

    def fail(generation, number, on_report):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    rig.owner.make_worker = fail
    rig.pool.roll(SECOND)
    assert "Worker 1 cannot be started: " in caplog.text
    assert numbers(rig) == [1, 1]
    del rig.owner.make_worker
    rig.pool.roll(SECOND)
    newest(rig).report(Report.READY)
    newest(rig).report(Report.READY)
    assert numbers(rig) == [2, 2]


def test_a_roll_during_a_roll_ends_it_and_the_successor_that_is_starting(caplog):
    caplog.set_level("INFO", "pounce.error")
    rig = PoolRig(3)
    rig.pool.roll(SECOND)
    newest(rig).report(Report.READY)
    starting = newest(rig)
    assert (starting.number, starting.generation) == (1, SECOND)
    made = len(rig.owner.made)
    rig.pool.roll(THIRD)
    assert starting.orders[-1] == ("stop",)  # it may hang, and what it starts is out of date
    while len(rig.owner.made) < made + 3:
        newest(rig).report(Report.READY)
    newest(rig).report(Report.READY)
    assert numbers(rig) == [3, 3, 3]
    assert [handle.number for handle in rig.owner.made[made:]] == [0, 1, 2]
    assert caplog.text.count("The workers have been replaced.") == 1
    assert rig.owner.rolls == [(2, "a newer generation follows"), (3, "")]


def test_a_successor_of_an_older_roll_that_ends_late_does_not_end_the_newer_one():
    rig = PoolRig(2)
    rig.pool.roll(SECOND)
    older = newest(rig)
    rig.pool.roll(THIRD)
    older.report(Report.START_FAILED)
    older.report(Report.ENDED)
    assert newest(rig).generation is THIRD
    newest(rig).report(Report.READY)
    newest(rig).report(Report.READY)
    assert numbers(rig) == [3, 3]


def test_a_generation_that_must_not_serve_ends_its_roll_before_it_has_served(caplog):
    class Application:
        def inspect(self, *, final):
            raise NeedsProcesses("it holds a lock")

    rig = PoolRig(2)
    rig.pool.roll(dataclasses.replace(SECOND, application=Application()))
    newest(rig).report(Report.READY)
    assert "The workers are not replaced, because it holds a lock." in caplog.text
    assert newest(rig).orders[-1] == ("stop",)
    assert numbers(rig) == [1, 1]
    assert rig.owner.rolls == [(2, "it holds a lock")]


def test_a_generation_ends_with_its_last_worker():
    rig = PoolRig(2)
    rig.pool.roll(SECOND)
    for _ in rig.handles:
        newest(rig).report(Report.READY)
    rig.handles[0].report(Report.ENDED)
    assert rig.owner.gone == []
    rig.handles[1].report(Report.ENDED)
    assert rig.owner.gone == [1]


def test_a_generation_that_did_not_start_ends_with_the_worker_that_tried():
    rig = PoolRig(2)
    rig.pool.roll(SECOND)
    newest(rig).report(Report.START_FAILED)
    assert rig.owner.gone == []
    newest(rig).report(Report.ENDED)
    assert rig.owner.gone == [2]


def test_stop_during_a_roll_ends_the_successor_too_and_starts_no_other():
    rig = PoolRig(2)
    rig.pool.roll(SECOND)
    successor = newest(rig)
    rig.pool.stop(30.0)
    assert ("stop",) in successor.orders
    assert all(("stop",) in handle.orders for handle in rig.handles)
    successor.report(Report.READY)
    assert len(rig.owner.made) == 3
    assert numbers(rig) == [1, 1]
    for handle in rig.owner.made:
        assert not rig.owner.ended
        handle.report(Report.ENDED)
    assert rig.owner.ended == 1


def test_a_roll_after_stop_starts_no_worker():
    rig = PoolRig(2)
    rig.pool.stop(30.0)
    rig.pool.roll(SECOND)
    assert len(rig.owner.made) == 2


def test_stop_kills_a_successor_that_is_still_starting_after_the_graceful_timeout(caplog):
    rig = PoolRig(1)
    rig.pool.roll(SECOND)
    rig.pool.stop(5.0)
    rig.scan(50)
    assert ("kill",) in newest(rig).orders
    assert "Worker 1 is still starting; it is given up." in caplog.text


def test_a_worker_that_dies_while_its_successor_starts_is_replaced_by_it():
    rig = PoolRig(2)
    rig.pool.roll(SECOND)
    rig.handles[0].report(Report.ENDED)
    rig.scan(20)
    assert len(rig.owner.made) == 3
    rig.owner.made[2].report(Report.READY)
    assert numbers(rig) == [2, 1]


def test_a_worker_that_dies_while_its_successor_starts_in_vain_is_replaced_by_its_own_generation():
    rig = PoolRig(2)
    rig.pool.roll(SECOND)
    rig.handles[0].report(Report.ENDED)
    newest(rig).report(Report.START_FAILED)
    assert newest(rig).generation is FIRST
    newest(rig).report(Report.READY)
    assert numbers(rig) == [1, 1]


def test_a_worker_that_dies_after_a_roll_is_replaced_by_the_new_generation():
    rig = PoolRig(1)
    rig.pool.roll(SECOND)
    newest(rig).report(Report.READY)
    newest(rig).report(Report.ENDED)
    rig.scan()
    assert newest(rig).generation is SECOND
    assert len(rig.owner.made) == 3


def test_an_empty_slot_gets_the_new_generation_when_another_slot_has_it():
    rig = PoolRig(2)
    rig.handles[0].report(Report.ENDED)
    rig.scan()
    newest(rig).report(Report.ENDED)  # the second time in a row, so the next worker waits for its delay
    assert rig.pool.slots[0].worker is None
    rig.pool.roll(SECOND)
    assert (newest(rig).number, newest(rig).generation) == (1, SECOND)
    assert rig.pool.slots[0].generation is FIRST
    newest(rig).report(Report.READY)
    assert rig.pool.slots[0].generation is SECOND
    rig.scan(20)
    assert (newest(rig).number, newest(rig).generation) == (0, SECOND)


def test_a_worker_that_is_still_starting_when_its_successor_is_ready_is_stopped():
    rig = PoolRig(2)
    rig.handles[0].report(Report.ENDED)
    rig.scan()
    starting = rig.pool.slots[0].worker
    rig.pool.roll(SECOND)
    newest(rig).report(Report.READY)
    assert starting.orders[-1] == ("stop",)
    rig.scan(20)
    assert ("kill",) in starting.orders


def test_a_slot_that_is_removed_during_a_roll_takes_its_successor_with_it(caplog):
    caplog.set_level("INFO", "pounce.error")
    rig = PoolRig(2)
    rig.pool.roll(SECOND)
    newest(rig).report(Report.READY)
    successor = newest(rig)
    assert successor.number == 1
    rig.pool.remove_worker()
    assert rig.handles[1].orders == [("retire", rig.pool.slots[0].worker)]  # its clients keep their connections
    assert successor.orders[-1] == ("stop",)
    assert "The workers have been replaced." in caplog.text
    successor.report(Report.READY)
    successor.report(Report.ENDED)
    assert numbers(rig) == [2, None]
    rig.pool.add_worker()
    assert (newest(rig).number, newest(rig).generation) == (1, SECOND)


def test_a_slot_that_is_added_during_a_roll_is_rolled_too():
    rig = PoolRig(1)
    rig.pool.roll(SECOND)
    successor = newest(rig)
    rig.pool.add_worker()
    added = newest(rig)
    assert added.generation is FIRST  # the second has started nowhere yet
    added.report(Report.READY)
    successor.report(Report.READY)
    assert (newest(rig).number, newest(rig).generation) == (1, SECOND)
    newest(rig).report(Report.READY)
    assert numbers(rig) == [2, 2]
    assert added.orders[-1] == ("retire", newest(rig))


def test_an_added_worker_that_does_not_start_leaves_no_slot_behind(caplog):
    rig = PoolRig(1)
    rig.pool.add_worker()
    newest(rig).report(Report.ENDED)
    assert "Worker 2 does not start; the server goes on without it." in caplog.text
    assert rig.pool.count == 1
    assert rig.pool.slots[1].state is SlotState.REMOVED
