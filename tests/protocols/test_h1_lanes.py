"""The fast lane and the reference read the same, whatever comes and however it is cut; and h11 agrees with both.

`python -m stress fuzz` does this for longer.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from pounce.protocols.h1.reader import Limits, RequestReader
from tests.support.cases import CASES
from tests.support.lanes import CONNECTIONS, LIMITS, check, pieces, read, without_status

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


# Input that the lanes once read differently, and where it was cut.
CORPUS = [
    (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", [1]),  # an empty line cut in two was taken for TLS
    (b"\r\n\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", [3]),
    (b"X" * 300 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", [280]),  # a long method was 414 in pieces, 200 in one
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 1967 + b"\r\n\r\n", [2000]),  # the bound of the head, to the byte
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 1968 + b"\r\n\r\n", [2002]),
    (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", [67, 70]),
    (b"GET /" + b"a" * 199 + b" HTTP/1.1\r\nHost: a\r\n\r\n", [214]),  # 414 when CR and LF came apart
    (CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: \xff\r\n\r\n", []),  # h11 reads trailers as if in the head
    (CHUNKED + b"5\r\nhello\r\n0\r\nTransfer-Encoding: chu\r\n\r\n", []),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n", []),
    (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: x, 100-continue\r\nContent-Length: 5\r\n\r\nhello", []),
]


@pytest.mark.parametrize(("data", "places"), CORPUS)
def test_lanes_agree_on_input_that_they_once_read_differently(data, places):
    check(data, places)


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(CONNECTIONS)
def test_lanes_agree_on_generated_connections(connection):
    check(*connection)


@pytest.mark.parametrize("case", [case for case in CASES if len(case.data) < 700], ids=lambda case: case.name)
def test_lanes_agree_on_the_table_cut_at_every_interesting_place(case):
    limits = Limits(body=100_000)
    data = case.data
    whole = read([data], fast=False, limits=limits)
    assert read([data], fast=True, limits=limits) == whole
    places = {place for match in re.finditer(rb"[\r\n:; \t]+", data) for place in (match.start(), match.end())}
    places |= {place + 1 for place in places if data[place : place + 2] in (b"\r\n", b"\n\r")}
    for place in places:
        for fast in (True, False):
            cut = read(pieces(data, [place]), fast=fast, limits=limits)
            assert without_status(cut) == without_status(whole), (place, fast)
    bytewise = read([data[i : i + 1] for i in range(len(data))], fast=True, limits=limits)
    assert without_status(bytewise) == without_status(whole)


def test_stress_fuzz_is_green():
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "stress", "fuzz", "--examples", "500"]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "verdict: fuzz green" in ran.stdout


def test_the_fast_lane_reads_usual_requests():
    """Else the tests above would compare the reference with itself."""
    taken = []
    own = RequestReader._read_fast

    def watched(self, buffer, end):
        request = own(self, buffer, end)
        taken.append(request is not None)
        return request

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RequestReader, "_read_fast", watched)
        for data in (
            b"GET /a?b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ):
            read([data], fast=True)
    assert taken == [True] * 3
    assert LIMITS.head == 2000  # as the corpus takes it
