"""Generated and mutated requests, to both lanes of the reader and to a server.

    lanes   the fast lane, the reference and h11 must give the same result, for the bytes of a connection in one piece
            and in several, with an empty cache and a filled one
    server  the same over real sockets, on both lanes: every request that the reader accepts must be answered with what
            was sent, in order, then an error where the reader rejects, then the end; nothing else

The table of `tests/support/cases` is the seed. A finding is reduced and shown as a line for the corpus of
`tests/protocols/test_h1_lanes.py`. `--seed` repeats a run.
"""

import argparse
import ast
import itertools
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pounce.protocols.h1.head import Limits
from pounce.protocols.h1.reader import RequestReader
from pounce.testing import TestServer
from stress.kit.scenario import Report
from tests.support.answers import exchange, read_answers
from tests.support.lanes import Reading, SlowReader, check, connection, read

EXAMPLES = 200_000
SERVED = 10  # one connection over sockets for so many in memory
MAX_FINDINGS = 5  # after so many a run ends
BODY = 2000
LIMITS = Limits(body=BODY)

type Connection = tuple[bytes, list[int]]


class Until:
    """True until a number of examples, or a number of seconds, is reached."""

    def __init__(self, examples: int | None, seconds: float | None) -> None:
        self._examples = examples
        self._end = None if seconds is None else time.monotonic() + seconds

    def __call__(self, done: int) -> bool:
        if self._end is not None:
            return time.monotonic() < self._end
        return self._examples is not None and done < self._examples


def reduced(data: bytes, places: list[int], fails: Callable[[bytes, list[int]], object]) -> Connection:
    """A connection that fails too, and would pass if more of it were removed."""
    size = len(data) // 2
    while size:
        for place in range(0, len(data), size):
            shorter = data[:place] + data[place + size :]
            moved = [cut - size if cut > place else cut for cut in places]
            if fails(shorter, moved):
                data, places = shorter, moved
                break
        else:
            size //= 2
    for place in list(places):
        if fails(data, [cut for cut in places if cut != place]):
            places = [cut for cut in places if cut != place]
    return data, places


def problem(data: bytes, places: list[int]) -> str | None:
    """How the readings of a connection differ; None if they do not."""
    try:
        check(data, [max(0, place) for place in places])
    except Exception as error:
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return None


def fuzz_lanes(report: Report, rng: random.Random, until: Until) -> None:
    counts: Counter[str] = Counter()
    found: list[str] = []
    done = size = 0
    while until(done) and len(found) < MAX_FINDINGS:
        data, places = connection(rng.randrange)
        done += 1
        size += len(data)
        what = problem(data, places)
        if what is not None:
            data, places = reduced(data, places, problem)
            found.append(f"{what}: ({data!r}, {places})")
            report.log(found[-1])
        if done % 50 == 0:  # a sample shows that all kinds occur
            *requests, end = read([data], fast=True)
            counts["accepted"] += len(requests)
            counts[" ".join(str(word) for word in end[:2]) if end[0] != "content awaited" else end[0]] += 1
    report.log(f"lanes: {done:,} connections, {size:,} bytes; of every fiftieth: {_shown(counts)}")
    report.check(not found, f"both lanes and h11 read {done:,} connections the same")


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    content, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        content += message["body"]
        more = message["more_body"]
    seen = repr((scope["method"], scope["raw_path"], scope["query_string"], scope["headers"], content)).encode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": seen})


def expected(reading: Reading) -> tuple[list[tuple[Any, ...]], Any]:
    """The requests that a server must answer, and the end of the connection."""
    requests = []
    *accepted, end = reading
    for one in accepted:
        requests.append((one["method"], one["path"], one["query"], one["fields"], one["content"]))
        if not one["keep_alive"]:
            return requests, ("closed",)
    return requests, end


def served_wrong(address: tuple[str, int], data: bytes, counts: Counter[str]) -> str | None:
    """Sends the bytes of a connection to the server. Returns what is wrong with the responses, or None."""
    requests, end = expected(read([data], fast=True, limits=LIMITS))
    heads = {number for number, request in enumerate(requests) if request[0] == "HEAD"}
    try:
        received, _ = exchange(address, data, ends=True)
        # If the rejected request is a HEAD, its response has no content.
        answers = read_answers(received, heads | {len(requests)} if received.endswith(b"\r\n\r\n") else heads)
    except (AssertionError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    answers = [answer for answer in answers if answer.status >= 200]
    counts.update(str(answer.status) for answer in answers)
    rest = answers[len(requests) :]
    if len(answers) < len(requests):
        return f"{len(answers)} answers for {len(requests)} requests"
    for number, (request, answer) in enumerate(zip(requests, answers, strict=False)):
        if answer.status != 200 or not answer.whole:
            return f"answer {number} is {answer.status}"
        if number not in heads and ast.literal_eval(answer.content.decode()) != request:
            return f"answer {number} is of another request"
    if end[0] == "refused":
        fine = len(rest) == 1 and 400 <= rest[0].status < 506
    elif end[0] == "content awaited":  # which does not arrive
        fine = len(rest) <= 1 and all(answer.status >= 400 for answer in rest)
    else:
        fine = not rest
    return None if fine else f"{end} is answered {[answer.status for answer in rest]}"


class Errors(logging.Handler):
    """Collects the errors of the server's log."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def fuzz_server(report: Report, rng: random.Random, until: Until) -> None:
    counts: Counter[str] = Counter()
    found: list[str] = []
    errors = Errors()
    logger = logging.getLogger("pounce.error")
    logger.addHandler(errors)
    logger.propagate = False
    fast_lane = RequestReader._read_fast
    done = 0
    try:
        with TestServer(echo, lifespan="off", limit_request_body=BODY) as server:
            address = server.host, server.port
            for done in itertools.count():
                if not until(done) or len(found) >= MAX_FINDINGS:
                    break
                data, _ = connection(rng.randrange)
                if b"websocket" in data.lower():
                    continue
                # The server is in this process: the lanes alternate.
                RequestReader._read_fast = fast_lane if done % 2 else SlowReader._read_fast  # type: ignore[method-assign]
                what = served_wrong(address, data, counts)
                if what is not None:
                    data, _ = reduced(data, [], lambda data, _: served_wrong(address, data, Counter()))
                    found.append(f"{what}: {data!r}")
                    report.log(found[-1])
            RequestReader._read_fast = fast_lane  # type: ignore[method-assign]
            alive = served_wrong(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Counter()) is None
    finally:
        RequestReader._read_fast = fast_lane  # type: ignore[method-assign]
        logger.removeHandler(errors)
        logger.propagate = True
    report.log(f"server: {done:,} connections; answers: {_shown(counts)}")
    report.check(not found, f"the server answers {done:,} connections as the reader alone reads them")
    report.check(not errors.lines, f"nothing in the log is an error: {errors.lines[:1]}")
    report.check(alive, "the server still answers")


def _shown(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def run(minutes: float | None = None, examples: int = EXAMPLES, seed: int | None = None) -> bool:
    """Both parts, for a time or a number of examples. True when nothing was found."""
    report = Report("fuzz")
    seed = random.randrange(1 << 32) if seed is None else seed
    report.log(f"seed {seed}, {f'{examples:,} examples' if minutes is None else f'{minutes:g} minutes'}")
    rng = random.Random(seed)
    seconds = None if minutes is None else minutes * 30
    fuzz_lanes(report, rng, Until(examples, seconds))
    fuzz_server(report, rng, Until(examples // SERVED, seconds))
    return report.verdict()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m stress fuzz", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--minutes", type=float, metavar="N", help="instead of a number of examples")
    parser.add_argument("--examples", type=int, default=EXAMPLES, metavar="N", help=f"default: {EXAMPLES:,}")
    parser.add_argument("--seed", type=int, metavar="N", help="of the run that is repeated")
    options = parser.parse_args(arguments)
    return 0 if run(options.minutes, options.examples, options.seed) else 1
