"""`Workers.retire`: the orders that a worker gets which is replaced, and when."""

import gc
import weakref

import pytest

from pounce.supervisor.workers import ABORT_GRACE, HURRY_GRACE, Workers
from pounce.worker.worker import CANCEL_GRACE, LIFESPAN_TIMEOUT
from tests.support.harness import skipping_loop
from tests.support.workers import FIRST, Handle


class Rig:
    def __init__(self, grace=30.0):
        self.loop, self.selector = skipping_loop()
        self.workers = Workers(self.loop, grace, lambda: None)

    def worker(self, *, started=True):
        worker = Handle(FIRST, 0, None)
        self.workers.start(worker)
        if started:
            self.workers.started(worker)
        worker.orders.clear()
        return worker

    def wait(self, seconds):
        self.selector.skip = seconds
        self.loop.turn(0)


@pytest.mark.parametrize(
    ("how", "grace"),
    [({}, 30.0), ({"hurry": True}, HURRY_GRACE), ({"grace": 5.0}, 5.0), ({"grace": 5.0, "hurry": True}, 5.0)],
)
def test_a_worker_that_retires_is_cancelled_after_the_grace_and_killed_where_its_lifespan_takes_too_long(how, grace):
    rig = Rig()
    worker, heir = rig.worker(), rig.worker()
    rig.workers.retire(worker, heir, **how)
    order = ("retire", heir, *(["hurry"] if "hurry" in how else []))
    assert worker.orders == [order]
    rig.wait(grace - 0.1)
    assert worker.orders == [order]
    rig.wait(0.2)
    assert worker.orders == [order, ("cancel",)]
    rig.wait(CANCEL_GRACE + 30 + ABORT_GRACE - 0.2)
    assert worker.orders == [order, ("cancel",)]
    rig.wait(0.4)
    assert worker.orders == [order, ("cancel",), ("kill",)]
    assert heir.orders == []


def test_without_a_graceful_timeout_only_a_hurry_has_an_end():
    rig = Rig(None)
    one, two = rig.worker(), rig.worker()
    rig.workers.retire(one)
    rig.workers.retire(two, hurry=True)
    rig.wait(10_000)
    assert one.orders == [("retire",)]
    assert two.orders == [("retire", "hurry"), ("cancel",)]
    rig.wait(CANCEL_GRACE + LIFESPAN_TIMEOUT + ABORT_GRACE + 0.1)
    assert two.orders[-1] == ("kill",)


def test_a_worker_that_has_not_served_yet_is_not_told_to_retire():
    rig = Rig()
    worker = rig.worker(started=False)
    rig.workers.retire(worker, rig.worker(), hurry=True)
    assert worker.orders == [("stop",)]


@pytest.mark.parametrize("hurry", [False, True])
def test_when_another_server_process_replaces_them_workers_retire_and_those_that_start_are_stopped(hurry):
    rig = Rig()
    serving, starting = rig.worker(), rig.worker(started=False)
    rig.workers.stop(30.0, replaced=True, hurry=hurry)
    assert serving.orders == [("retire", *(["hurry"] if hurry else []))]
    assert starting.orders == [("stop",)]
    rig.wait(30.1)
    assert serving.orders[-1] == ("cancel",)


def test_nothing_keeps_a_worker_that_has_ended():
    """Its application would stay until its time is over: 200 reloads within that time are 200 applications."""
    rig = Rig()
    worker, dropped = rig.worker(), rig.worker(started=False)
    seen = weakref.ref(worker), weakref.ref(dropped)
    rig.workers.retire(worker, rig.worker())
    rig.workers.drop(dropped)
    for each in (worker, dropped):
        rig.workers.ended(each)
        rig.workers.retire(each)  # late: it changes nothing
    del worker, dropped, each
    gc.collect()
    assert [each() for each in seen] == [None, None]
    rig.wait(100)
