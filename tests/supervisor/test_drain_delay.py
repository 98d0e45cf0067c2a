"""--drain-delay: after SIGTERM the server is not ready, and serves on until load balancers have learned of it."""

import signal
import threading

import pytest

from pounce.config import Config
from pounce.supervisor.server import Server
from tests.support.server import Running, get, single

LONG = "600"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_during_the_delay_clients_are_served_and_a_second_signal_ends_it(workers):
    with Running("plain:app", "--port", "0", "--workers", workers, "--drain-delay", LONG) as server:
        server.send_signal(signal.SIGTERM)
        server.wait_for("Shutting down in 600 s. Until then clients are accepted. (CTRL+C to shut down now)")
        for _ in range(20):
            assert get(server.address)[0] == 200
        assert server.stop(signal.SIGTERM) == (143 if single(workers) else 0)
        assert "Finished server process" in server.log
        with pytest.raises(ConnectionRefusedError):
            get(server.address)


def test_when_the_delay_is_over_the_server_stops():
    with Running("plain:app", "--port", "0", "--drain-delay", "0.2") as server:
        assert server.stop() == 143
        assert server.log.index("Shutting down in 0.2 s.") < server.log.index("Shutting down\n")


def test_sigint_does_not_wait():
    with Running("plain:app", "--port", "0", "--drain-delay", LONG) as server:
        assert server.stop(signal.SIGINT) == 0
        assert "Shutting down in" not in server.log


def test_other_orders_during_the_delay_are_refused():
    with Running("plain:app", "--port", "0", "--drain-delay", LONG) as server:
        server.send_signal(signal.SIGTERM)
        server.wait_for("Shutting down in")
        for name in ("SIGUSR2", "SIGHUP", "SIGTTIN"):
            server.send_signal(getattr(signal, name))
            server.wait_for(f"{name} is ignored: the server is not serving.")
        server.stop()


LOOKS = """
import signal
import pounce
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError
    handler = signal.getsignal(signal.SIGTERM).__self__
    text = f"should_exit={handler.should_exit} ready={handler.ready}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
"""


def test_during_the_delay_the_server_is_not_ready_and_libraries_do_not_end_their_streams_yet(tmp_path):
    (tmp_path / "looks.py").write_text(LOOKS)
    with Running("looks:app", "--port", "0", "--drain-delay", LONG, cwd=tmp_path) as server:
        assert get(server.address)[1] == b"should_exit=False ready=True"
        server.send_signal(signal.SIGTERM)
        server.wait_for("Shutting down in")
        assert get(server.address)[1] == b"should_exit=False ready=False"
        server.stop()


def test_force_exit_ends_the_delay_and_all_else():
    async def app(scope, receive, send):
        raise RuntimeError

    server = Server(Config(app, port=0, drain_delay=600.0, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert server.wait_started(30)
    assert server.ready
    server._loop.post(server._supervisor.terminate)
    server.force_exit = True
    thread.join(30)
    assert not thread.is_alive()
    assert not server.ready
