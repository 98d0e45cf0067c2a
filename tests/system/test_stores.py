"""Pools, engines and clients that belong to one loop, in applications that know nothing of threads."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from pounce.supervisor.plan import has_gil
from pounce.testing import TestServer
from tests.support.requirements import library, missing
from tests.support.server import Running
from tests.support.services import postgres_server, redis_server

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def postgres():
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="module")
def redis():
    with redis_server() as url:
        yield url


def answers(address, count, clients=32):
    """What `count` requests get, from so many clients at once."""
    got = []
    lock = threading.Lock()

    def client():
        with socket.create_connection(address, timeout=60) as sock:
            for _ in range(count // clients):
                sock.sendall(GET)
                answer = b""
                while b"\r\n\r\n" not in answer:
                    part = sock.recv(65536)
                    if not part:
                        break
                    answer += part
                with lock:
                    got.append(answer.rpartition(b"\r\n\r\n")[2] if b" 200 OK" in answer else answer)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def serves(app, count=2000, workers="4", **environment):
    library("starlette")
    with Running(f"stores:{app}", "--port", "0", "--workers", workers, "--no-access-log", env=environment) as server:
        got = answers(server.address, count)
        assert set(got) == {b"42"}, (set(got), server.log)
        assert len(got) == count // 32 * 32
        server.stop()
        assert "Traceback" not in server.log
        return server.log


@pytest.mark.parametrize("app", ["module_lock", "app_state", "lifespan_state"])
def test_loop_bound_objects_have_a_copy_for_each_of_four_workers_and_no_request_fails(app, postgres):
    if app != "module_lock":
        library("asyncpg")
    log = serves(app, POUNCE_TEST_POSTGRES=postgres)
    if not has_gil():
        assert "4 copies of stores, because" in log


def test_sqlalchemy_over_asyncpg_on_four_workers_fails_no_request(postgres):
    library("asyncpg", "sqlalchemy", "greenlet")
    log = serves("sqlalchemy_app", POUNCE_TEST_POSTGRES=postgres, POUNCE_TEST_SQLALCHEMY="1")
    if not has_gil():
        # greenlet without the GIL is not there yet on 3.13t: the server notices and uses processes.
        assert "4 copies of stores, because" in log or "has turned the GIL back on: workers will be processes" in log


def test_psycopg_pool_on_four_workers_fails_no_request(postgres):
    library("psycopg", "psycopg_pool")
    if subprocess.run([sys.executable, "-c", "import psycopg"], stderr=subprocess.DEVNULL).returncode:
        missing("libpq")
    serves("psycopg_app", POUNCE_TEST_POSTGRES=postgres)


def test_aiosqlite_on_four_workers_fails_no_request():
    library("aiosqlite")
    serves("sqlite_app")


def test_redis_client_on_four_workers_fails_no_request(redis):
    library("redis")
    serves("redis_app", POUNCE_TEST_REDIS=redis)


def test_httpx_and_aiohttp_clients_on_four_workers_fail_no_request():
    library("aiohttp")

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"42"})

    with TestServer(answer, lifespan="off", limit_concurrency=None) as server:
        serves("clients_app", count=640, POUNCE_TEST_URL=server.url)
    assert "POUNCE_TEST_URL" not in os.environ
