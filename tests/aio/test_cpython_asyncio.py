"""CPython's own asyncio tests, of the interpreter in use, with every event loop made a bridge loop.

A test that fails there must fail with the stock loop as well. The tests come with an interpreter built from source;
Debian ships them apart: tools/cpython_tests.py fetches them and prints the folder, for POUNCE_CPYTHON_TESTS.
"""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tests.support import bridge_suite

APART = os.environ.get("POUNCE_CPYTHON_TESTS")
SUITE = Path(bridge_suite.__file__)
PARTS = [
    "test_base_events", "test_buffered_proto", "test_context", "test_eager_task_factory", "test_events",
    "test_free_threading", "test_futures", "test_futures2", "test_locks", "test_pep492", "test_protocols",
    "test_queues", "test_runners", "test_selector_events", "test_sendfile", "test_server", "test_sock_lowlevel",
    "test_ssl", "test_sslproto", "test_staggered", "test_streams", "test_subprocess", "test_taskgroups", "test_tasks",
    "test_threads", "test_timeouts", "test_transports", "test_unix_events", "test_waitfor",
]  # fmt: skip


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder in which `test` is a whole package, for PYTHONPATH; empty where the interpreter's own is."""
    if importlib.util.find_spec("test.test_asyncio") is not None:
        return ""
    if not APART:
        pytest.skip("this interpreter comes without its tests; python tools/cpython_tests.py fetches Debian's")
    whole = tmp_path_factory.mktemp("cpython")
    (whole / "test").mkdir()
    spec = importlib.util.find_spec("test")
    assert spec is not None
    for folder in (*(spec.submodule_search_locations or ()), APART):
        for entry in Path(folder).iterdir():
            link = whole / "test" / entry.name
            if not link.exists():
                link.symlink_to(entry)
    return str(whole)


def run(part, package, folder, *arguments):
    done = subprocess.run(
        [sys.executable, str(SUITE), part, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": package},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout.splitlines()


@pytest.fixture(scope="module")
def outcomes(request, package, tmp_path_factory):
    """Runs the chosen parts, several at a time, because each spends most of its time waiting."""
    parts = [item.callspec.params["part"] for item in request.session.items if item.path == request.path]
    with ThreadPoolExecutor(4) as pool:
        yield {part: pool.submit(run, part, package, tmp_path_factory.mktemp(part)) for part in parts}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(900)  # up to three runs, each of at most 300 seconds
@pytest.mark.parametrize("part", PARTS)
def test_the_bridge_passes_what_the_stock_loop_passes(part, package, outcomes, tmp_path):
    known = {"test_free_threading": (3, 14)}
    if sys.version_info < known.get(part, (3, 13)):
        pytest.skip(f"{part} is newer than this interpreter")
    code, lines = outcomes[part].result()
    if code:
        wait(outcomes.values())  # the second time alone: some of these tests measure time
        code, lines = run(part, package, tmp_path)
    assert lines, "it has not got as far as counting its tests"
    assert int(lines[0].split()[0]) > 0
    if code:
        failed = {line.split(" ")[0] for line in lines[1:]}
        _, stock = run(part, package, tmp_path, "--stock")
        assert failed <= {line.split(" ")[0] for line in stock[1:]}, "\n".join(lines)
