"""Start-up and shutdown of the application on a worker."""

import pytest

import pounce
from pounce.worker.worker import Report, Worker, WorkerState
from tests.support.answers import content_of
from tests.support.applications import hello
from tests.support.harness import Rig
from tests.support.requests import GET


def lifespan(*says, before=(), record=None):
    """An application whose lifespan says these messages, each after a `receive`."""

    async def app(scope, receive, send):
        if scope["type"] != "lifespan":
            await hello(scope, receive, send)
            return
        for message in says:
            got = await receive()
            if record is not None:
                record.append(got["type"])
            if isinstance(message, BaseException):
                raise message
            await send(message if isinstance(message, dict) else {"type": message})

    return app


UP, DOWN = "lifespan.startup.complete", "lifespan.shutdown.complete"


def test_lifespan_startup_and_shutdown():
    record = []
    rig = Rig(lifespan(UP, DOWN, record=record), lifespan="on")
    assert (rig.reports, rig.worker.state) == ([Report.READY], WorkerState.SERVING)
    client = rig.connect()
    assert content_of(client.ask(GET)) == b"hello"
    assert record == ["lifespan.startup"]
    rig.worker.stop()
    rig.wait(1)
    assert record == ["lifespan.startup", "lifespan.shutdown"]
    assert rig.worker.state is WorkerState.ENDED
    assert rig.worker.exit_code == 0


def test_lifespan_scope():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        raise RuntimeError

    Rig(app, lifespan="auto")
    assert scopes == [{"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}]


def test_lifespan_startup_comes_before_any_connection():
    async def app(scope, receive, send):
        await receive()
        await pounce.sleep(3)
        await send({"type": UP})

    rig = Rig(app, lifespan="on")
    assert (rig.reports, rig.worker.state) == ([], WorkerState.STARTING)
    rig.wait(3.1)
    assert (rig.reports, rig.worker.state) == ([Report.READY], WorkerState.READY)


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_lifespan_startup_failed_logs_the_applications_message(mode, caplog):
    app = lifespan({"type": "lifespan.startup.failed", "message": "no database"})
    rig = Rig(app, lifespan=mode)
    assert (rig.reports, rig.worker.state) == ([Report.START_FAILED], WorkerState.ENDED)
    assert [record.message for record in caplog.records] == ["no database"]


def test_lifespan_auto_takes_an_exception_at_startup_for_unsupported(caplog):
    caplog.set_level("INFO")
    rig = Rig(lifespan(RuntimeError("who are you?")), lifespan="auto")
    assert rig.reports == [Report.LIFESPAN_UNSUPPORTED, Report.READY]
    assert "who are you" not in caplog.text


def test_lifespan_on_takes_an_exception_at_startup_for_a_failure(caplog):
    rig = Rig(lifespan(RuntimeError("who are you?")), lifespan="on")
    assert rig.reports == [Report.START_FAILED]
    assert "Exception in 'lifespan' protocol" in caplog.text
    assert "who are you" in caplog.text


def test_lifespan_off_does_not_call_the_application():
    record = []
    rig = Rig(lifespan(UP, record=record), lifespan="off")
    assert (rig.reports, record) == ([Report.READY], [])


def test_lifespan_that_returns_without_a_message_is_complete():
    rig = Rig(lifespan(), lifespan="auto")
    assert rig.reports == [Report.READY]
    rig.worker.stop()
    rig.wait(1)
    assert rig.worker.exit_code == 0


def test_lifespan_shutdown_failed_is_reported(caplog):
    rig = Rig(lifespan(UP, {"type": "lifespan.shutdown.failed", "message": "still busy"}), lifespan="on")
    rig.worker.stop()
    rig.wait(1)
    assert rig.worker.exit_code == 3
    assert "still busy" in caplog.text


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_lifespan_shutdown_that_raises_is_reported(mode, caplog):
    rig = Rig(lifespan(UP, RuntimeError("broken pool")), lifespan=mode)
    rig.worker.stop()
    rig.wait(1)
    assert rig.worker.exit_code == 3
    assert "broken pool" in caplog.text


def test_lifespan_shutdown_that_hangs_is_bounded(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": UP})
        await receive()
        await pounce.sleep(10_000)

    rig = Rig(app, lifespan="on", timeout_graceful_shutdown=7)
    rig.worker.stop()
    rig.wait(6.9)
    assert rig.worker.state is WorkerState.STOPPING
    rig.wait(0.5)
    assert rig.worker.state is WorkerState.ENDED
    assert rig.worker.exit_code == 3
    assert "Application shutdown has not ended within 7 seconds; it is cancelled." in caplog.text


def slow_start(seen):
    async def app(scope, receive, send):
        await receive()
        try:
            await pounce.sleep(10)
            seen.append("started")
        except BaseException:
            seen.append("cancelled")
            raise
        await send({"type": UP})
        seen.append((await receive())["type"])
        await send({"type": DOWN})

    return app


def test_stop_lets_lifespan_startup_finish_and_shuts_down_then():
    seen = []
    rig = Rig(slow_start(seen), lifespan="on")
    rig.worker.stop()
    rig.wait(9)
    assert (seen, rig.worker.state) == ([], WorkerState.STARTING)
    rig.wait(2)
    assert seen == ["started", "lifespan.shutdown"]
    assert (rig.worker.state, rig.worker.exit_code) == (WorkerState.ENDED, 0)
    assert rig.reports == [Report.READY, Report.LIFESPAN_ENDING, Report.LIFESPAN_ENDED]


@pytest.mark.parametrize("how", [Worker.cancel, Worker.abort])
def test_cancel_ends_lifespan_startup(how):
    seen = []
    rig = Rig(slow_start(seen), lifespan="on")
    rig.worker.stop()
    rig.wait(1)
    how(rig.worker)
    rig.wait(1)
    assert seen == ["cancelled"]
    assert rig.worker.state is WorkerState.ENDED
    assert rig.reports == []


@pytest.mark.parametrize("messages", [[UP, UP], [DOWN], ["http.response.start"], [UP, "nonsense"]])
def test_lifespan_messages_out_of_order_raise(messages, caplog):
    rig = Rig(lifespan(*messages), lifespan="on")
    rig.worker.stop()
    rig.wait(1)
    assert "cannot be sent now: the application is in its" in caplog.text


def test_lifespan_shutdown_comes_after_the_last_response():
    order = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": UP})
            await receive()
            order.append("shutdown")
            await send({"type": DOWN})
        else:
            await pounce.sleep(5)
            order.append("response")
            await hello(scope, receive, send)

    rig = Rig(app, lifespan="on")
    client = rig.connect()
    client.send(GET)
    rig.worker.stop()
    rig.wait(6)
    assert order == ["response", "shutdown"]
    assert content_of(client.read()) == b"hello"
