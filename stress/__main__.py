"""Tries to break pounce: python -m stress, for the list; python -m stress NAME ... or all, to run.

Each scenario prints what it does, what it counts, and a verdict. Exit code 1 when a verdict is red, 2 for a wrong
command. A scenario whose outside program is missing is not run, and said to be.
"""

import argparse
import importlib
import importlib.util
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from stress import Unmeasured
from stress.load import PACKAGES, tool
from stress.scene import Report, Setting, all_descriptors, interpreter

OURS = ("soak", "chaos", "slow", "limits", "blocked", "hostile", "races", "scale", "drain", "counts")
COMMANDS = {  # with a command line of their own; present or not
    "fuzz": "hypothesis and mutated requests against both lanes and the whole server",
    "ws": "WebSockets beside the peers' (python -m stress.ws --help)",
    "autobahn": "WebSocket conformance: Autobahn's cases",
    "database": "FastAPI over PostgreSQL, beside uvicorn (python -m stress.database --help)",
    "profile": "what a request costs, stage by stage",
    "bench": "what a request costs, beside the peers (python -m stress.bench --help)",
}
# Not a part of `all`: they measure others too, or need what takes long to make.
APART = ("bench", "ws", "autobahn", "database", "profile")
PACKAGES |= {"ab": "apache2-utils", "curl": "curl", "haproxy": "haproxy", "slowhttptest": "slowhttptest"}
BOUND = 4, 300  # a run is ended after so many times what was asked for, and so many seconds


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m stress", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    result.add_argument("names", nargs="*", metavar="NAME", help="scenarios, or all; without: show what there is")
    result.add_argument("--minutes", type=float, default=2.0, metavar="N", help="for each scenario (default: 2)")
    result.add_argument("--workers", type=int, metavar="N", help="workers of the server (default: as each likes it)")
    return result


def there(name: str) -> bool:
    return importlib.util.find_spec(f"stress.{name}") is not None


def show_list() -> None:
    for name in OURS:
        print(f"  {name:10} {importlib.import_module(f'stress.{name}').ABOUT}")
    for name, about in COMMANDS.items():
        if there(name):
            print(f"  {name:10} {about}")


def lacking(scenario: Any) -> list[str]:
    return [f"{name} is missing: apt-get install {PACKAGES[name]}" for name in scenario.TOOLS if not tool(name)]


def run(name: str, minutes: float, workers: int | None) -> int:
    """One scenario, in this process. 0 green, 1 red, 3 not run."""
    scenario = importlib.import_module(f"stress.{name}")
    if missing := lacking(scenario):
        print(f"verdict: {name} not run: {'; '.join(missing)}")
        return 3
    report = Report(name)
    report.say(f"{scenario.ABOUT}; {interpreter()}, {minutes:g} minutes")
    signal.setitimer(signal.ITIMER_REAL, minutes * 60 * BOUND[0] + BOUND[1])
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
    if name in OURS:
        workers = [f"--workers={options.workers}"] if options.workers else []
        return [sys.executable, "-m", "stress", name, f"--minutes={options.minutes}", *workers]
    timed = [] if name in APART else [f"--minutes={options.minutes}"]
    return [sys.executable, "-m", f"stress.{name}", *timed]


def main() -> int:
    options = parser().parse_args()
    known = [*OURS, *(name for name in COMMANDS if there(name))]
    names = list(options.names)
    if "all" in names:
        names = [name for name in known if name not in APART]
    if unknown := [name for name in names if name not in known]:
        print(f"python -m stress: {unknown[0]!r} is not a scenario; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    if options.minutes <= 0 or (options.workers is not None and options.workers < 1):
        print("python -m stress: --minutes is more than 0, --workers at least 1", file=sys.stderr)
        return 2
    if not names:
        show_list()
        return 0

    def ended(number: int, _frame: object) -> None:  # whatever has been started is ended on the way out
        sys.exit(f"verdict: red: ended by {signal.Signals(number).name}" if number == signal.SIGALRM else 128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, ended)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    all_descriptors()
    if len(names) == 1 and names[0] in OURS:
        code = run(names[0], options.minutes, options.workers)
        return 1 if code == 1 else 0 if code == 0 else 3
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    # Each in a process of its own, so that the crash of one is not the end of all.
    codes = {name: subprocess.call(command(name, options)) for name in names}
    words = {0: "green", 3: "not run"}
    print("\n".join(f"{name:10} {words.get(code, 'RED')}" for name, code in codes.items()))
    return int(any(code not in words for code in codes.values()))


if __name__ == "__main__":
    sys.exit(main())
