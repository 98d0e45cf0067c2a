"""Clients that leave at any point, and a server without descriptors: nothing is leaked, nothing spins."""

import contextlib
import os
import resource
import socket
import struct
import threading
import time

import pytest

from tests.support.requests import GET
from tests.support.server import Running, get


def test_emfile_is_logged_once_and_the_server_goes_on():
    with Running("plain:app", "--port", "0", "--no-access-log", "--timeout-request-head", "60") as server:
        get(server.address)
        limit = descriptors(server) + 50
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        crowd = [socket.create_connection(server.address, timeout=30) for _ in range(100)]
        server.wait_for("Cannot accept connections: too many open files")
        used = cpu_of(server.process.pid)
        time.sleep(0.5)
        assert cpu_of(server.process.pid) - used < 0.25  # it does not spin
        for client in crowd[:60]:
            client.close()
        for client in crowd[60:]:
            client.sendall(GET)
            assert client.recv(1000).endswith(b"hello")
            client.close()
        assert get(server.address) == (200, b"hello")
        assert server.log.count("Cannot accept connections") <= 2
        assert server.stop() == 143


def cpu_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


RESET = struct.pack("ii", 1, 0)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


SCRIPTS = {
    "nothing": [],
    "a part of the head": [b"GET / HTTP/1.1\r\nHo"],
    "a head": [GET],
    "a part of the content": [b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc"],
    "a part of a chunk": [b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"],
    "in the response": [b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", 100],
    "while it waits": [b"GET /sleep?0.05 HTTP/1.1\r\nHost: a\r\n\r\n"],
    "in a pipeline": [GET * 50, 10],
    "between requests": [GET, 1000],
    "an error": [b"\x16\x03\x01\x00", 10],
}


@pytest.mark.parametrize("workers", ["1", "3"])
def test_clients_that_leave_at_any_point_leak_no_descriptor(workers):
    with Running("plain:app", "--port", "0", "--workers", workers, "--no-access-log") as server:
        address = server.address
        get(address)
        before = descriptors(server)

        def play(parts, end):
            with contextlib.suppress(OSError):
                sock = socket.create_connection(address, timeout=10)
                for part in parts:
                    if isinstance(part, bytes):
                        sock.sendall(part)
                    else:
                        sock.recv(part)
                end(sock)

        def half(sock):
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
            sock.close()

        def storm():
            for parts in SCRIPTS.values():
                for end in (reset, socket.socket.close, half):
                    play(parts, end)

        threads = [threading.Thread(target=storm) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert get(address) == (200, b"hello")
        end = time.monotonic() + 15
        while descriptors(server) > before and time.monotonic() < end:
            time.sleep(0.05)
        assert descriptors(server) <= before
        server.stop()
        for words in ("Traceback", "failed", "died", "ERROR", "CRITICAL"):
            assert words not in server.log


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_storm_of_dropped_connections_leaks_no_descriptor(workers):
    with Running("plain:app", "--port", "0", "--workers", workers, "--no-access-log") as server:
        address = server.address
        get(address)
        before = descriptors(server)
        end = [reset, socket.socket.close]
        for round_ in range(15):
            crowd = []
            for _ in range(200):
                sock = socket.socket()
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.connect(address)
                crowd.append(sock)
            for sock in crowd:
                end[round_ % 2](sock)
        begun = time.monotonic()
        assert get(address) == (200, b"hello")
        assert time.monotonic() - begun < 5
        while descriptors(server) > before and time.monotonic() < begun + 15:
            time.sleep(0.05)
        assert descriptors(server) <= before
        server.stop()
        for words in ("Traceback", "failed", "died", "ERROR", "CRITICAL"):
            assert words not in server.log
