"""Popular clients with 100,000 requests each, on one worker and on four: curl, wrk, ab, h2load and httpx, without an
error. Then ten times as many from wrk, after which the server uses no more memory than before.

A short run sends fewer requests: 10,000 for each minute.
"""

import asyncio
import re
import subprocess
from collections import Counter
from collections.abc import Callable

from stress.kit.child_process import ChildProcess
from stress.kit.errors import Unmeasured
from stress.kit.pounce_server import Pounce
from stress.kit.scenario import MIB, Report, Setting

TOOLS = ("curl", "wrk", "ab", "h2load")

REQUESTS, PER_MINUTE = 100_000, 10_000
NOISE = 4 * MIB  # of growth, and a tenth of the memory before
ROUNDS = 3  # a leak grows in each; what an allocator keeps for its threads does not
KEEP_ALIVE = 600  # seconds: a client that the machine does not schedule must not find its connection closed
TIMEOUT = 3600.0  # seconds for one client; each of its requests has a deadline of its own


def _run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", timeout=TIMEOUT)  # fmt: skip
    if done.returncode:
        raise Unmeasured(f"{command[0]} ended with {done.returncode}: {done.stdout[-300:]}")
    return done.stdout


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


# Each client returns the number of correct responses, and what was wrong with the others.

Counted = tuple[int, str]


def curl(url: str, count: int) -> Counted:
    """Four connections at a time, each for many requests."""
    # curl writes the content to its output too; `got` marks its own lines.
    text = _run("curl", "-sS", "--no-progress-meter", "--parallel", "--parallel-max", "4", "-o", "/dev/null", "-w",
                "got %{http_code} %{errormsg}\\n", f"{url}/number?[1-{count}]")  # fmt: skip
    seen = Counter(re.findall(r"got (.*)", text))
    good = sum(number for line, number in seen.items() if line.split()[0] == "200")
    return good, "; ".join(f"{line}: {number}" for line, number in seen.items() if line.split()[0] != "200")


def wrk(url: str, count: int) -> Counted:
    """Repeatedly, until there are enough: wrk counts seconds, not requests."""
    good, bad, seconds = 0, "", 5 if count >= 10_000 else 1
    while good < count and not bad:
        text = _run("wrk", "-c256", "-t2", f"-d{seconds}s", "--timeout", "30s", f"{url}/")
        good += _number(r"(\d+) requests in", text)
        bad = "; ".join(re.findall(r"(Non-2xx.*|Socket errors.*)", text)) or ("" if good else text)
    return good, bad


def ab(url: str, count: int) -> Counted:
    text = _run("ab", "-q", "-k", "-c64", f"-n{count}", f"{url}/")
    good, failed = _number(r"Complete requests:\s+(\d+)", text), _number(r"Failed requests:\s+(\d+)", text)
    return good - failed, f"{failed} failed" * bool(failed) + "".join(re.findall(r"Non-2xx.*", text))


def h2load(url: str, count: int) -> Counted:
    text = _run("h2load", "--h1", "-c64", "-t1", f"-n{count}", f"{url}/")
    done = re.search(r"(\d+) total, \d+ started, (\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored", text)
    statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if done is None or statuses is None:
        return 0, text[-300:]
    size = _number(r"\((\d+)\) data", text)
    wrong = sum(map(int, statuses.groups()[1:])) + int(done[4])
    # h2load reports no status where the reason phrase is empty, which RFC 9112 allows: the content is checked.
    bad = f"{wrong} wrong, {size} bytes of content" if wrong or size != count * len("hello") else ""
    return int(done[2]), bad


def httpx(url: str, count: int) -> Counted:
    with ChildProcess(_httpx, url, count) as client:
        good, bad = client.result(TIMEOUT)
    return good, bad


def _httpx(url: str, count: int) -> Counted:
    import httpx as library

    async def ask() -> Counted:
        bad: Counter[str] = Counter()
        numbers, good = iter(range(count)), 0

        async def one(client: library.AsyncClient) -> None:
            nonlocal good
            for number in numbers:
                try:
                    answer = await client.get(f"{url}/number?{number}")
                except library.HTTPError as error:
                    bad[repr(error)] += 1
                    continue
                if answer.status_code == 200 and answer.text == str(number):
                    good += 1
                else:
                    bad[f"{answer.status_code} {answer.text[:40]}"] += 1

        async with library.AsyncClient(timeout=60) as client:
            await asyncio.gather(*(one(client) for _ in range(16)))
        return good, "; ".join(f"{what}: {number}" for what, number in bad.most_common(3))

    return asyncio.run(ask())


CLIENTS: dict[str, Callable[[str, int], Counted]] = {
    "curl": curl, "ab -k": ab, "h2load --h1": h2load, "httpx": httpx, "wrk -c256": wrk,
}  # fmt: skip


def run(setting: Setting, report: Report) -> None:
    count = min(REQUESTS, round(setting.minutes * PER_MINUTE))
    for workers in (1, 4) if setting.workers is None else (setting.workers,):
        with Pounce(setting, "busy:app", f"--timeout-keep-alive={KEEP_ALIVE}", workers=workers) as server:
            url = f"http://{server.host}:{server.port}"
            for name, client in CLIENTS.items():
                try:
                    good, bad = client(url, count)
                except subprocess.TimeoutExpired:
                    good, bad = 0, f"not finished after {TIMEOUT:.0f} s"
                what = f"{good} of {count} requests answered" if name != "wrk -c256" else f"{good} requests answered"
                report.check(good >= count and not bad, f"{workers} worker(s): {name}: {what} {bad}")
            for _ in range(ROUNDS):
                server.wait_idle()
                before = server.usage()
                good, bad = wrk(url, 10 * count)
                server.wait_idle()
                after = server.usage()
                bound = NOISE + before.memory / 10
                if bad or after.memory - before.memory <= bound:
                    break
            report.check(
                after.memory - before.memory <= bound and not bad,
                f"{workers} worker(s): memory {before.memory / MIB:.1f} MiB, after {good} requests more "
                f"{after.memory / MIB:.1f} MiB {bad}",
            )
            report.check(after.fds <= before.fds, f"{workers} worker(s): descriptors {before.fds} -> {after.fds}")
            server.stop()
            report.check("Traceback" not in server.log, f"{workers} worker(s): no traceback in the log")
