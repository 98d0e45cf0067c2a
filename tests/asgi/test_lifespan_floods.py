"""An application that sends the same wrong message for ever, in its lifespan, does not keep the server from its end."""

import pytest

from tests.support.server import Running

PROGRAM = """
{imports}

async def app(scope, receive, send):
    await receive()
    {started}
    print("says", flush=True)
    while True:
        try:
            await send({message})
        except Exception:
            pass
"""


@pytest.mark.parametrize("imports", ["", "import asyncio"], ids=["plain", "asyncio"])
@pytest.mark.parametrize("message", ['{"type": "lifespan.shutdown.failed"}', '{"type": "http.response.body"}', "{}"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_lifespan_startup_that_sends_for_ever_can_be_ended(workers, message, imports, tmp_path):
    (tmp_path / "wrong.py").write_text(PROGRAM.format(imports=imports, message=message, started=""))
    options = ["--workers", workers, "--timeout-graceful-shutdown", "1"]
    with Running("wrong:app", "--port", "0", *options, ready=False, cwd=tmp_path) as server:
        server.wait_for("says")
        server.stop()
        assert "Shutting down once the application has started" in server.log
        assert "it is abandoned" not in server.log
        assert "given up" not in server.log


@pytest.mark.parametrize("imports", ["", "import asyncio"], ids=["plain", "asyncio"])
def test_lifespan_shutdown_that_sends_for_ever_can_be_ended(imports, tmp_path):
    started = 'await send({"type": "lifespan.startup.complete"}); await receive()'
    message = '{"type": "lifespan.startup.complete"}'
    (tmp_path / "wrong.py").write_text(PROGRAM.format(imports=imports, message=message, started=started))
    options = ["--lifespan", "on", "--timeout-graceful-shutdown", "1"]
    with Running("wrong:app", "--port", "0", *options, cwd=tmp_path) as server:
        server.stop()
        assert "Application shutdown has not ended within 1 seconds; it is cancelled." in server.log
        assert "it is abandoned" not in server.log
