"""The pool of workers: starts, deaths, replacements, stops, and the watchdog, at the test's own time."""

import errno

import pytest

from pounce.supervisor.pool import MAX_QUICK_FAILURES, Pool
from pounce.worker.control import Report
from tests.support.workers import FIRST, SECOND, PoolRig


# Found by reading the code.
def test_timeout_worker_stuck_counts_lost_workers_as_no_deaths(caplog):
    rig = PoolRig(2, stuck_timeout=1.0)
    for _ in range(MAX_QUICK_FAILURES + 3):
        rig.pool.slots[0].worker.waited = 1.2
        rig.scan(2)
        rig.pool.slots[0].worker.report(Report.READY)
    assert caplog.text.count("is given up") == MAX_QUICK_FAILURES + 3
    assert rig.owner.failures == []


# Found by reading the code.
@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")]
)
def test_a_successor_that_cannot_be_started_is_tried_again_and_the_old_one_stays(error, caplog):
    rig = PoolRig(2)
    make_worker = rig.owner.make_worker

    def fail(generation, number, on_report):
        rig.owner.make_worker = make_worker
        raise error

    rig.owner.make_worker = fail
    before = rig.pool.slots[1].worker
    before.report(Report.WANTS_SUCCESSOR)
    assert "Worker 2 cannot be started: " in caplog.text
    assert rig.pool.slots[1].worker is before  # better than none
    assert before.orders == []
    rig.scan(60)
    successor = rig.owner.made[-1]
    assert before.orders == []  # its successor is starting
    successor.report(Report.READY)
    assert rig.pool.slots[1].worker is successor
    assert before.orders == [("retire", successor)]
    assert rig.owner.failures == []


def test_a_worker_whose_successor_does_not_start_stays_and_is_renewed_later(caplog):
    rig = PoolRig(2)
    before = rig.handles[1]
    before.report(Report.WANTS_SUCCESSOR)
    rig.owner.made[-1].report(Report.START_FAILED)
    rig.owner.made[-1].report(Report.ENDED)
    assert "Worker 2 is not replaced: its successor did not start. The workers stay." in caplog.text
    assert rig.pool.slots[1].worker is before
    assert before.orders == []
    rig.scan(60)
    rig.owner.made[-1].report(Report.READY)
    assert before.orders == [("retire", rig.owner.made[-1])]
    assert len(rig.owner.made) == 4


def test_workers_are_renewed_one_after_the_other():
    rig = PoolRig(3)
    for handle in rig.handles:
        handle.report(Report.WANTS_SUCCESSOR)
    for number in range(3):
        assert len(rig.owner.made) == 4 + number
        assert rig.owner.made[-1].number == number
        assert rig.handles[number].orders == []
        successor = rig.owner.made[-1]
        successor.report(Report.READY)
        assert rig.handles[number].orders == [("retire", successor)]
    assert len(rig.owner.made) == 6


def test_a_roll_replaces_workers_that_wait_to_be_renewed_only_once():
    rig = PoolRig(2)
    for handle in rig.handles:
        handle.report(Report.WANTS_SUCCESSOR)
    renewed = rig.owner.made[-1]
    rig.pool.roll(SECOND)
    assert renewed.orders[-1] == ("stop",)
    while rig.owner.rolls != [(2, "")]:
        rig.owner.made[-1].report(Report.READY)
    assert [slot.worker.generation for slot in rig.pool.slots] == [SECOND, SECOND]
    assert len(rig.owner.made) == 5


# Found by reading the code.
def test_a_dead_worker_that_cannot_be_replaced_is_tried_again():
    rig = PoolRig(2)
    make_worker = rig.owner.make_worker

    def fail(generation, number, on_report):
        rig.owner.make_worker = make_worker
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    rig.owner.make_worker = fail
    rig.pool.slots[1].worker.report(Report.ENDED)
    rig.scan(2)
    assert rig.pool.slots[1].worker is None
    rig.scan(60)
    assert rig.pool.slots[1].worker is not None


# Found by reading the code.
def test_a_pool_that_stops_starts_no_worker():
    rig = PoolRig(1)
    owner, pool = rig.owner, None

    def fail_second(generation, number, on_report):
        if number == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return make_worker(generation, number, on_report)

    def failed(code):
        pool.stop(None)

    make_worker, owner.make_worker, owner.pool_failed = owner.make_worker, fail_second, failed
    owner.made.clear()
    pool = Pool(owner, rig.loop, FIRST, 4)
    pool.start()
    owner.made[0].report(Report.READY)
    assert len(owner.made) == 1
    assert ("stop",) in owner.made[0].orders


# Found by reading the code.
def test_a_first_worker_that_cannot_be_started_ends_the_server_with_3():
    rig = PoolRig(1)

    def fail(generation, number, on_report):
        raise OSError(errno.EMFILE, "Too many open files")

    rig.owner.make_worker = fail
    pool = Pool(rig.owner, rig.loop, FIRST, 1)
    pool.start()
    assert rig.owner.failures == [3]


# Found by reading the code.
def test_stop_kills_a_successor_that_is_still_starting():
    rig = PoolRig(2)
    rig.pool.slots[0].worker.report(Report.WANTS_SUCCESSOR)
    starting = rig.owner.made[-1]
    rig.pool.stop(30.0)
    rig.scan(200)  # its start has the graceful timeout, too
    assert ("kill",) in starting.orders


# Found by reading the code.
def test_stop_spares_a_successor_that_has_started_meanwhile():
    rig = PoolRig(2)
    rig.pool.slots[0].worker.report(Report.WANTS_SUCCESSOR)
    late = rig.owner.made[-1]
    rig.pool.stop(30.0)
    late.report(Report.READY)
    rig.scan(15)
    assert ("kill",) not in late.orders
    assert ("kill",) not in rig.pool.slots[1].worker.orders


# Found by reading the code.
def test_timeout_graceful_shutdown_is_followed_by_cancel_abandon_and_kill():
    rig = PoolRig(2)
    rig.forget()
    began, times = rig.loop.clock(), {}
    rig.pool.stop(30.0)
    while not rig.pool.workers.abandoned_threads and rig.loop.clock() < began + 100:
        for name, *_ in rig.handles[0].orders:
            times.setdefault(name, rig.loop.clock() - began)
        rig.handles[0].kill = lambda: times.setdefault("kill", rig.loop.clock() - began) < 0  # a thread: it cannot
        rig.scan()
    assert list(times) == ["stop", "cancel", "abort", "kill"]
    assert times["stop"] == 0
    assert times["cancel"] == pytest.approx(30, abs=1)
    assert times["abort"] == pytest.approx(62, abs=1)  # exchanges, then lifespan had their time
    assert times["kill"] == pytest.approx(63, abs=1)
