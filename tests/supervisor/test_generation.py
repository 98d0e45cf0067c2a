"""A generation makes its workers, of each kind, and a server rolls from one to another while it serves."""

import contextvars
import dataclasses

import pytest

from pounce.app.loading import load
from pounce.app.sharing import Sharing
from pounce.config import Config
from pounce.kernel.loop import Loop
from pounce.supervisor.generation import Generation, Kind, Surroundings
from pounce.supervisor.local import LocalWorker
from pounce.supervisor.processes import ProcessWorker
from pounce.supervisor.threads import ThreadWorker
from pounce.testing import TestServer
from pounce.worker.control import Report
from pounce.worker.readiness import Readiness
from tests.support.server import get
from tests.system.traffic import Clients


def application(text, fails=False):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.failed" if fails else "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text})

    return app


def threads(number, app, count=2, **options):
    config = Config(app, **options)
    return Generation(number, config, Sharing(config, count, load(config), contextvars.copy_context()), Kind.THREAD)


def processes(number, app):
    return Generation(number, Config(app), None, Kind.PROCESS)


@pytest.fixture
def surroundings():
    loop = Loop()
    yield Surroundings(loop, [], None, Readiness(), tuple)
    loop.close()


@pytest.mark.parametrize(
    ("make", "run_here", "kind"),
    [(processes, None, ProcessWorker), (threads, None, ThreadWorker), (threads, [].append, LocalWorker)],
)
def test_the_worker_is_of_the_generations_kind_and_of_the_slots_number(make, run_here, kind, surroundings):
    generation = make(1, application(b"one"))
    worker = generation.make_worker(7, surroundings, print, run_here=run_here, on_threads_fail=None)
    assert type(worker) is kind
    assert worker.number == 7


def test_a_generation_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        processes(1, application(b"one")).number = 2


@pytest.mark.parametrize("serving", [False, True])
def test_a_thread_that_does_not_start_shows_that_threads_fail_only_before_serving(serving, surroundings):
    generation = threads(1, application(b"one", fails=True), lifespan="on")
    reports, reasons = [], []
    worker = generation.make_worker(
        1, surroundings, reports.append, run_here=None, on_threads_fail=None if serving else reasons.append
    )
    worker.start()
    while Report.ENDED not in reports:
        surroundings.loop.turn(1)
    worker.join()
    assert (Report.START_FAILED in reports) is serving
    assert len(reasons) == (not serving)


@pytest.mark.parametrize("workers", [1, 2])
def test_threads_roll_to_another_application_and_lose_no_request(workers, caplog):
    caplog.set_level("INFO", "pounce.error")
    with TestServer(application(b"one hello"), workers=workers, worker_kind="thread", lifespan="on") as server:
        pool = server.server._supervisor._pool

        def roll(generation):
            server.server._loop.post(lambda: pool.roll(generation))

        def answers(count):
            return {get((server.host, server.port))[1] for _ in range(count)}

        clients = Clients((server.host, server.port))
        clients.wait_for(100)
        roll(threads(2, application(b"two hello"), workers, lifespan="on"))
        while "The workers have been replaced." not in caplog.text:
            clients.wait_for(clients.answered + 1)
        clients.wait_for(clients.answered + 100)
        clients.stop()
        assert clients.cut == []
        assert clients.refused == 0
        assert answers(10) == {b"two hello"}
        roll(threads(3, application(b"three hello", fails=True), workers, lifespan="on"))
        while "is not replaced: its successor did not start. The workers stay." not in caplog.text:
            assert answers(1) == {b"two hello"}
        assert answers(10) == {b"two hello"}
        assert [slot.generation.number for slot in pool.slots] == [2] * workers
