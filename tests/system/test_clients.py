"""The programs that people point at servers. The counts are small here; `stress` has the large ones."""

import re
import subprocess

import pytest

from tests.support.requirements import tool
from tests.support.server import Running

REQUESTS = 3000


@pytest.fixture(params=["1", "4"], ids=["1 worker", "4 workers"], scope="module")
def server(request):
    with Running("plain:app", "--port", "0", "--workers", request.param, "--no-access-log") as server:
        yield server


def said(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("path", ["/", "/stream", "/sleep?0.001"])
def test_wrk_with_256_connections_sees_no_error(server, path):
    out = said(tool("wrk"), "-c256", "-t2", "-d2", server.url + path)
    assert "Socket errors" not in out
    assert "Non-2xx" not in out
    assert int(re.search(r"(\d+) requests in", out)[1]) > 100


@pytest.mark.parametrize("keep", [["-k"], []], ids=["kept", "one each"])
def test_ab_gets_every_response_with_keep_alive_and_without(server, keep):
    out = said(tool("ab"), *keep, "-q", "-n", str(REQUESTS), "-c", "32", server.url + "/")
    assert re.search(rf"Complete requests: +{REQUESTS}\n", out)
    assert re.search(r"Failed requests: +0\n", out)
    assert "Non-2xx" not in out
    if keep:
        assert re.search(rf"Keep-Alive requests: +{REQUESTS}\n", out)


def test_h2load_over_http_1_gets_every_response(server):
    out = said(tool("h2load"), "--h1", "-n", str(REQUESTS), "-c", "32", server.url + "/")
    assert f"{REQUESTS} total, {REQUESTS} started, {REQUESTS} done, {REQUESTS} succeeded, 0 failed" in out


def test_curl_gets_many_urls_over_one_connection(server):
    out = said(tool("curl"), "-sS", "-w", "%{num_connects} ", "-o", "/dev/null", f"{server.url}/[1-200]")
    assert out.split() == ["1"] + ["0"] * 199
