"""How a whole server ends: SIGTERM, Ctrl-C, timeout_graceful_shutdown, and no accepted request is lost."""

import signal
import socket
import threading
import time

import pytest

from tests.support.requests import GET
from tests.support.server import Running, get, single
from tests.system.traffic import Clients


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_ends_in_order_with_143(workers):
    with Running("plain:app", "--port", "0", "--workers", workers) as server:
        get(server.address)
        code = server.stop(signal.SIGTERM)
        assert code == (143 if single(workers) else 0)
        assert server.log.count("lifespan shutdown") == int(workers)
        assert "Finished server process" in server.log
        assert "Traceback" not in server.log


def test_sigterm_ends_with_143_a_server_that_a_script_has_started_in_the_background():
    """The shell has it ignore SIGINT."""
    with Running("plain:app", "--port", "0", prefix=("sh", "-c", 'trap "" INT; exec "$0" "$@"')) as server:
        assert server.stop() == 143


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigint_ends_in_order_with_0(workers):
    with Running("plain:app", "--port", "0", "--workers", workers) as server:
        get(server.address)
        assert server.stop(signal.SIGINT) == 0
        assert server.log.count("lifespan shutdown") == int(workers)
        assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_lets_a_running_request_be_answered(workers):
    with Running("plain:app", "--port", "0", "--workers", workers) as server:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(get(server.address, "/sleep?1")))
        thread.start()
        server.wait_until_busy(server.address)
        server.stop()
        thread.join()
        assert answers == [(200, b"slept")]


@pytest.mark.parametrize("path", ["/sleep?600", "/block?600"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_second_sigint_ends_at_once(workers, path):
    with Running("plain:app", "--port", "0", "--workers", workers) as server:
        client = socket.create_connection(server.address)
        client.sendall(GET.replace(b"/ ", path.encode() + b" ", 1))
        server.wait_until_busy(server.address)
        server.send_signal(signal.SIGINT)
        server.wait_for("Shutting down")
        assert server.process.poll() is None
        server.send_signal(signal.SIGINT)
        assert server.end() == 0
        assert "Traceback" not in server.log
        client.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_timeout_graceful_shutdown_cancels_and_names_a_request_and_answers_503(workers):
    arguments = ("--timeout-graceful-shutdown", "1", "--workers", workers)
    with Running("plain:app", "--port", "0", *arguments) as server:
        client = socket.create_connection(server.address)
        client.sendall(GET.replace(b"/ ", b"/sleep?600 ", 1))
        server.wait_until_busy(server.address)
        code = server.stop()
        assert code == (143 if single(workers) else 0)
        assert "Cancel 1 running task(s), timeout graceful shutdown exceeded" in server.log
        assert "Cancelled: GET /sleep in app (" in server.log
        assert b" 503 " in client.recv(1000)
        client.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_timeout_graceful_shutdown_abandons_a_blocked_worker(workers):
    arguments = ("--timeout-graceful-shutdown", "0", "--workers", workers)
    with Running("plain:app", "--port", "0", *arguments) as server:
        client = socket.create_connection(server.address)
        client.sendall(GET.replace(b"/ ", b"/block?600 ", 1))
        server.wait_until_busy(server.address)
        assert server.stop() == (143 if single(workers) else 0)
        client.close()


def test_timeout_graceful_shutdown_abandons_a_helper_thread():
    with Running("plain:app", "--port", "0", "--timeout-graceful-shutdown", "0") as server:
        client = socket.create_connection(server.address)
        client.sendall(GET.replace(b"/ ", b"/helper?600 ", 1))
        server.wait_until_busy(server.address)
        assert server.stop(signal.SIGINT) == 0
        assert "does not end; it is abandoned" in server.log
        client.close()


def test_sigint_while_the_application_is_imported(tmp_path):
    # Short sleeps: a signal that comes just before a long one is noticed by CPython only after it.
    (tmp_path / "slow.py").write_text("import time\nprint('importing', flush=True)\nwhile True: time.sleep(0.01)\n")
    with Running("slow:app", "--port", "0", cwd=tmp_path, ready=False) as server:
        server.wait_for("importing")
        assert server.stop(signal.SIGINT) == 1
        assert server.lines[1:] == ["INFO:     Stopped by SIGINT before the application was imported."]
        assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("again", range(3))
def test_no_request_is_lost_when_a_busy_server_ends_and_another_takes_its_place(workers, again):
    with Running("plain:app", "--port", "0", "--workers", workers, "--no-access-log") as first:
        clients = Clients(first.address)
        try:
            clients.wait_for(500)
            first.stop()
            port = str(first.address[1])
            with Running("plain:app", "--port", port, "--workers", workers, "--no-access-log") as second:
                clients.wait_for(clients.answered + 500)
                clients.stop()
                second.stop()
        finally:
            clients.stop()
        assert clients.cut == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_shuts_down_refuses_at_once_and_leaves_its_port_to_the_next(workers):
    """A proxy in front turns to another server then; if it got no answer, it would wait for a second or more."""
    options = ("--workers", workers, "--timeout-graceful-shutdown", "600")
    with Running("plain:app", "--port", "0", *options) as first, socket.create_connection(first.address) as client:
        client.sendall(GET.replace(b"/ ", b"/sleep?600 ", 1))
        first.wait_until_busy(first.address)
        first.send_signal(signal.SIGTERM)
        first.wait_for("Shutting down")
        until(lambda: not accepts(first.address))
        until(lambda: bindable(first.address))
        with Running("plain:app", "--port", str(first.address[1]), "--workers", workers) as second:
            assert get(second.address) == (200, b"hello")
            assert first.process.poll() is None
            second.stop()
        first.stop()  # the second signal ends it at once


def until(happened, patience=30):
    end = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def accepts(address):
    try:
        socket.create_connection(address, 30).close()
    except ConnectionRefusedError:
        return False
    return True


def bindable(address):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError:
            return False
    return True


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_answers_what_lies_in_the_accept_queue(workers):
    # A worker that is blocked accepts nobody; who has connected meanwhile is served before the end.
    with Running("plain:app", "--port", "0", "--workers", workers) as server:
        blockers = [socket.create_connection(server.address) for _ in range(8)]
        for blocker in blockers:
            blocker.sendall(GET.replace(b"/ ", b"/block?1 ", 1))
        server.wait_until_busy(server.address)
        waiting = [socket.create_connection(server.address) for _ in range(20)]
        for client in waiting:
            client.sendall(GET)
        server.send_signal(signal.SIGTERM)
        for client in waiting:
            client.settimeout(30)
            assert client.recv(1000).endswith(b"hello")
        server.end()
        for client in waiting + blockers:
            client.close()
