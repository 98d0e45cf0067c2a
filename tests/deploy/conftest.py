"""The folder of a module's proxies, and Pounce behind one of them."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.examples import arguments
from tests.deploy.proxies import FILES, PROXIES, Place
from tests.support.server import Running


@pytest.fixture(scope="package")
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="pounce-deploy-") as folder:
        os.chmod(folder, 0o755)
        place = Place(Path(folder))
        place.make_certificate()
        yield place


class Edge:
    """A proxy with Pounce behind it, each as the proxy's example says."""

    def __init__(self, name: str, server: Running, port: int, folder: Path) -> None:
        self.name = name
        self.server = server
        self.port = port
        self.gate = folder / "gate"


@contextlib.contextmanager
def opened(name: str, place: Place, unix: bool) -> Iterator[Edge]:
    folder = place.subfolder("pounce")
    words = arguments(FILES[name])
    path = str(folder / "http.sock")
    if unix:
        at = words.index("--port")
        words[at : at + 2] = ["--uds", path]
        if name != "haproxy":
            words += ["--forwarded-allow-ips", "unix"]
    with Running(*words, env={"GATE": str(folder / "gate")}) as server:
        upstream = UNIX[name].format(path) if unix else "{}:{}".format(*server.address)
        with PROXIES[name](place, upstream) as port:
            yield Edge(name, server, port, folder)


UNIX = {"nginx": "unix:{}", "haproxy": "unix@{}", "apache": "unix:{}|http://localhost/", "caddy": "unix/{}"}
"""How each proxy calls a Unix socket."""


@pytest.fixture(scope="module", params=[(name, unix) for unix in (False, True) for name in PROXIES],
                ids=[name + suffix for suffix in ("", "-unix") for name in PROXIES])  # fmt: skip
def edge(request: pytest.FixtureRequest, place: Place) -> Iterator[Edge]:
    name, unix = request.param
    with opened(name, place, unix) as edge:
        yield edge
