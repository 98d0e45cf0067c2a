"""The pool of workers: starts, deaths, replacements, stops, and the watchdog, at the test's own time."""

import errno

import pytest

from pounce.supervisor.pool import MAX_QUICK_FAILURES, Pool
from pounce.worker.control import Report
from tests.support.workers import FIRST, Crowd


# Found by reading the code.
def test_timeout_worker_stuck_counts_lost_workers_as_no_deaths(caplog):
    crowd = Crowd(2, stuck_timeout=1.0)
    for _ in range(MAX_QUICK_FAILURES + 3):
        crowd.pool.slots[0].worker.waited = 1.2
        crowd.look(2)
        crowd.pool.slots[0].worker.report(Report.READY)
    assert caplog.text.count("is given up") == MAX_QUICK_FAILURES + 3
    assert crowd.owner.failures == []


# Found by reading the code.
@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")]
)
def test_a_successor_that_cannot_be_started_is_tried_again_and_the_old_one_stays(error, caplog):
    crowd = Crowd(2)
    make_worker = crowd.owner.make_worker

    def fail(generation, number, on_report):
        crowd.owner.make_worker = make_worker
        raise error

    crowd.owner.make_worker = fail
    before = crowd.pool.slots[1].worker
    before.report(Report.WANTS_SUCCESSOR)
    assert "Worker 2 cannot be started: " in caplog.text
    assert crowd.pool.slots[1].worker is before  # better than nobody
    assert ("retire",) not in before.said
    crowd.look(60)
    assert crowd.pool.slots[1].worker is not before
    assert ("retire",) in before.said
    assert crowd.owner.failures == []


# Found by reading the code.
def test_a_dead_worker_that_cannot_be_replaced_is_tried_again():
    crowd = Crowd(2)
    make_worker = crowd.owner.make_worker

    def fail(generation, number, on_report):
        crowd.owner.make_worker = make_worker
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    crowd.owner.make_worker = fail
    crowd.pool.slots[1].worker.report(Report.ENDED)
    crowd.look(2)
    assert crowd.pool.slots[1].worker is None
    crowd.look(60)
    assert crowd.pool.slots[1].worker is not None


# Found by reading the code.
def test_a_pool_that_stops_starts_no_worker():
    crowd = Crowd(1)
    owner, pool = crowd.owner, None

    def fail_second(generation, number, on_report):
        if number == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return make_worker(generation, number, on_report)

    def failed(code):
        pool.stop(None)

    make_worker, owner.make_worker, owner.pool_failed = owner.make_worker, fail_second, failed
    owner.made.clear()
    pool = Pool(owner, crowd.loop, FIRST, 4)
    pool.start()
    owner.made[0].report(Report.READY)
    assert len(owner.made) == 1
    assert ("stop",) in owner.made[0].said


# Found by reading the code.
def test_a_first_worker_that_cannot_be_started_ends_the_server_with_3():
    crowd = Crowd(1)

    def fail(generation, number, on_report):
        raise OSError(errno.EMFILE, "Too many open files")

    crowd.owner.make_worker = fail
    pool = Pool(crowd.owner, crowd.loop, FIRST, 1)
    pool.start()
    assert crowd.owner.failures == [3]


# Found by reading the code.
def test_stop_kills_a_successor_that_is_still_starting():
    crowd = Crowd(2)
    crowd.pool.slots[0].worker.report(Report.WANTS_SUCCESSOR)
    starting = crowd.pool.slots[0].worker
    crowd.pool.stop(30.0)
    crowd.look(200)  # ticks: its start has the graceful time-out as well
    assert ("kill",) in starting.said


# Found by reading the code.
def test_stop_spares_a_successor_that_has_started_meanwhile():
    crowd = Crowd(2)
    crowd.pool.slots[0].worker.report(Report.WANTS_SUCCESSOR)
    late = crowd.pool.slots[0].worker
    crowd.pool.stop(30.0)
    late.report(Report.READY)
    crowd.look(15)
    assert ("kill",) not in late.said
    assert ("kill",) not in crowd.pool.slots[1].worker.said


# Found by reading the code.
def test_timeout_graceful_shutdown_is_followed_by_cancel_abandon_and_kill():
    crowd = Crowd(2)
    crowd.forget()
    began, told = crowd.loop.clock(), {}
    crowd.pool.stop(30.0)
    while not crowd.pool.abandoned_threads and crowd.loop.clock() < began + 100:
        for name, *_ in crowd.handles[0].said:
            told.setdefault(name, crowd.loop.clock() - began)
        crowd.handles[0].kill = lambda: told.setdefault("kill", crowd.loop.clock() - began) < 0  # a thread: it cannot
        crowd.look()
    assert list(told) == ["stop", "cancel", "abort", "kill"]
    assert told["stop"] == 0
    assert told["cancel"] == pytest.approx(30, abs=1)
    assert told["abort"] == pytest.approx(62, abs=1)  # exchanges, then lifespan had their time
    assert told["kill"] == pytest.approx(63, abs=1)
