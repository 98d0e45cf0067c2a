"""The command lines of the servers that are compared.

Each server gets what its documentation recommends for speed, one worker and no access log unless the workload says
otherwise, and no other option: what people run is what is measured.
"""

import os
from collections.abc import Callable
from pathlib import Path

from stress.kit.environments import Environment
from stress.kit.load import tool
from stress.kit.servers import Server, Setup

FLOOR = Path(__file__).parent / "floor.py"


def _pounce(environment: Environment, setup: Setup) -> list[str]:
    return [str(environment.python), "-m", "pounce", setup.app, f"--port={setup.port}", f"--workers={setup.workers}",
            "--access-log" if setup.access_log else "--no-access-log",
            *([f"--timeout-keep-alive={setup.keep_alive}"] if setup.keep_alive else [])]  # fmt: skip


def _uvicorn(http: str, loop: str) -> Callable[[Environment, Setup], list[str]]:
    def command(environment: Environment, setup: Setup) -> list[str]:
        return [str(environment.python), "-m", "uvicorn", setup.app, f"--port={setup.port}",
                f"--workers={setup.workers}", f"--http={http}", f"--loop={loop}",
                "--access-log" if setup.access_log else "--no-access-log",
                *([f"--timeout-keep-alive={setup.keep_alive}"] if setup.keep_alive else [])]  # fmt: skip

    return command


def _hypercorn(environment: Environment, setup: Setup) -> list[str]:
    return [str(environment.python), "-m", "hypercorn", setup.app, f"--bind={setup.bind}", f"--workers={setup.workers}",
            *(["--worker-class=uvloop"] if "uvloop" in environment.versions else []),
            *(["--access-logfile=-"] if setup.access_log else []),
            *([f"--keep-alive={setup.keep_alive}"] if setup.keep_alive else [])]  # fmt: skip


def _granian(environment: Environment, setup: Setup) -> list[str]:
    # Granian's deadline for a request's head, at most a minute, also closes idle connections. Without --backpressure
    # it accepts no more connections than its backlog is long.
    return [str(environment.python), "-m", "granian", setup.app, "--interface=asgi", f"--port={setup.port}",
            f"--workers={setup.workers}", *(["--access-log"] if setup.access_log else []),
            *(["--http1-header-read-timeout=60000"] if setup.keep_alive else []),
            *([f"--backpressure={2 * setup.connections}"] if setup.connections >= 1000 else [])]  # fmt: skip


def _bengal(environment: Environment, setup: Setup) -> list[str]:
    return [str(environment.python), "-m", "pounce", "serve", "--app", setup.app, "--host", "127.0.0.1", "--port",
            str(setup.port), "--workers", str(setup.workers), *([] if setup.access_log else ["--no-access-log"]),
            *(["--keep-alive-timeout", str(setup.keep_alive)] if setup.keep_alive else [])]  # fmt: skip


def _floor(environment: Environment, setup: Setup) -> list[str]:
    return [str(environment.python), str(FLOOR), str(setup.port), f"--workers={setup.workers}",
            f"--answer={setup.folder / 'response'}", *(["--request-length"] if setup.pieces else []),
            *(["--close"] if setup.close else [])]  # fmt: skip


NGINX = """
daemon off; {user} worker_processes {workers}; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 20000; }}
http {{
    access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000000; default_type text/plain;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    server {{ listen {bind} reuseport; root {folder}; location / {{ try_files /answer =404; }} }}
}}
"""


def _nginx(environment: Environment, setup: Setup) -> list[str]:
    folder = setup.folder
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user=user, bind=setup.bind, workers=setup.workers))
    return [tool("nginx") or "nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]


SERVERS = {server.name: server for server in (
    Server("pounce", "this checkout", ("pounce-asgi",), _pounce),
    Server("granian", "", ("granian",), _granian),
    Server("uvicorn", "httptools, uvloop", ("uvicorn", "httptools", "uvloop"), _uvicorn("httptools", "uvloop")),
    Server("uvicorn-h11", "h11, asyncio", ("uvicorn", "h11"), _uvicorn("h11", "asyncio")),
    Server("hypercorn", "uvloop where there is one", ("hypercorn",), _hypercorn),
    Server("bengal-pounce", "", ("bengal-pounce",), _bengal),
    Server("floor", "selectors, fixed bytes", (), _floor, logs=False),
    Server("nginx", "sendfile", ("nginx",), _nginx, logs=False),
)}  # fmt: skip
