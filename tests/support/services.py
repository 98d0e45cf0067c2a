"""PostgreSQL and Redis for tests: started by the test, on loopback, ended by it."""

import contextlib
import glob
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time

from tests.support.requirements import missing, tool


def free_port():
    """One that the kernel gives to no client meanwhile: below the range of those (ip_local_port_range)."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def wait_for_port(port):
    end = time.monotonic() + 30
    while True:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < end, "the service has not started"
        time.sleep(0.05)


@contextlib.contextmanager
def ended(process):
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def redis_server():
    """Its URL."""
    port = free_port()
    command = [tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    with ended(process):
        wait_for_port(port)
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def postgres_server():
    """Its URL."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    path = found[-1] if found else shutil.which("postgres")
    if path is None:
        missing("postgres")
    folder = tempfile.mkdtemp(prefix="pounce-postgres-")
    # PostgreSQL refuses to run as root.
    become = []
    if os.geteuid() == 0:
        become = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    port = free_port()
    data = f"{folder}/data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    initdb = os.path.join(os.path.dirname(path), "initdb")
    subprocess.run([*become, initdb, "-D", data, "-A", "trust", "-U", "tester", "-N"], check=True, **quiet)
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
                "max_connections": 200}  # fmt: skip
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    process = subprocess.Popen([*become, path, "-D", data, *options], **quiet)
    try:
        with ended(process):
            wait_for_port(port)
            url = f"postgresql://tester@127.0.0.1:{port}/postgres"
            wait_for_postgres(become, os.path.dirname(path), port)
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_postgres(become, binaries, port):
    end = time.monotonic() + 30
    ready = [*become, os.path.join(binaries, "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(ready, cwd="/").returncode:
        assert time.monotonic() < end, "PostgreSQL has not started"
        time.sleep(0.05)
