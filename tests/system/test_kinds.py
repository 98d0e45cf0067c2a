"""What applications do with event loops, threads and processes: each path of tests/apps/kinds.py, on a server of each
kind of workers, for a few clients at a time."""

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
def test_each_use_of_event_loops_threads_and_processes_answers_200(server, path):
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda _: get(server.address, path), range(CLIENTS)))
    assert answers == [(200, b"ok")] * CLIENTS, server.log


def test_sigterm_after_all_kinds_of_applications_leaves_no_error_or_warning_in_the_log(server, request):
    """Runs last on each server, after the tests above."""
    in_processes = request.node.callspec.params["server"] == "2 processes"
    assert server.stop() == (0 if in_processes else 128 + signal.SIGTERM)
    for trouble in ("Traceback", "ERROR", "CRITICAL", "abandoned", "destroyed", "never awaited", "never retrieved",
                    "Waiting for threads", "belongs to the event loop", "ResourceWarning", "leaked"):  # fmt: skip
        assert trouble not in server.log
