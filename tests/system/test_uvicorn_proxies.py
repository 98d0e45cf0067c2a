"""Proxies' fields are read as uvicorn reads them: the same requests go to a worker and to uvicorn's middleware, which
runs in the libraries' environment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.applications import body, start
from tests.support.harness import Rig
from tests.support.websockets import handshake

ROOT = Path(__file__).resolve().parents[2]

REFERENCE = """
import asyncio, json, sys
try:
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
except ImportError:
    sys.exit("no uvicorn")
async def note(scope, receive, send):
    print(json.dumps([scope["client"], scope["scheme"]]), flush=True)
print("ready", flush=True)
for line in sys.stdin:
    trusted, client, kind, fields = json.loads(line)
    headers = [(name.encode("latin-1").lower(), value.encode("latin-1").strip(b" \\t")) for name, value in fields]
    scope = {"type": kind, "client": client, "scheme": {"http": "http", "websocket": "ws"}[kind], "headers": headers}
    asyncio.run(ProxyHeadersMiddleware(note, trusted)(scope, None, None))
"""


@pytest.fixture(scope="module")
def uvicorn():
    """What uvicorn makes of (trusted, client, kind, fields): the client and the scheme."""
    command = [sys.executable, ROOT / "tools" / "dev.py", "--libraries", "python", "-c", REFERENCE]
    env = {**os.environ, "POUNCE_PYTHON": sys.executable}
    with subprocess.Popen(
        command, cwd=ROOT, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while (line := process.stdout.readline()) and line != "ready\n":
            pass  # what the installation says
        if not line:
            said = process.stderr.read()
            assert "no uvicorn" in said, said
            pytest.skip("needs uvicorn, which tools/dev.py could not install")

        def ask(*question):
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


def here(trusted, client, kind, fields):
    """The same from a worker."""
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        if scope["type"] == "http":
            await send(start())
            await send(body())

    lines = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in fields)
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" if kind == "http" else handshake()
    rig = Rig(app, forwarded_allow_ips=trusted)
    rig.connect(client and tuple(client)).send(head[:-2] + lines + b"\r\n")
    Rig.close_all()
    (scope,) = scopes
    return [scope["client"] and list(scope["client"]), scope["scheme"]]


HOSTS = [
    "127.0.0.1", "::1", "0:0::1", "10.0.0.1", "10.9.9.9", "203.0.113.9", "2001:db8::1", "2001:DB8:0::1", "fe80::1%eth0",
    "fe80::1", "_hidden", "localhost", "unknown", "unix", "", "127.0.0.01", "10.1", "[", "]", ":", "[]", "\xe9",
    "1.2.3.4.5",
]  # fmt: skip
PORTS = ["", ":", ":0", ":80", ":65535", ":65536", ":-1", ":+80", ": 80", ":8_0", ":http", ":1:2", ":\xb2", "x", "]:80"]
SPACES = ["", " ", "\t", "  ", "\xa0", "\x85"]
ENTRIES = [
    "127.0.0.1", "::1", "10.0.0.0/8", "10.0.0.0/255.0.0.0", "2001:db8::/32", "fe80::/10", "fe80::1%eth0", "0.0.0.0/0",
    "::/0", "203.0.113.9", "localhost", "_hidden", "unknown", "example.org",
]  # fmt: skip
CLIENTS = [["127.0.0.1", 4711], ["10.0.0.1", 4711], ["203.0.113.9", 4711], ["fe80::1%eth0", 4711], ["::1", 4711], None]
SCHEMES = ["http", "https", "ws", "wss", "HTTPS", "https, http", "", "gopher", "\xa0https\x85", "https,"]


@st.composite
def elements(draw):
    host, port = draw(st.sampled_from(HOSTS)), draw(st.sampled_from(PORTS))
    text = f"[{host}]{port}" if draw(st.booleans()) else host + port
    return draw(st.sampled_from(SPACES)) + text + draw(st.sampled_from(SPACES))


odd = st.text(st.sampled_from('0123456789abcdef.:%[],; \t"\\\xa0\x85\xad\xff_-'), max_size=30)
chains = st.one_of(st.lists(elements(), max_size=5).map(",".join), odd)
fields = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["X-Forwarded-For", "x-forwarded-for"]), chains),
        st.tuples(st.just("X-Forwarded-Proto"), st.one_of(st.sampled_from(SCHEMES), odd)),
        st.just(("Forwarded", "for=192.0.2.7;proto=https")),
    ),
    max_size=5,
)
trusted = st.one_of(st.just("*"), st.lists(st.sampled_from(ENTRIES), max_size=4).map(",".join))


@pytest.mark.timeout(1800)  # the first one makes the environment
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trusted, st.sampled_from(CLIENTS), st.sampled_from(["http", "websocket"]), fields)
@example("127.0.0.1", ["127.0.0.1", 1], "http", [("X-Forwarded-For", ",".join(["127.0.0.1"] * 5000))])
@example("*", None, "http", [("X-Forwarded-For", ",".join(["203.0.113.9"] * 5000))])
def test_client_and_scheme_are_those_that_uvicorn_finds(uvicorn, trusted, client, kind, fields):
    expected, scheme = uvicorn(trusted, client, kind, fields)
    if expected is not None and not 0 <= expected[1] <= 65535:
        expected[1] = 0  # the one difference: no port is less, or more
    assert here(trusted, client, kind, fields) == [expected, scheme]
