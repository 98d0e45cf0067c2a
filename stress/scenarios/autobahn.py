"""WebSocket conformance: the fuzzing client of Autobahn's test suite against an echo application.

    python -m stress autobahn                the 301 cases of chapters 1 to 7, 9 and 10; half a minute
    python -m stress autobahn --all          also the 216 cases of compression, 12 and 13; half an hour
    python -m stress autobahn --cases '6.*'  only these
    python -m stress autobahn --server uvicorn-websockets

It needs CPython 2.7 (`python2.7` on the path, or `pyenv install 2.7.18`), for which it installs the suite from PyPI
into .venv/autobahn once, in about a minute. Exit code 0 when every case is OK or informational and every close clean,
otherwise 1.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from stress.kit.servers import Setup, free_port, running
from stress.kit.websockets import SERVERS, find_environment

FOLDER = Path(__file__).resolve().parents[2] / ".venv" / "autobahn"
STEPS = (  # in this order: later ones are built with earlier ones
    "setuptools==44.0.0 wheel==0.36.2 incremental==16.10.1 cryptography==3.3.2 pyOpenSSL==19.1.0 attrs==21.4.0",
    "--no-build-isolation zope.interface==4.6.0 Twisted==19.10.0",
    "txaio==2.1.0 jinja2==2.11.3 markupsafe==1.1.1 Werkzeug==1.0.1 klein==17.10.0 service_identity==18.1.0 "
    "unittest2==1.1.0 six==1.16.0 autobahn[twisted,accelerate]==0.10.9",
    "--no-deps autobahntestsuite==25.10.1",
)
# Not the installed script: a directory on PYTHONPATH has its .pth files ignored, and zope needs one.
WSTEST = "import site, sys; site.addsitedir({!r}); from autobahntestsuite.wstest import run; run()"
PLAIN = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*")
COMPRESSION = ("12.*", "13.*")
WELL = ("OK", "INFORMATIONAL")


def python() -> str:
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in [*map(str, versions.glob("2.7*/bin/python2.7")), shutil.which("python2.7")]:
        if candidate and subprocess.run([candidate, "-c", ""], stderr=subprocess.DEVNULL).returncode == 0:
            return candidate
    sys.exit("autobahn: needs CPython 2.7, as python2.7 on the path or in pyenv (pyenv install 2.7.18)")


def installed() -> list[str]:
    """The command of `wstest`, which is installed first if it is missing."""
    interpreter, made_from = python(), FOLDER / "made-from"
    packages = FOLDER / "lib" / "python2.7" / "site-packages"
    wanted = "\n".join((interpreter, *STEPS))
    if not made_from.exists() or made_from.read_text() != wanted:
        print(f"autobahn: installing the suite into {FOLDER} for {interpreter}", file=sys.stderr)
        shutil.rmtree(FOLDER, ignore_errors=True)
        variables = {**os.environ, "PYTHONPATH": str(packages), "PATH": f"{FOLDER / 'bin'}:{os.environ['PATH']}"}
        for step in STEPS:
            command = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                       "--no-warn-script-location", "--ignore-installed", "--prefix", str(FOLDER),
                       *step.split()]  # fmt: skip
            done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode:
                sys.exit(f"autobahn: pip failed at {step}\n{done.stdout}")
        made_from.write_text(wanted)
    return [interpreter, "-W", "ignore", "-c", WSTEST.format(str(packages))]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stress autobahn", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="also compression")
    parser.add_argument("--cases", nargs="+", help="only these, in Autobahn's notation")
    parser.add_argument("--server", choices=SERVERS, default="pounce")
    parser.add_argument("--report", type=Path, help="keep the report's pages here")
    options = parser.parse_args(arguments)
    cases = options.cases or [*PLAIN, *(COMPRESSION if options.all else ())]
    wstest = installed()
    server, environment = SERVERS[options.server], find_environment()
    with tempfile.TemporaryDirectory(prefix="pounce-autobahn-") as scratch:
        folder = Path(scratch)
        report = (options.report or folder / "report").absolute()
        setup = Setup("sockets:echo", free_port(), folder)
        with running(server, environment, setup, frozenset(os.sched_getaffinity(0))):
            spec = {"outdir": str(report), "servers": [{"agent": "it", "url": f"ws://127.0.0.1:{setup.port}"}],
                    "cases": cases, "exclude-cases": [], "exclude-agent-cases": {}}  # fmt: skip
            (folder / "spec.json").write_text(json.dumps(spec))
            with open(folder / "log", "w+b") as log:
                code = subprocess.call(
                    [*wstest, "-m", "fuzzingclient", "-s", str(folder / "spec.json")],
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                )
        try:
            found = json.loads((report / "index.json").read_text())["it"]
        except OSError:
            sys.exit(f"autobahn: no report, exit code {code}\n{(folder / 'log').read_text()[-2000:]}")
    return summary(options.server, found)


def summary(name: str, found: dict[str, dict[str, str]]) -> int:
    behaviour = Counter(each["behavior"] for each in found.values())
    closes = Counter(each["behaviorClose"] for each in found.values())
    print(f"{name}: {len(found)} cases: " + ", ".join(f"{count} {word}" for word, count in behaviour.most_common()))
    print("closes: " + ", ".join(f"{count} {word}" for word, count in closes.most_common()))
    bad = {
        case: each for case, each in found.items() if each["behavior"] not in WELL or each["behaviorClose"] not in WELL
    }
    for case, each in sorted(bad.items(), key=lambda item: [int(part) for part in item[0].split(".")]):
        print(f"  {case:8} {each['behavior']}, close {each['behaviorClose']}")
    return int(bool(bad) or not found)
