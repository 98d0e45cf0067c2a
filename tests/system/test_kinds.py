"""What applications do with event loops, threads and processes, as one path each: see tests/apps/kinds.py. One server
for each kind of workers runs them all, one after the other, each for a few clients at a time."""

import concurrent.futures
import signal
import sys

import pytest

from tests.support.requirements import library
from tests.support.server import APPS, Running, get

sys.path.insert(0, str(APPS))
import kinds

CLIENTS = 3
MODES = {
    "1 worker": (),
    "4 threads": ("--workers", "4", "--worker-kind", "thread"),
    "2 processes": ("--workers", "2", "--worker-kind", "process"),
}


@pytest.fixture(scope="module", params=MODES)
def server(request):
    library("anyio", "asgiref")
    with Running("kinds:app", "--port", "0", *MODES[request.param]) as server:
        yield server


@pytest.mark.parametrize("path", kinds.things)
def test_it_works(server, path):
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda _: get(server.address, path), range(CLIENTS)))
    assert answers == [(200, b"ok")] * CLIENTS, server.log


def test_and_leaves_nothing_behind(server, request):
    """The last of each server, which has run what was chosen of the above."""
    in_processes = request.node.callspec.params["server"] == "2 processes"
    assert server.stop() == (0 if in_processes else 128 + signal.SIGTERM)
    for trouble in ("Traceback", "ERROR", "CRITICAL", "abandoned", "destroyed", "never awaited", "never retrieved",
                    "Waiting for threads", "belongs to the event loop", "ResourceWarning", "leaked"):  # fmt: skip
        assert trouble not in server.log
