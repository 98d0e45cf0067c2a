"""TestServer: what a start that fails raises, and how it is left while requests run."""

import threading

import httpx
import pytest

import pounce
from pounce.errors import StartupError
from pounce.testing import TestServer
from tests.support.requirements import library


async def raises(scope, receive, send):
    raise ValueError("no database")


async def gives_up(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("app", "options", "cause", "words"),
    [
        ("no_such_module:app", {}, StartupError, 'Could not import module "no_such_module"'),
        ("os:nothing", {}, StartupError, 'Attribute "nothing" not found'),
        (lambda: 1 / 0, {"factory": True}, ZeroDivisionError, "division by zero"),
        (raises, {"lifespan": "on"}, ValueError, "no database"),
        (gives_up, {}, StartupError, "no database"),
        (raises, {"bind": ["203.0.113.7:1"], "host": None, "port": None}, StartupError, "203.0.113.7"),
    ],
)
def test_testserver_that_cannot_start_raises_with_its_cause(app, options, cause, words, threads):
    options = {key: value for key, value in options.items() if value is not None}
    with pytest.raises(RuntimeError) as caught, TestServer(app, workers=threads, worker_kind="thread", **options):
        raise AssertionError("it has started")
    assert type(caught.value.__cause__) is cause
    assert words in str(caught.value.__cause__)


def test_testserver_start_that_a_starlette_lifespan_fails_has_its_exception_as_cause():
    library("starlette")
    from starlette.applications import Starlette

    def lifespan(app):
        raise ValueError("no database")

    with pytest.raises(RuntimeError) as caught, TestServer(Starlette(lifespan=lifespan)):
        raise AssertionError("it has started")
    assert type(caught.value.__cause__) is ValueError


@pytest.mark.parametrize("threads", [1, 2])
def test_testserver_left_while_a_request_runs_cancels_it_before_lifespan_shutdown(threads, caplog):
    happened = []
    entered = threading.Event()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            happened.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        entered.set()
        try:
            while True:
                await pounce.sleep(60)
        finally:
            happened.append("request ended")

    def ask():
        with pytest.raises(httpx.HTTPStatusError):
            httpx.get(server.url, timeout=30).raise_for_status()

    with TestServer(app, workers=threads, worker_kind="thread", timeout=4.0) as server:
        client = threading.Thread(target=ask)
        client.start()
        assert entered.wait(30)
    client.join()
    assert happened.count("shutdown") == threads
    assert happened[-2:] == ["request ended", "shutdown"]
    assert "Task was destroyed" not in caplog.text
