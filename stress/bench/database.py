"""FastAPI over PostgreSQL with asyncpg: four workers of Pounce beside four of uvicorn.

On a free-threaded Python the workers of Pounce are threads of one process. The server, wrk and PostgreSQL share the
CPUs of the machine, so requests/s are of this machine; CPU time and memory are the server's own. It needs Debian's
postgresql and wrk, and a C compiler where asyncpg has no wheel.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from stress.bench.runs import CLOSED, Bench, Figures, Workload, closed
from stress.bench.servers import SERVERS
from stress.kit.environments import GIL, TAG, Environment, find_or_make, interpreter
from stress.kit.errors import Unmeasured
from stress.kit.load import missing, tool
from tests.support.services import postgres_server

WORKERS = 4
PACKAGES = ("uvicorn", "httptools", "uvloop", "fastapi", "asyncpg")
NAMES = ("pounce", "uvicorn" if GIL else "uvicorn-h11")


def find_environment() -> Environment:
    found = find_or_make("database", PACKAGES)
    if found.lacks(("asyncpg",)):
        interpreter.say("building asyncpg")
        subprocess.run([str(interpreter.uv()), "pip", "install", "--quiet", "--python", str(found.python), "asyncpg"])
    return find_or_make("database", PACKAGES)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stress database",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=4, help="length of one measurement (default: 4)")
    parser.add_argument("--runs", type=int, default=3, help="measurements of each server (default: 3)")
    options = parser.parse_args(arguments)
    if not tool("wrk"):
        raise Unmeasured(missing("wrk"))
    environment = find_environment()
    workload = Workload("database", "SELECT through a pool in app.state", CLOSED, "on_database:app", b'{"sum":55}')
    figures: dict[str, list[Figures]] = {name: [] for name in NAMES}
    with postgres_server() as url, tempfile.TemporaryDirectory() as folder:
        os.environ["STRESS_DATABASE"] = url
        bench = Bench(options.seconds, WORKERS, Path(folder))
        for _ in range(options.runs):
            for name in NAMES:
                try:
                    figures[name].append(closed(bench, SERVERS[name], environment, workload))
                except Unmeasured as error:
                    raise Unmeasured(f"{name}: {error}") from None
    print(f"{workload.about}, {WORKERS} workers, Python {TAG}; medians of {options.runs} runs of {options.seconds:g} s")
    print(f"  {'':12}{'req/s':>8}{'CPU us/req':>12}{'p99 ms':>8}{'PSS MiB':>9}")
    for name, runs in figures.items():
        median = {
            key: statistics.median(run[key] for run in runs) for key in ("rate", "cpu_us", "p99_ms", "memory_mib")
        }
        print("  {:12}{:8.0f}{:12.0f}{:8.1f}{:9.1f}".format(name, *median.values()))
    for note in bench.notes:
        print("  " + note)
    return 0
