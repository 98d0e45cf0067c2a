"""pounce.per_worker: one object for each worker."""

import sys
import threading

import pounce
from pounce.app.per_worker import enter_worker, leave_worker
from pounce.testing import TestServer
from tests.app.modules import on_threads
from tests.support.server import get


class Thing:
    made = 0

    def __init__(self):
        Thing.made += 1
        self.name = threading.current_thread().name
        self.entered = False

    def __enter__(self):
        self.entered = True
        return self

    def __exit__(self, *_):
        pass

    def __len__(self):
        return 42

    def __eq__(self, other):
        return isinstance(other, Thing)

    __hash__ = None


def test_per_worker_behaves_as_the_object():
    thing = pounce.per_worker(Thing)
    assert isinstance(thing, Thing)
    assert thing.name == threading.current_thread().name
    thing.colour = "red"
    assert thing.colour == "red"
    del thing.colour
    assert not hasattr(thing, "colour")
    with thing as inner:
        assert inner.entered
    assert len(thing) == 42
    assert thing == Thing()
    assert repr(thing).startswith(f"<{__name__}.Thing")
    values = pounce.per_worker(lambda: [3, 1, 2])
    assert sorted(values) == [1, 2, 3]
    assert values[0] == 3
    values.append(4)
    assert list(values) == [3, 1, 2, 4]
    assert pounce.per_worker(lambda: 2) + 3 == 5


def test_per_worker_makes_one_object_for_each_worker():
    Thing.made = 0
    thing = pounce.per_worker(Thing)
    names = []
    barrier = threading.Barrier(4)

    def worker():
        token = enter_worker()
        barrier.wait()
        names.extend(thing.name for _ in range(3))
        barrier.wait()
        leave_worker(token)

    workers = [threading.Thread(target=worker, name=f"worker {number}") for number in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert Thing.made == 4
    assert sorted(names) == sorted([f"worker {number}" for number in range(4)] * 3)


@on_threads
def test_per_worker_in_handlers_and_their_helper_threads():
    # From 3.14 on a thread inherits the context of its starter where Python has no GIL, and so belongs to its worker.
    inherits = getattr(sys.flags, "thread_inherit_context", False)
    thing = pounce.per_worker(Thing)
    failed = []

    async def app(scope, receive, send):
        here = thing.name
        helped = await pounce.to_thread(lambda: thing.name)
        if not (here == helped == threading.current_thread().name):
            failed.append((here, helped))
        stray = []
        thread = threading.Thread(target=lambda: stray.append(attempt()))
        thread.start()
        thread.join()
        if (stray[0] != here) if inherits else ("belongs to no worker" not in stray[0]):
            failed.append(stray)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    def attempt():
        try:
            return thing.name
        except RuntimeError as error:
            return str(error)

    with TestServer(app, threads=3, lifespan="off") as server:
        for _ in range(30):
            assert get((server.host, server.port))[0] == 200
    assert failed == []


def test_per_worker_survives_an_empty_context():
    thing = pounce.per_worker(Thing)
    names = []

    async def app(scope, receive, send):
        names.append(thing.name)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    with TestServer(app, reset_contextvars=True, lifespan="off") as server:
        get((server.host, server.port))
    assert names == ["pounce-test-server"]
