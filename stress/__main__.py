"""Runs the scenarios that try to break Pounce, and the benchmarks.

    python -m stress                        what there is
    python -m stress NAME ... [options]     these scenarios, one after the other
    python -m stress all [options]          every scenario
    python -m stress NAME --help            what it does, and its options

Each scenario prints what it does, what it counts, and a verdict. Exit code 1 when a verdict is red, 2 for a wrong
command, 3 when the only scenario was not run because an outside program is missing.
"""

import argparse
import importlib
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from stress.kit.errors import Unmeasured
from stress.kit.load import PACKAGES, tool
from stress.kit.machine import raise_descriptor_limit
from stress.kit.scenario import Report, Setting, interpreter


class Program(NamedTuple):
    module: str
    about: str
    in_all: bool = False
    own_options: bool = False
    """Has it a command line of its own, `main(arguments)`?"""


def _scenario(name: str, about: str) -> tuple[str, Program]:
    return name, Program(f"stress.scenarios.{name}", about, in_all=True)


PROGRAMS = dict((
    _scenario("soak", "mixed traffic with slow readers and clients that disconnect; nothing may grow"),
    _scenario("chaos", "crashes, killed workers, failing applications, resets, no descriptors, restarts: none lost"),
    _scenario("slow", "1,000 slow clients: a normal client's p95 at most doubles, each slow one ends at its deadline"),
    _scenario("limits", "more clients than may run or wait, requests over their time, 10,000 dropped connections"),
    _scenario("blocked", "a blocked worker of four: no new request waits longer than 1.2 s; busy connections balanced"),
    _scenario("hostile", "WebSocket clients that never read, stop in half a frame, flood, bomb or vanish"),
    _scenario("races", "16 worker threads with a switch interval of 1 us: counters, state, posted calls, retirements"),
    _scenario("scale", "10,000 idle and 1,000 busy connections: memory of each, CPU while idle"),
    _scenario("drain", "restarts of two servers behind HAProxy under load: no failed request"),
    _scenario("reloads", "SIGHUP again and again under wrk, WebSockets and uploads, behind HAProxy too: none fails"),
    _scenario("upgrades", "SIGUSR2, the same: a new server process takes the listening sockets over"),
    _scenario("counts", "curl, wrk, ab, h2load and httpx, 100,000 requests each on 1 and 4 workers, no error"),
    ("fuzz", Program("stress.scenarios.fuzz", "generated and mutated requests to both lanes and a server",
                     in_all=True, own_options=True)),
    ("autobahn", Program("stress.scenarios.autobahn", "WebSocket conformance: Autobahn's cases", own_options=True)),
    ("bench", Program("stress.bench.compare", "the cost of a request, beside other servers", own_options=True)),
    ("reload", Program("stress.bench.reload", "--reload from the write of a file to the new code, beside uvicorn",
                       own_options=True)),
    ("profile", Program("stress.bench.profile", "the cost of a request, stage by stage", own_options=True)),
    ("ws", Program("stress.bench.ws", "the cost of WebSockets, beside uvicorn", own_options=True)),
    ("database", Program("stress.bench.database", "FastAPI over PostgreSQL, beside uvicorn", own_options=True)),
))  # fmt: skip
TIME_LIMIT = 4, 300  # a run is ended after so many times what was asked for, and so many seconds


def parser(names: list[str]) -> argparse.ArgumentParser:
    """With one scenario, `--help` describes that scenario."""
    one = names[0] if len(names) == 1 else None
    description = importlib.import_module(PROGRAMS[one].module).__doc__ if one else __doc__
    result = argparse.ArgumentParser(
        prog=f"python -m stress {one or ''}".rstrip(), description=description,
        usage=None if one is None else "%(prog)s [--minutes N] [--workers N]",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    names_help = argparse.SUPPRESS if one else "scenarios, or all; without: show what there is"
    result.add_argument("names", nargs="*", metavar="NAME", help=names_help)
    result.add_argument("--minutes", type=float, default=2.0, metavar="N", help="for each scenario (default: 2)")
    result.add_argument("--workers", type=int, metavar="N", help="workers of the server (default: the scenario's own)")
    return result


def show_list() -> None:
    for title, in_all in (("scenarios, which `all` runs:", True), ("conformance and benchmarks:", False)):
        print(title)
        for name, program in PROGRAMS.items():
            if program.in_all is in_all:
                print(f"  {name:10} {program.about}")


def missing_tools(scenario: ModuleType) -> list[str]:
    return [f"{name} is missing: apt-get install {PACKAGES[name]}" for name in scenario.TOOLS if not tool(name)]


def run(name: str, minutes: float, workers: int | None) -> int:
    """One scenario, in this process. 0 green, 1 red, 3 not run."""
    scenario = importlib.import_module(PROGRAMS[name].module)
    if missing := missing_tools(scenario):
        print(f"verdict: {name} not run: {'; '.join(missing)}")
        return 3
    report = Report(name)
    report.log(f"{PROGRAMS[name].about}; {interpreter()}, {minutes:g} minutes")
    signal.setitimer(signal.ITIMER_REAL, minutes * 60 * TIME_LIMIT[0] + TIME_LIMIT[1])
    try:
        with tempfile.TemporaryDirectory(prefix=f"pounce-{name}-") as folder:
            scenario.run(Setting(minutes, workers, Path(folder)), report)
    except Unmeasured as error:
        report.check(False, str(error))
    except Exception as error:
        traceback.print_exc()
        report.check(False, f"the scenario itself failed: {type(error).__name__}: {error}")
    return 0 if report.verdict() else 1


def command(name: str, options: argparse.Namespace) -> list[str]:
    workers = [f"--workers={options.workers}"] if options.workers and not PROGRAMS[name].own_options else []
    return [sys.executable, "-m", "stress", name, f"--minutes={options.minutes}", *workers]


def end_on_signals() -> None:
    """An exception at the signal, so that all that was started is ended on the way out."""

    def end(number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        sys.exit(f"verdict: red: ended by {name}" if number == signal.SIGALRM else 128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, end)


def fail(text: str) -> int:
    print(f"python -m stress: {text}", file=sys.stderr)
    return 2


def main(arguments: list[str]) -> int:
    first, others = arguments[:1], arguments[1:]
    if first and first[0] in PROGRAMS and PROGRAMS[first[0]].own_options and not PROGRAMS.keys() & set(others):
        try:
            return importlib.import_module(PROGRAMS[first[0]].module).main(others)
        except Unmeasured as error:
            print(f"python -m stress {first[0]}: {error}", file=sys.stderr)
            return 1
    options = parser([word for word in arguments if word in PROGRAMS]).parse_args(arguments)
    names = list(options.names)
    if "all" in names:
        names = [name for name, program in PROGRAMS.items() if program.in_all]
    if unknown := [name for name in names if name not in PROGRAMS]:
        return fail(f"{unknown[0]!r} is not a scenario; there are: {', '.join(PROGRAMS)}")
    if alone := [name for name in names if not PROGRAMS[name].in_all]:
        return fail(f"{alone[0]} has options of its own and runs alone: python -m stress {alone[0]} --help")
    if options.minutes <= 0 or (options.workers is not None and options.workers < 1):
        return fail("--minutes is more than 0, --workers at least 1")
    if not names:
        show_list()
        return 0
    end_on_signals()
    if len(names) == 1 and not PROGRAMS[names[0]].own_options:
        raise_descriptor_limit()
        return run(names[0], options.minutes, options.workers)
    # Each in a process of its own, so that the crash of one does not end the others.
    codes = {name: subprocess.call(command(name, options)) for name in names}
    words = {0: "green", 3: "not run"}
    print("\n".join(f"{name:10} {words.get(code, 'RED')}" for name, code in codes.items()))
    return int(any(code not in words for code in codes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
