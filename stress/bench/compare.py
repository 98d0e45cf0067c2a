"""Measures Pounce beside other servers and the floor.

For each workload every server is measured once, then every server again, --runs times (A B C A B C, not A A B B C C),
each time newly started. A table with medians, ratios and their spread follows each workload; --json writes all figures
to a file, from which tools/bench_chart.py draws the chart of the README.

The goals of the project (--goals), for hello: with the GIL at most 2.2 times the floor, 0.75 times granian and 0.5
times uvicorn with httptools and uvloop; free-threaded at most 3.0 times the floor.
"""

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from stress.bench.results import Requirement, Results
from stress.bench.runs import IDLE, OPEN, SCALING, WARM_UP, Bench, Workload
from stress.bench.servers import SERVERS
from stress.bench.workloads import WORKLOADS
from stress.kit import environments
from stress.kit.environments import Environment
from stress.kit.errors import Unmeasured
from stress.kit.load import missing, tool
from stress.kit.machine import share

GOALS = ["floor=2.2", "granian=0.75", "uvicorn=0.5"] if environments.GIL else ["floor=3.0"]
REFERENCES = ("floor", "nginx")
BUSY_MACHINE = 10  # percent of other programs: they share the caches and the clock of the CPU with the server


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m stress bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("--servers", metavar="NAME,...", help="only these; default: all that are installed")
    add("--workloads", metavar="NAME,...", help="only these; default: all")
    add("--seconds", type=float, default=4, metavar="N", help="length of one measurement (default: 4, at least 1)")
    add("--runs", type=int, default=5, metavar="N", help="measurements of each server at each workload (default: 5)")
    add("--threads", type=int, default=1, metavar="N", help="workers of each server (default: 1)")
    add("--json", type=Path, metavar="FILE", help="write all figures here; {tag} becomes 3.14, 3.13t, ...")
    ratio = "exit with 1 if Pounce's figure is more than RATIO times SERVER's (default workload: hello)"
    add("--require", action="append", default=[], metavar="[WORKLOAD:]SERVER=RATIO", help=ratio)
    add("--goals", action="store_true", help=f"require the project's goals; on this interpreter {', '.join(GOALS)}")
    add("--renew", action="store_true", help="install the other servers again, in their newest versions")
    add("--list", action="store_true", help="list servers and workloads")
    return result


def names(text: str | None, known: dict[str, Any], what: str) -> list[str]:
    chosen = text.split(",") if text else list(known)
    for name in chosen:
        if name not in known:
            stop(f"{name!r} is not a {what}; there are: {', '.join(known)}")
    return list(dict.fromkeys(chosen))


def stop(text: str) -> NoReturn:
    print("python -m stress bench: " + text, file=sys.stderr)
    raise SystemExit(2)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def environments_of(chosen: list[str], renew: bool) -> dict[str, Environment]:
    """The servers that can be measured here, each with its environment. Prints which cannot, and why."""
    peers = environments.peers(renew)
    bengal = environments.bengal(renew) if "bengal-pounce" in chosen else peers
    found: dict[str, Environment] = {}
    for name in chosen:
        environment = bengal if name == "bengal-pounce" else peers
        if name == "nginx":
            lacking = [] if tool(name) else [missing(name)]
        else:
            lacking = [f"no {package} for {environments.TAG}" for package in environment.lacks(SERVERS[name].needs)]
        if lacking:
            print(f"{name} is left out: {', '.join(lacking)}")
        else:
            found[name] = environment
    return found


def interpreter() -> str:
    gil = "with the GIL" if environments.GIL else "free-threaded"
    return f"{platform.python_implementation()} {platform.python_version()} {gil}"


def about(found: dict[str, Environment]) -> dict[str, Any]:
    """What the figures depend on: interpreter, versions, machine, commit."""
    versions = {
        name: environment.versions[distribution]
        for name, environment in found.items()
        for distribution in SERVERS[name].needs[:1]
        if distribution in environment.versions
    }
    libraries = next(iter(found.values())).versions if found else {}
    versions |= {name: libraries[name] for name in ("uvloop", "httptools", "starlette", "fastapi") if name in libraries}
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())  # fmt: skip
    git = ["git", "-C", str(environments.ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
    return {
        "commit": commit or None,
        "python": interpreter(),
        "gil": environments.GIL,
        "versions": versions,
        "machine": f"{cpu}, {len(os.sched_getaffinity(0))} CPUs, Linux {platform.release()}",
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def participants(workload: Workload, found: dict[str, Environment]) -> list[str]:
    return [name for name in found if name not in REFERENCES or name in workload.references]


def measure(workload: Workload, found: dict[str, Environment], bench: Bench, runs: int) -> Results:
    servers = participants(workload, found)
    results = Results(workload, str(bench.share(workload)), servers, {name: [] for name in servers})
    bench.notes.clear()
    for number in range(min(runs, workload.kind.max_runs)):
        for name in servers:
            if name in results.failures:
                continue
            try:
                figures = workload.kind.measure(bench, SERVERS[name], found[name], workload)
            except Unmeasured as error:
                results.fail(name, str(error))
                say(f"  {workload.name} {number + 1}/{runs} {name}: {error}")
                continue
            results.rounds[name].append(figures)
            key = workload.kind.compared
            say(f"  {workload.name} {number + 1}/{runs} {name}: {workload.kind.columns[key].title} {figures[key]:.2f}")
    results.notes = list(bench.notes)
    if (others := results.maximum("others")) > BUSY_MACHINE:
        results.notes.append(f"others took up to {others:.0f} % of the server's CPU: measure again on a quiet machine")
    return results


def minutes(workloads: list[Workload], found: dict[str, Environment], options: argparse.Namespace) -> float:
    """A rough estimate of the duration."""
    total = 0.0
    for workload in workloads:
        once = options.seconds + WARM_UP + 1.5
        extra = {id(SCALING): once, id(OPEN): options.seconds / 2 + 2, id(IDLE): 5}.get(id(workload.kind), 0)
        total += len(participants(workload, found)) * min(options.runs, workload.kind.max_runs) * (once + extra)
    return total / 60


def prepare(options: argparse.Namespace) -> list[Requirement]:
    """Checks the options before anything is measured."""
    if not sys.platform.startswith("linux"):
        stop("needs Linux: it reads /proc and pins to CPUs")
    if not tool("wrk"):
        stop(missing("wrk"))
    if options.seconds < 1 or options.runs < 1 or options.threads < 1:
        stop("--seconds, --runs and --threads are at least 1")
    requirements = []
    for text in options.require + (GOALS if options.goals else []):
        try:
            requirement = Requirement.parse(text)
        except ValueError:
            stop(f"--require {text}: not [WORKLOAD:]SERVER=RATIO")
        names(requirement.workload, WORKLOADS, "workload")
        names(requirement.server, SERVERS, "server")
        requirements.append(requirement)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # inherited by the servers
    for number in (signal.SIGINT, signal.SIGTERM):  # by an exception, so that servers are ended on the way out
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    return requirements


def show_list() -> None:
    print("servers:")
    for server in SERVERS.values():
        print(f"  {server.name:14} {server.about}")
    print("workloads:")
    for workload in WORKLOADS.values():
        print(f"  {workload.name:14} {workload.about}")


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    if options.list:
        show_list()
        return 0
    requirements = prepare(options)
    workloads = [WORKLOADS[name] for name in names(options.workloads, WORKLOADS, "workload")]
    found = environments_of(names(options.servers, SERVERS, "server"), options.renew)
    setting = about(found)
    print(f"{setting['python']} on {setting['machine']}, {setting['date']}")
    versions = ", ".join(f"{name} {version}" for name, version in setting["versions"].items())
    print(f"{versions}; commit {setting['commit'] or 'unknown'}")
    print(f"medians of {options.runs} runs of {options.seconds:g} s, {options.threads} worker(s); "
          f"{share(options.threads)}", flush=True)  # fmt: skip
    say(f"this takes about {minutes(workloads, found, options):.0f} minutes; see --workloads, --servers, --runs")
    results: dict[str, Results] = {}
    for workload in workloads:
        with tempfile.TemporaryDirectory(prefix="pounce-bench-") as folder:
            bench = Bench(options.seconds, options.threads, Path(folder))
            results[workload.name] = measure(workload, found, bench, options.runs)
        print("\n" + results[workload.name].table(), flush=True)
    verdicts = [requirement.judge(results) for requirement in requirements]
    if verdicts:
        print("\n" + "\n".join(text for _, text in verdicts))
    if options.json:
        whole = {
            **setting,
            "settings": {"seconds": options.seconds, "runs": options.runs, "threads": options.threads},
            "workloads": {name: each.json() for name, each in results.items()},
            "requirements": [{"text": text, "met": met} for met, text in verdicts],
        }
        path = Path(str(options.json).replace("{tag}", environments.TAG))
        path.write_text(json.dumps(whole, indent=1) + "\n")
    return int(not all(met for met, _ in verdicts))
