"""A blocked worker in a whole server: siblings serve, the log names what blocks, timeout_worker_stuck replaces it."""

import contextlib
import json
import signal
import socket
import threading
import time
from collections import Counter

from pounce.supervisor.plan import has_gil
from tests.support.requests import CLOSE, GET
from tests.support.server import Running, ask, begin, get


class FreshClients:
    """Clients that make a connection for each request, and note how long each took."""

    def __init__(self, address, count, requests, pause=0.01):
        self.address, self.pause = address, pause
        self.times, self.bad = [], []
        self.todo = iter(range(requests))
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while True:
            with self.lock:
                if next(self.todo, None) is None:
                    return
            begun = time.monotonic()
            try:
                answer = ask(self.address, CLOSE)
            except OSError as error:
                answer = repr(error).encode()
            with self.lock:
                self.times.append(time.monotonic() - begun)
                if not answer.endswith(b"hello"):
                    self.bad.append(answer)
            time.sleep(self.pause)

    def join(self):
        for thread in self.threads:
            thread.join()


def test_a_blocked_worker_holds_up_its_own_clients_only():
    with Running("plain:app", "--port", "0", "--workers", "4", "--no-access-log") as server:
        clients = FreshClients(server.address, 8, 1200)
        time.sleep(0.1)
        begun = time.monotonic()
        blocker = begin(server.address, "/block?3")
        line = server.wait_for("has been blocked for")
        assert time.monotonic() - begun < 1.5  # a second, and what a busy machine adds
        assert "by GET /block; worker " in line
        assert "accepts in its place" in line
        clients.join()
        assert clients.bad == []
        assert max(clients.times) < 1.5
        assert blocker.recv(1000).endswith(b"blocked")
        server.wait_for("responds again, after ")
        assert '/plain.py", line' in server.log
        assert server.log.count("by GET /block; worker ") == 1
        assert {get(server.address)[0] for _ in range(20)} == {200}
        blocker.close()
        server.stop()


def test_a_blocked_worker_that_computes_is_named_with_its_line(tmp_path):
    # A regular expression that backtracks keeps the GIL: its process cannot say anything itself.
    (tmp_path / "slow.py").write_text(
        "import re\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        if scope['path'] == '/re': re.match('(a+)+$', 'a' * 26 + 'b')\n"
        "        await send({'type': 'http.response.start', 'status': 200})\n"
        "        await send({'type': 'http.response.body', 'body': b'hello'})\n"
    )
    with Running("slow:app", "--port", "0", "--workers", "2", cwd=tmp_path) as server:
        blocker = begin(server.address, "/re")
        server.wait_for("has been blocked for")
        server.wait_for('slow.py", line 4 in app')
        assert all(ask(server.address, CLOSE, timeout=5).endswith(b"hello") for _ in range(10))
        blocker.close()
        server.send_signal(signal.SIGKILL)


def test_log_level_debug_names_what_blocks_the_only_worker():
    with Running("plain:app", "--port", "0", "--log-level", "debug") as server:
        blocker = begin(server.address, "/block?1.2")
        line = server.wait_for("has been blocked for")
        assert line.startswith("DEBUG:")
        assert line.endswith("by GET /block; it is the only one, so every other client waits until that is over.")
        assert server.wait_for("Worker 1 responds again").startswith("DEBUG:")
        blocker.close()


def test_timeout_worker_stuck_replaces_a_blocked_worker():
    with Running("plain:app", "--port", "0", "--workers", "2", "--timeout-worker-stuck", "1.5") as server:
        blocker = begin(server.address, "/block?4")
        server.wait_for("is given up, blocked for 1.")
        server.wait_for("again.")
        assert all(get(server.address) == (200, b"hello") for _ in range(20))
        if has_gil():
            with contextlib.suppress(ConnectionResetError):
                assert blocker.recv(100) == b""  # a process can be killed
        else:
            assert blocker.recv(1000).endswith(b"blocked")  # a thread runs on, and is listened to if it comes back
        blocker.close()
        serving: set[bytes] = set()
        while len(serving) < 2:  # a successor that is still starting would end without a lifespan
            serving.add(get(server.address, "/who")[1])
        assert server.stop() == (0 if has_gil() else 143)
        assert server.log.count("lifespan shutdown") == (2 if has_gil() else 3)
        assert "it is abandoned" not in server.log


def test_timeout_worker_stuck_abandons_a_lost_thread_at_the_end():
    arguments = ("--workers", "2", "--timeout-worker-stuck", "1", "--timeout-graceful-shutdown", "0")
    with Running("plain:app", "--port", "0", *arguments) as server:
        blocker = begin(server.address, "/block?600")
        server.wait_for("is given up, blocked for 1.")
        assert get(server.address) == (200, b"hello")
        assert server.stop() == (0 if has_gil() else 143)
        assert ("it is abandoned" in server.log) is not has_gil()
        blocker.close()


def test_eight_busy_connections_are_two_for_each_of_four_workers():
    """Each stays busy: a connection that rests no longer counts."""
    options = ("--workers", "4", "--no-access-log", "--cancel-on-disconnect")
    with Running("plain:app", "--port", "0", *options) as server, contextlib.ExitStack() as clients:
        shares = Counter()
        for _ in range(8):
            client = clients.enter_context(socket.create_connection(server.address, timeout=30))
            client.sendall(GET.replace(b"/ ", b"/who ", 1))
            answer = json.loads(client.recv(1000).partition(b"\r\n\r\n")[2])
            shares[answer["pid"], answer["thread"]] += 1
            client.sendall(GET.replace(b"/ ", b"/sleep?60 ", 1))
        assert list(shares.values()) == [2] * 4
