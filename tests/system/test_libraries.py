"""Popular libraries, each in a small program, on one worker, on threads with and without copies, and in processes: the
answers, the end and the log are those of uvicorn. The table in docs/threads.md is made of what is found here."""

import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pounce.supervisor.plan import has_gil
from tests.support import libraries
from tests.support.requirements import library
from tests.support.services import postgres_server, redis_server

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {program.name: program for program in libraries.programs()}
AT_ONCE = 2
FINDER = """
import importlib.util, json, sys
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a package above it
        return False
print(json.dumps([sys.executable, [name for name in sys.argv[1:] if not there(name)]]))
"""


def report(python, program, env):
    """What is wrong with the program in each mode; with the program itself where uvicorn cannot run it."""
    reference = libraries.run(python, program, libraries.REFERENCE, env)
    found = {libraries.REFERENCE: {"wrong": libraries.check_reference(program, reference), "log": reference.log}}
    for mode in () if found[libraries.REFERENCE]["wrong"] else modes(program):
        outcome = libraries.run(python, program, mode, env)
        wrong = libraries.compare(program, mode, outcome, reference)
        found[mode] = {"wrong": wrong, "ran": libraries.ran_as(mode, outcome), "log": outcome.log if wrong else ""}
    return found


def modes(program):
    return [mode for mode in libraries.MODES if not reason_not_to_run(program, mode)]


def reason_not_to_run(program, mode):
    """With the GIL, threads are only taken where they are asked for; then nothing can be begun anew with processes."""
    if program.processes and has_gil() and "threads" in mode:
        return libraries.ONE_PER_PROCESS
    # Copied too: only what belongs to an event loop is copied, and the threads share what races.
    return program.races if "threads" in mode and not has_gil() else ""


@pytest.fixture(scope="module")
def reports(request):
    """What is known of each chosen program, or will be: two are run at a time, in the order of their tests."""
    library("websockets")
    items = [item for item in request.session.items if item.module is request.module and hasattr(item, "callspec")]
    chosen = [PROGRAMS[name] for name in dict.fromkeys(item.callspec.params["name"] for item in items)]
    needs = sorted({name for program in chosen for name in program.needs})
    command = [sys.executable, ROOT / "tools" / "dev.py", "--libraries", "python", "-c", FINDER, "uvicorn", *needs]
    env = {**os.environ, "POUNCE_PYTHON": sys.executable}  # a copy: os.environ changes while servers are started
    said = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
    python, lacking = json.loads(said.splitlines()[-1])
    if "uvicorn" in lacking:
        pytest.skip("needs uvicorn to compare with, which tools/dev.py could not install")
    found = {}
    with contextlib.ExitStack() as stack:
        for name, url, start in (("redis", "REDIS_URL", redis_server), ("postgres", "POSTGRES_URL", postgres_server)):
            if any(name in program.services for program in chosen):
                env[url] = stack.enter_context(start())
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(AT_ONCE))
        stack.callback(pool.shutdown, cancel_futures=True)
        for program in chosen:
            missing = [name for name in program.needs if name in lacking]
            found[program.name] = missing or pool.submit(report, python, program, env)
        yield found
    done = {name: got for name, got in found.items() if isinstance(got, list) or (got.done() and not got.cancelled())}
    results = {name: {"lacking": got} if isinstance(got, list) else got.result() for name, got in done.items()}
    libraries.keep(Path(python).parent.parent / "results.json", results)


@pytest.mark.timeout(1800)  # the first one makes the environment, and each waits until its program has been run
@pytest.mark.parametrize("mode", libraries.MODES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_library_answers_ends_and_logs_as_under_uvicorn(reports, name, mode):
    if isinstance(reports[name], list):
        pytest.skip(f"no wheel for this interpreter: {', '.join(reports[name])}")
    if reason := reason_not_to_run(PROGRAMS[name], mode):
        pytest.skip(reason)
    found = reports[name].result()
    itself = found[libraries.REFERENCE]
    if itself["wrong"] == f"{libraries.BY_ITSELF}, exit code {-signal.SIGSEGV}":
        pytest.skip("crashes this interpreter, under uvicorn too")  # greenlet without the GIL
    assert not itself["wrong"], f"under uvicorn: {itself['wrong']}\n{itself['log']}"
    assert not found[mode]["wrong"], f"{found[mode]['wrong']}\n{found[mode]['log']}"


def test_60_libraries_or_more_are_tried():
    assert len(PROGRAMS) >= 60


def test_the_table_in_docs_threads_names_every_library():
    command = [sys.executable, ROOT / "tools" / "libraries_table.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
