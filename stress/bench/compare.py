"""Measures pounce beside its peers and the floor: python -m stress bench --help

For each workload every server has its turn, and then every server again, as often as --runs says (A B C A B C, not
A A B B C C), each time started afresh. Medians and ratios with their spread come as a table after each workload, and
as JSON at the end.

The project's goals, for hello (`--goals`): with the GIL at most 2.2 x floor, 0.75 x granian and 0.5 x uvicorn with
httptools and uvloop; on a free-threaded build at most 3.0 x floor.
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
BUSY_MACHINE = 10  # percent: CPU time is counted by process, but caches and the clock of the CPU are shared


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
    add("--runs", type=int, default=5, metavar="N", help="turns of each server at each workload (default: 5)")
    add("--threads", type=int, default=1, metavar="N", help="workers of each server (default: 1)")
    add("--json", type=Path, metavar="FILE", help="write everything here; {tag} stands for 3.14, 3.13t, ...")
    ratio = "exit with 1 where pounce takes more than RATIO times what SERVER takes (default workload: hello)"
    add("--require", action="append", default=[], metavar="[WORKLOAD:]SERVER=RATIO", help=ratio)
    add("--goals", action="store_true", help=f"require the project's goals; on this interpreter {', '.join(GOALS)}")
    add("--renew", action="store_true", help="install the peers afresh, in their newest versions")
    add("--list", action="store_true", help="show servers and workloads")
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


def places(chosen: list[str], renew: bool) -> dict[str, Environment]:
    """The servers that are there, each with its environment. Says which are not, and why."""
    ours = environments.peers(renew)
    theirs = environments.bengal(renew) if "bengal-pounce" in chosen else ours
    found: dict[str, Environment] = {}
    for name in chosen:
        place = theirs if name == "bengal-pounce" else ours
        if name == "nginx":
            lacking = [] if tool(name) else [missing(name)]
        else:
            lacking = [f"no {package} for {environments.TAG}" for package in place.lacks(SERVERS[name].needs)]
        if lacking:
            print(f"{name} is left out: {', '.join(lacking)}")
        else:
            found[name] = place
    return found


def interpreter() -> str:
    gil = "with the GIL" if environments.GIL else "free-threaded"
    return f"{platform.python_implementation()} {platform.python_version()} {gil}"


def about(found: dict[str, Environment]) -> dict[str, Any]:
    """What the figures depend on."""
    versions = {name: place.versions[name] for name, place in found.items() if name in place.versions}
    if "uvicorn-h11" in found:
        versions["uvicorn"] = found["uvicorn-h11"].versions["uvicorn"]
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
    taking_part = participants(workload, found)
    results = Results(workload, str(bench.share(workload)), taking_part, {name: [] for name in taking_part})
    bench.notes.clear()
    for turn in range(min(runs, workload.kind.most_runs)):
        for name in taking_part:
            if name in results.failures:
                continue
            try:
                figures = workload.kind.measure(bench, SERVERS[name], found[name], workload)
            except Unmeasured as error:
                results.fail(name, str(error))
                say(f"  {workload.name} {turn + 1}/{runs} {name}: {error}")
                continue
            results.rounds[name].append(figures)
            key = workload.kind.compared
            say(f"  {workload.name} {turn + 1}/{runs} {name}: {workload.kind.columns[key].title} {figures[key]:.2f}")
    results.notes = list(bench.notes)
    if (others := results.most("others")) > BUSY_MACHINE:
        results.notes.append(f"others took up to {others:.0f} % of the server's CPU: measure again on a quiet machine")
    return results


def minutes(workloads: list[Workload], found: dict[str, Environment], options: argparse.Namespace) -> float:
    """How long it will take, roughly."""
    total = 0.0
    for workload in workloads:
        once = options.seconds + WARM_UP + 1.5
        extra = {id(SCALING): once, id(OPEN): options.seconds / 2 + 2, id(IDLE): 5}.get(id(workload.kind), 0)
        total += len(participants(workload, found)) * min(options.runs, workload.kind.most_runs) * (once + extra)
    return total / 60


def prepare(options: argparse.Namespace) -> list[Requirement]:
    """Checks what can be checked before an hour has passed."""
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
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # ours and, inherited, the servers'
    for number in (signal.SIGINT, signal.SIGTERM):  # whatever has been started is ended on the way out
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
    found = places(names(options.servers, SERVERS, "server"), options.renew)
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
        place = Path(str(options.json).replace("{tag}", environments.TAG))
        place.write_text(json.dumps(whole, indent=1) + "\n")
    return int(not all(met for met, _ in verdicts))
