"""Runs the small programs of tests/apps/libraries, each with one library, under this server and under uvicorn.

A program says in literals what is to be done with it, so that it is read without its library:

    NEEDS      packages to import; without them it is skipped                    default: none
    SERVICES   "redis", "postgres": their URLs are in REDIS_URL, POSTGRES_URL    default: none
    CHECKS     (method, path, status[, content[, header fields]]), or            default: GET / is 200
               ("WS", path, texts to send, texts that come back; ... for any text)
    PROCESSES  True: the library has one of something per process, so workers are processes, not threads
    RACES      what goes wrong in the library itself when threads without a GIL share it: it is not run so

It is written as main.py into a folder of its own and run there as its users would run it; to force copies, with an
asyncio.Lock added to that module. All its answers must be those that uvicorn gives.
"""

import ast
import concurrent.futures
import contextlib
import http.client
import json
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from pounce.supervisor.plan import has_gil

PROGRAMS = Path(__file__).parent.parent / "apps" / "libraries"
LOCK = "\n\nimport asyncio as _asyncio\n\n_lock = _asyncio.Lock()\n"
REFERENCE = "uvicorn"
MODES = {
    "1 worker": (),
    "4 threads": ("--workers", "4"),
    "4 threads, copied": ("--workers", "4"),
    "2 processes": ("--workers", "2", "--worker-kind", "process"),
}
ONE_PER_PROCESS = "the library has one of something per process, so threads are not for it"
BY_ITSELF = "ends by itself"
CONNECTIONS = 24
"""Requests of each check, each on a connection of its own, so that every worker answers some."""


class Program(NamedTuple):
    name: str
    title: str
    needs: list[str]
    services: list[str]
    checks: list[tuple[Any, ...]]
    processes: bool
    races: str
    source: str


def read(path: Path) -> Program:
    source = path.read_text()
    tree = ast.parse(source)
    said = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in ("NEEDS", "SERVICES", "CHECKS", "PROCESSES", "RACES")
    }
    title = (ast.get_docstring(tree) or path.stem).partition(":")[0]
    checks = said.get("CHECKS", [("GET", "/", 200)])
    needs = [*said.get("NEEDS", []), *(["websockets"] if any(check[0] == "WS" for check in checks) else [])]
    services, processes, races = said.get("SERVICES", []), said.get("PROCESSES", False), said.get("RACES", "")
    return Program(path.stem, title, needs, services, checks, processes, races, source)


def programs() -> list[Program]:
    return [read(path) for path in sorted(PROGRAMS.glob("*.py"))]


class Outcome(NamedTuple):
    answers: dict[str, set[Any]]
    log: str
    code: int | None
    failure: str
    """Why there are no answers, or not enough of them; empty when all is well."""


def run(python: Path, program: Program, mode: str, env: dict[str, str]) -> Outcome:
    with tempfile.TemporaryDirectory(prefix=f"pounce-{program.name}-") as folder:
        (Path(folder) / "main.py").write_text(program.source + (LOCK if mode.endswith("copied") else ""))
        common = ["main:app", "--port", "0"]
        if mode == REFERENCE:
            command = [python, "-m", "uvicorn", *common, "--no-access-log"]
        else:
            command = [python, "-m", "pounce", *common, "--no-access-log", *MODES[mode]]
            if "threads" in mode and has_gil():  # elsewhere it is what the server chooses by itself
                command += ["--worker-kind", "thread"]
        # What is compiled of the libraries is kept; a random hash seed would order sets otherwise in each process.
        env = {**env, "PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0", "NO_COLOR": "1"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        with open(Path(folder) / "log", "w+") as file:
            process = subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
            answers: dict[str, set[Any]] = {}
            failure = ""
            try:
                port = started(process, Path(folder) / "log")
                answers = ask_all(program, port)
                if process.poll() is not None:
                    raise Failed(f"{BY_ITSELF}, exit code {process.returncode}")
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(45)
            except Failed as error:
                failure = str(error)
            finally:
                if process.poll() is None:
                    process.kill()
                    failure = failure or "does not end within 45 s"
                process.wait()
        return Outcome(answers, (Path(folder) / "log").read_text(errors="replace"), process.returncode, failure)


class Failed(Exception):
    """The program did not run."""


def started(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that the server listens at, as soon as its application has started."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        text = log.read_text(errors="replace")
        if found := re.search(r"unning on http://127\.0\.0\.1:(\d+)", text):
            return int(found[1])
        if process.poll() is not None:
            raise Failed(f"does not start, exit code {process.returncode}: {last_line(text)}")
        time.sleep(0.02)
    raise Failed(f"has not started after 90 s: {last_line(log.read_text(errors='replace'))}")


def last_line(text: str) -> str:
    """The line that says most: the exception, or what the log called an error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit|Interrupt)\b", line)]
    errors = [line for line in lines if "ERROR" in line or "CRITICAL" in line]
    return (raised or errors or lines or ["(nothing was logged)"])[-1][:300]


def ask_all(program: Program, port: int) -> dict[str, set[Any]]:
    """What each check gets. The first request of a kind goes alone, as a person's would, the others together."""
    answers = {}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number, check in enumerate(program.checks):
            one = talk if check[0] == "WS" else ask
            got = {one(port, check)}
            got.update(pool.map(lambda _, one=one, check=check: one(port, check), range(CONNECTIONS)))
            answers[named(number, check)] = got
    return answers


def named(number: int, check: tuple[Any, ...]) -> str:
    return f"check {number + 1}, {check[0]} {check[1]},"


def ask(port: int, check: tuple[Any, ...]) -> tuple[int, bytes] | str:
    method, path, _, content, fields = (*check, None, None)[:5] if len(check) < 5 else check
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        head = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json", **(fields or {})}
        connection.request(method, path, content, {**head, "Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().replace(str(port).encode(), b"PORT")
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def talk(port: int, check: tuple[Any, ...]) -> tuple[str, ...] | str:
    import websockets.sync.client

    _, path, texts, expected = check
    try:
        with websockets.sync.client.connect(f"ws://127.0.0.1:{port}{path}", open_timeout=30) as socket:
            got = []
            for number, wanted in enumerate(expected):
                if number < len(texts):
                    socket.send(texts[number])
                text = socket.recv(30)
                got.append("..." if wanted is ... else str(text))
            return tuple(got)
    except (OSError, websockets.WebSocketException) as error:
        return f"{type(error).__name__}: {error}"


def check_reference(program: Program, reference: Outcome) -> str:
    """What is wrong with the program itself: uvicorn must answer what it says, in order."""
    if reference.failure:
        return reference.failure
    for number, check in enumerate(program.checks):
        expected = tuple("..." if text is ... else text for text in check[3]) if check[0] == "WS" else check[2]
        for got in reference.answers[named(number, check)]:
            if (got if check[0] == "WS" or isinstance(got, str) else got[0]) != expected:
                return f"{named(number, check)} gets {got}, not {expected}"
    return ""


def compare(program: Program, mode: str, outcome: Outcome, reference: Outcome) -> str:
    """How this run differs from uvicorn's, in a few words; empty when it does not."""
    if outcome.failure:
        return outcome.failure
    for question, wanted in reference.answers.items():
        if other := outcome.answers[question] - wanted:
            return f"{question} gets {sorted(map(str, other))[0][:200]}; {last_line(outcome.log)}"
    usual = {re.sub(r"\d+", "0", line) for line in reference.log.splitlines()}
    for line in outcome.log.splitlines():
        if re.search(r"\b(ERROR|CRITICAL)\b|^Traceback", line) and re.sub(r"\d+", "0", line) not in usual:
            return f"logs an error: {line.strip()[:200]} ... {last_line(outcome.log)}"
    wanted = 0 if ran_as(mode, outcome) == "processes" else -signal.SIGTERM
    if outcome.code != wanted:
        return f"ends with exit code {outcome.code}, not {wanted}"
    if mode.endswith("copied") and ran_as(mode, outcome) == "threads":
        return "an asyncio.Lock beside it, and the log says nothing of copies"
    return ""


def ran_as(mode: str, outcome: Outcome) -> str:
    """What the workers were, as the log says it."""
    if mode == "2 processes" or "processes" in outcome.log:
        return "processes"
    return "copies" if re.search(r"\bcop(ies|ied|y)\b", outcome.log) else "threads"


def keep(file: Path, results: dict[str, Any]) -> None:
    """For the table: what is known from earlier runs stays, what this one found takes its place."""
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, **results}, indent=1, sort_keys=True))
