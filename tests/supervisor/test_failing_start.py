"""A signal lets the application's start finish. Where that fails, the server has failed, as under uvicorn."""

import signal

import pytest

from tests.support.server import Running

PROGRAM = """
import os

async def app(scope, receive, send):
    await receive()
    print("starting", flush=True)
    await told()
    {end}

async def told():
    import pounce

    while not os.path.exists("signalled"):
        await pounce.sleep(0.01)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    "end", ['raise RuntimeError("no database")', 'await send({"type": "lifespan.startup.failed", "message": "no"})']
)
def test_a_start_that_fails_after_sigterm_exits_with_3(end, workers, number, tmp_path):
    (tmp_path / "failing.py").write_text(PROGRAM.format(end=end))
    options = ["--lifespan", "on", "--workers", workers]
    with Running("failing:app", "--port", "0", *options, ready=False, cwd=tmp_path) as server:
        server.wait_for("starting")
        server.send_signal(number)
        server.wait_for("Shutting down once the application has started.")
        (tmp_path / "signalled").touch()
        assert server.end() == 3
        assert server.lines[-1].endswith("Application startup failed. Exiting.")
