"""What the log says of a start and an end, in uvicorn's words, and each line once."""

import signal

import pytest

from pounce.supervisor.plan import has_gil
from tests.support.server import Running

LIFE = """
import sys
import pounce

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if "slow" in sys.argv[1]:
            print("starting", flush=True)
            await pounce.sleep(1)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("told to shut down", flush=True)
        await send({"type": "lifespan.shutdown.failed" if "broken" in sys.argv[1] else "lifespan.shutdown.complete"})

slow = broken = app

async def none(scope, receive, send):
    assert scope["type"] == "http"
"""


LINES = (
    "Waiting for application startup.",
    "Application startup complete.",
    "ASGI 'lifespan' protocol appears unsupported.",
    "Waiting for application shutdown.",
    "Application shutdown complete.",
    "Application shutdown failed. Exiting.",
)


@pytest.fixture
def life(tmp_path):
    (tmp_path / "life.py").write_text(LIFE)

    def start(name, *arguments, ready=True):
        return Running(f"life:{name}", "--port", "0", *arguments, cwd=tmp_path, ready=ready)

    return start


def said(server):
    return [server.log.count(line) for line in LINES]


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [
        ("app", "auto", [1, 1, 0, 1, 1, 0]),
        ("broken", "auto", [1, 1, 0, 1, 0, 1]),
        ("none", "auto", [1, 1, 1, 0, 0, 0]),
        ("app", "off", [0, 0, 0, 0, 0, 0]),
    ],
)
def test_each_line_of_the_lifespan_is_logged_once(name, mode, expected, workers, life):
    with life(name, "--workers", workers, "--lifespan", mode) as server:
        server.stop(signal.SIGINT)
        assert said(server) == expected
        lines = server.log
        assert lines.index("Shutting down") < lines.index("Finished server process")
        if expected[3]:
            assert lines.index("Shutting down") < lines.index("Waiting for application shutdown.")
            end = LINES[4] if expected[4] else LINES[5]
            assert lines.index("Waiting for application shutdown.") < lines.index(end)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_during_the_start_lets_it_finish(workers, number, life):
    with life("slow", "--workers", workers, ready=False) as server:
        server.wait_for("starting")
        assert server.stop(number) == (143 if number == signal.SIGTERM and (workers == "1" or not has_gil()) else 0)
        assert server.log.count("Shutting down once the application has started.") == 1
        assert server.log.count("told to shut down") == 1
        assert server.log.count("Application shutdown complete.") == 1
        assert "Pounce running" not in server.log
