"""Programs with popular libraries, loaded a second time beside the first: it works, or a new process is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pounce.supervisor.plan import has_gil
from tests.support import libraries

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["celery", "fastapi", "fastapi_users", "litestar", "loguru", "marshmallow", "msgspec", "prometheus_client",
         "prometheus_fastapi_instrumentator", "pydantic_settings", "sqladmin", "sqlmodel", "starlette",
         "strawberry", "tortoise"]  # fmt: skip
PROGRAMS = {program.name: program for program in libraries.programs() if program.name in NAMES}
KEEPERS = {"celery"}
"""Libraries whose registers keep the application, as docs/reload.md says."""
AGAIN = """
import gc, importlib.util, json, sys, threading, weakref
from pounce.app.generations import ApplicationGenerations
from pounce.config.config import Config

needs, config = json.loads(sys.argv[1]), Config("program:app", app_dir=sys.argv[2])
lacking = [name for name in needs if importlib.util.find_spec(name) is None]
if lacking:
    print(json.dumps({"lacking": lacking}))
    sys.exit()
generations = ApplicationGenerations()
alive = [generations.first(config)]

def load():
    for _ in range(2):
        alive.append(generations.next(config))

thread = threading.Thread(target=load)
thread.start()
thread.join()
ended = [weakref.ref(names["of_this_module"]) for each in alive[:2] for names in each.life.namespaces()]
for each in alive[:2]:
    each.release()
gc.collect()
print(json.dumps({"kept": sum(each() is not None for each in ended), "kind": type(sys.modules["program"]).__name__}))
"""


@pytest.fixture(scope="module")
def python():
    """The interpreter that has the libraries."""
    command = [
        sys.executable,
        ROOT / "tools" / "dev.py",
        "--libraries",
        "python",
        "-c",
        "import sys; print(sys.prefix)",
    ]
    env = {**os.environ, "POUNCE_PYTHON": sys.executable}
    said = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Path(said.split()[-1], "bin", "python")


@pytest.mark.timeout(1800)  # the first one makes the environment
@pytest.mark.parametrize("name", NAMES)
def test_a_program_is_loaded_again_beside_itself(python, name, tmp_path):
    program = PROGRAMS[name]
    (tmp_path / "program.py").write_text(f"{program.source}\n\ndef of_this_module(): ...\n")
    done = subprocess.run(
        [python, "-c", AGAIN, json.dumps(program.needs), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    if "lacking" in said:
        pytest.skip(f"no wheel for this interpreter: {', '.join(said['lacking'])}")
    assert said["kind"] == "module"
    if sys.version_info >= (3, 14) or has_gil():  # others free no function or class once a thread has been started
        assert said["kept"] == (2 if name in KEEPERS else 0)
    assert "Traceback" not in done.stderr
