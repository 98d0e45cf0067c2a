"""--proxy-protocol while a server ends, restarts, reloads or is flooded: what has begun is read to its end."""

import contextlib
import json
import signal
import socket
import textwrap

import pytest

from pounce.supervisor.plan import has_gil
from tests.support import proxy_headers as encode
from tests.support.answers import content_of, status_of
from tests.support.requests import CLOSE, GET
from tests.support.requirements import tool
from tests.support.server import APPS, Running, ask
from tests.support.upgrades import Lineage

SERVER = ("198.51.100.1", 443)
KINDS = [("1", "thread"), ("3", "thread"), ("2", "process")]


class Half:
    """A connection whose header has come in part."""

    def __init__(self, address, number):
        self.client = (f"192.0.2.{number % 250}", 1000 + number)
        make = encode.v1 if number % 2 else encode.v2
        header = make(self.client, SERVER)
        cut = 1 + number % (len(header) - 1)
        self.rest = header[cut:]
        self.sock = socket.create_connection(address, timeout=30)
        self.sock.sendall(header[:cut])

    def ask(self, request=CLOSE):
        """What is answered to the rest of the header and a request."""
        with self.sock:
            self.sock.sendall(self.rest + request)
            answer = b""
            while part := self.sock.recv(65536):
                answer += part
        return answer


def check(half, answer):
    assert status_of(answer) == 200
    assert json.loads(content_of(answer))["client"] == list(half.client)


def served(address):
    """Is a client of a proxy served?"""
    answer = ask(address, encode.v1(("192.0.2.251", 7), SERVER) + CLOSE)
    return status_of(answer) == 200 and json.loads(content_of(answer))["client"] == ["192.0.2.251", 7]


@pytest.mark.parametrize(("workers", "kind"), KINDS)
def test_sigterm_answers_the_requests_behind_headers_that_have_begun(workers, kind):
    with Running(
        "proxied:app", "--port", "0", "--proxy-protocol", "--workers", workers, "--worker-kind", kind
    ) as server:
        assert served(server.address)
        halves = [Half(server.address, number) for number in range(40)]
        silent = [socket.create_connection(server.address, 30) for _ in range(5)]
        server.send_signal(signal.SIGTERM)
        server.wait_for("Shutting down")
        for half in halves:
            check(half, half.ask(GET))  # the server closes by itself
        assert server.end() in (0, 143)
        for sock in silent:
            sock.close()
    assert "Closed a connection" not in server.log


@pytest.mark.parametrize(("workers", "kind"), KINDS)
def test_headers_that_never_end_do_not_outlast_timeout_graceful_shutdown(workers, kind):
    arguments = ("--workers", workers, "--worker-kind", kind, "--timeout-graceful-shutdown", "0.5")
    with Running("proxied:app", "--port", "0", "--proxy-protocol", *arguments) as server:
        halves = [Half(server.address, number) for number in range(40)]
        assert served(server.address)
        server.send_signal(signal.SIGTERM)
        assert server.end(9) in (0, 143)  # the deadline of a header is longer
        for half in halves:
            with half.sock, contextlib.suppress(ConnectionResetError):
                assert half.sock.recv(100) == b""


@pytest.mark.parametrize(("workers", "kind"), KINDS)
def test_sighup_answers_the_requests_behind_headers_that_have_begun_and_keeps_the_clients(workers, kind):
    with Running(
        "proxied:app", "--port", "0", "--proxy-protocol", "--workers", workers, "--worker-kind", kind
    ) as server:
        halves = []
        for count in range(1, 4):
            halves += [Half(server.address, 20 * count + number) for number in range(20)]
            server.send_signal(signal.SIGHUP)
            server.wait_for("The workers have been replaced.", count=count)
            for half in halves[::2]:
                check(half, half.ask())
            del halves[::2]
            assert served(server.address)
        for half in halves:
            check(half, half.ask())
        assert server.stop() in (0, 143)
    assert "Closed a connection" not in server.log


APP = """
    import json
    VERSION = "{}"
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        text = json.dumps({{"client": scope["client"], "version": VERSION}})
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": text.encode()}})
"""


def test_reload_answers_the_requests_behind_headers_that_have_begun(tmp_path):
    def write(version):
        (tmp_path / "made.py").write_text(textwrap.dedent(APP).format(version))

    write("one")
    arguments = ("--port", "0", "--proxy-protocol", "--reload", "--reload-delay", "0")
    with Running("made:app", *arguments, cwd=tmp_path) as server:
        halves = [Half(server.address, number) for number in range(40)]
        write("two")
        server.wait_for("Reloaded in")
        for half in halves:
            check(half, half.ask())
        assert server.stop(signal.SIGINT) == 0
    assert "Closed a connection" not in server.log


def test_sigusr2_leaves_headers_that_have_begun_to_the_old_process():
    with Lineage("proxied:app", "--port", "0", "--proxy-protocol") as server:
        halves = [Half(server.address, number) for number in range(40)]
        assert served(server.address)
        server.upgrade()
        for half in halves:
            check(half, half.ask())
        assert served(server.address)
    assert "Closed a connection" not in server.log


@pytest.mark.waits
@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_flood_of_half_headers_that_takes_every_descriptor_is_over_after_ten_seconds(workers):
    limit = (tool("prlimit"), "--nofile=120:120")
    arguments = ("--workers", workers, "--worker-kind", "thread" if not has_gil() else "process")
    with Running("proxied:app", "--port", "0", "--proxy-protocol", *arguments, prefix=limit) as server:
        assert served(server.address)
        processes = int(workers) if has_gil() else 1
        halves = [Half(server.address, number) for number in range(150 * processes)]
        server.wait_for("Cannot accept connections")
        assert served(server.address)  # when the first have been closed
        for half in halves:
            half.sock.close()
        assert served(server.address)
        assert server.log.count("Closed a connection") < 60
        assert server.stop() in (0, 143)


def answers(sock, request):
    """Each answer to `request` on a connection that is kept."""
    sock.sendall(request)
    answer = sock.recv(65536)
    assert status_of(answer) == 200
    return json.loads(content_of(answer))


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_sighup_with_another_proxy_protocol_holds_for_new_connections(tmp_path, kind):
    (tmp_path / "proxied.py").write_text((APPS / "proxied.py").read_text())
    options = tmp_path / "pounce.toml"
    options.write_text("proxy_protocol = true\n")
    with Running("proxied:app", "--port", "0", "--worker-kind", kind, cwd=tmp_path) as server:
        with socket.create_connection(server.address, 30) as kept:
            seen = answers(kept, encode.v1(("192.0.2.9", 7), SERVER) + GET)
            assert seen["client"] == ["192.0.2.9", 7]
            half = Half(server.address, 11)
            assert served(server.address)
            options.write_text("proxy_protocol = false\n")
            server.send_signal(signal.SIGHUP)
            server.wait_for("The workers have been replaced.")
            assert status_of(ask(server.address, CLOSE)) == 200
            assert status_of(ask(server.address, encode.v1(("192.0.2.9", 7), SERVER) + CLOSE)) == 400
            check(half, half.ask())
            if kind == "thread":  # handed over to a worker that reads no headers
                assert answers(kept, GET) == seen
        assert server.stop() in (0, 143)
