"""`ReloadPage`: the error page while new code does not start, and the event stream that reloads pages."""

import asyncio
import contextlib
import http.client
import re
import subprocess
import sys
import threading

import pytest

from pounce.asgi.reload_page import SCRIPT, STREAM, ReloadPage
from pounce.testing import TestServer
from tests.support.answers import content_of, read_answers, status_of
from tests.support.applications import answering, body, start
from tests.support.harness import Rig
from tests.support.websockets import handshake

HTML = (b"content-type", b"text/html; charset=utf-8")
PAGE = b"<!doctype html><title>a</title><p>hello"
ERROR = """Error loading ASGI app. Importing "main" has failed:
Traceback (most recent call last):
  File "/home/me/main.py", line 3, in <module>
    {{ number }} < 1 & "x"
NameError: name '<script>' is not defined"""
TEXT_HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

page_app = answering(start(200, HTML), body(PAGE))


def request(path="/", method="GET", accept=TEXT_HTML, **fields):
    """As a browser asks for a page."""
    lines = [f"{method} {path} HTTP/1.1", "Host: a", *([f"Accept: {accept}"] if accept else [])]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def rig_of(page, app=page_app, number=None, **options):
    return Rig(page.wrap(app) if number is None else page.wrap(app, number), **options)


def state_in(content):
    """Of the element of a page, as process, generation, failure."""
    found = re.search(rb'<script[^>]* data-state="(\w+) (\d+) (\d+)"></script>', content)
    assert found, content
    return found[1], int(found[2]), int(found[3])


def events(data):
    """The states that an event stream has sent."""
    return [(match[1], int(match[2]), int(match[3])) for match in re.finditer(rb"data: (\w+) (\d+) (\d+)\n\n", data)]


# The error page


@pytest.mark.parametrize("browser", [False, True])
def test_a_browser_gets_the_error_page_with_500_from_failed_to_ready(browser):
    page = ReloadPage(browser=browser)
    page.ready(1)
    client = rig_of(page).connect()
    assert PAGE in client.ask(request())
    page.failed(ERROR)
    (answer,) = read_answers(client.ask(request("/anything")))
    assert answer.status == 500
    assert answer.get(b"content-type") == b"text/html; charset=utf-8"
    assert answer.get(b"cache-control") == b"no-store"
    assert b"/home/me/main.py&quot;, line 3" in answer.content
    assert (SCRIPT.encode() in answer.content) == browser
    page.ready(3)
    answer = client.ask(request())
    assert status_of(answer) == 200
    assert PAGE in answer


def test_the_error_is_escaped_whatever_is_in_it():
    page = ReloadPage(browser=False)
    page.failed(ERROR + "\udc80 ä")
    content = content_of(rig_of(page).connect().ask(request()))
    assert b"<script" not in content
    assert b"{{ number }} &lt; 1 &amp; &quot;x&quot;" in content
    assert content.count(b"NameError: name &#x27;&lt;script&gt;&#x27; is not defined\\udc80 \xc3\xa4") == 2


@pytest.mark.parametrize("text", ["", "\n", "one line"])
def test_an_error_of_one_line_or_none_has_a_page(text):
    page = ReloadPage(browser=False)
    page.failed(text)
    assert (text.strip() or "no message").encode() in content_of(rig_of(page).connect().ask(request()))


@pytest.mark.parametrize(
    "asked",
    [
        request(accept=None),
        request(accept="*/*"),  # curl, fetch, htmx
        request(accept="application/json"),
        request(method="POST", content_length=0),
        request(method="HEAD"),
        request(sec_fetch_mode="cors", sec_fetch_dest="empty"),
        request(sec_fetch_mode="no-cors", sec_fetch_dest="image"),
        request(hx_request="true"),
        request(x_requested_with="XMLHttpRequest"),
    ],
)
def test_what_does_not_ask_for_a_page_is_served_by_the_last_good_application_as_it_is(asked):
    page = ReloadPage(browser=True)
    page.failed(ERROR)
    answer = rig_of(page).connect().ask(asked)
    assert status_of(answer) == 200
    assert content_of(answer) == (b"" if asked.startswith(b"HEAD") else PAGE)


@pytest.mark.parametrize("dest", ["document", "iframe", "empty"])
def test_documents_frames_and_what_a_service_worker_passes_on_are_pages(dest):
    page = ReloadPage(browser=True)
    client = rig_of(page).connect()
    assert SCRIPT.encode() in client.ask(request(sec_fetch_mode="navigate", sec_fetch_dest=dest))
    page.failed(ERROR)
    assert status_of(client.ask(request(sec_fetch_mode="navigate", sec_fetch_dest=dest))) == 500


@pytest.mark.parametrize("browser", [False, True])
def test_a_websocket_and_the_lifespan_reach_the_application_untouched(browser):
    scopes = []

    async def app(scope, receive, send):
        scopes.append((scope["type"], receive, send))
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    page = ReloadPage(browser=browser)
    page.failed(ERROR)
    client = rig_of(page, app, lifespan="on").connect()
    assert client.ask(handshake()).startswith(b"HTTP/1.1 101 ")
    assert [kind for kind, *_ in scopes] == ["lifespan", "websocket"]
    calls = []
    page.wrap(lambda *arguments: calls.append(arguments))({"type": "websocket"}, "receive", "send")
    assert calls == [({"type": "websocket"}, "receive", "send")]


def test_without_an_error_a_request_without_browser_reaches_the_application_untouched():
    calls = []
    wrapped = ReloadPage(browser=False).wrap(lambda *arguments: calls.append(arguments))
    scope = {"type": "http"}  # in which nothing is looked at
    wrapped(scope, "receive", "send")
    assert calls[0][0] is scope
    assert calls[0][1:] == ("receive", "send")


def test_the_error_page_says_what_still_serves():
    page = ReloadPage(browser=False)
    client = rig_of(page).connect()
    page.failed(ERROR)
    assert b"There is no version yet" in client.ask(request())
    page.ready(1)
    page.failed(ERROR)
    assert b"The last good version still serves" in client.ask(request())


# Its script, and states


def test_a_page_has_the_state_of_its_generation_and_the_stream_the_present_one():
    page = ReloadPage(browser=True)
    page.ready(1)
    old, new = rig_of(page, number=1), rig_of(page, number=2)
    stream = old.connect()
    first = stream.ask(request(STREAM, accept="text/event-stream"))
    assert b"\r\ncontent-type: text/event-stream\r\n" in first
    assert events(first) == [state_in(old.connect().ask(request()))]
    process = events(first)[0][0]
    assert state_in(new.connect().ask(request())) == (process, 2, 0)  # before it is said to be ready
    page.ready(2)
    assert events(stream.read()) == [(process, 2, 0)]
    assert state_in(old.connect().ask(request())) == (process, 1, 0)  # of code that drains: its page will be reloaded
    assert events(new.connect().ask(request(STREAM))) == [(process, 2, 0)]


def test_a_page_without_a_number_has_the_state_of_the_moment():
    page = ReloadPage(browser=True)
    client = rig_of(page).connect()
    numbers = [state_in(client.ask(request()))[1]]
    page.ready(4)
    numbers.append(state_in(client.ask(request()))[1])
    assert numbers == [0, 4]


def test_each_failure_has_a_state_of_its_own_and_its_page_the_same():
    page = ReloadPage(browser=True)
    page.ready(1)
    rig = rig_of(page, number=1)
    stream, client = rig.connect(), rig.connect()
    good = events(stream.ask(request(STREAM)))
    page.failed("one")
    first = events(stream.read())
    assert first == [state_in(client.ask(request()))]
    page.failed("two")
    second = events(stream.read())
    assert second == [state_in(client.ask(request()))]
    assert len({*good, *first, *second}) == 3
    page.ready(3)
    assert events(stream.read()) == [(good[0][0], 3, 0)]


def test_two_server_processes_have_different_states():
    states = {state_in(rig_of(ReloadPage(browser=True), number=1).connect().ask(request())) for _ in range(2)}
    assert len(states) == 2


def test_the_script_is_javascript_and_reads_the_stream_beside_it():
    client = rig_of(ReloadPage(browser=True)).connect()
    (answer,) = read_answers(client.ask(request(SCRIPT, accept="*/*", sec_fetch_mode="no-cors")))
    assert answer.status == 200
    assert answer.get(b"content-type") == b"text/javascript; charset=utf-8"
    assert b"EventSource" in answer.content
    assert STREAM + ".js" == SCRIPT


@pytest.mark.parametrize("path", [SCRIPT, STREAM])
def test_without_browser_the_reserved_paths_are_the_applications(path):
    assert content_of(rig_of(ReloadPage(browser=False)).connect().ask(request(path))) == PAGE


def test_a_root_path_stands_before_the_scripts_path_whether_a_proxy_takes_it_away_or_not():
    client = rig_of(ReloadPage(browser=True), root_path="/a b").connect()
    assert b'src="/a%20b/__pounce__/reload.js?' in client.ask(request())
    for path in ("/__pounce__/reload.js", "/a%20b/__pounce__/reload.js"):
        assert b"EventSource" in client.ask(request(path))
    assert content_of(client.ask(request("/c/__pounce__/reload.js", accept="*/*"))) == PAGE


# Event streams


def test_a_stream_ends_when_its_page_goes_and_leaves_nothing():
    page = ReloadPage(browser=True)
    rig = rig_of(page)
    for _ in range(3):
        client = rig.connect()
        client.ask(request(STREAM))
        assert len(page._event_streams) == 1
        client.close()
        rig.turn()
        assert not page._event_streams
        assert not rig.worker.exchanges
    page.ready(2)  # wakes nothing
    rig.turn()


def test_news_that_come_at_once_are_sent_in_order_and_only_the_last_need_be():
    page = ReloadPage(browser=True)
    stream = rig_of(page).connect()
    stream.ask(request(STREAM))
    for number in range(1, 6):
        page.ready(number)
    assert events(stream.read())[-1][1] == 5
    for number in range(6, 9):
        page.ready(number)
        assert [state[1] for state in events(stream.read())] == [number]


def test_the_same_state_is_not_sent_twice():
    page = ReloadPage(browser=True)
    page.ready(1)
    stream = rig_of(page).connect()
    stream.ask(request(STREAM))
    page.ready(1)
    assert stream.read() == b""


def test_a_stream_that_a_draining_worker_is_asked_for_gives_the_state_and_ends():
    page = ReloadPage(browser=True)
    page.ready(1)
    rig = rig_of(page)
    client = rig.connect()
    client.sock.sendall(request(STREAM)[:20])
    rig.turn()
    rig.worker.retire(hurry=True)
    data = client.ask(request(STREAM)[20:])
    assert [state[1] for state in events(data)] == [1]
    assert data.endswith(b"\r\n0\r\n\r\n")


def test_close_ends_streams_in_order_and_they_stay_closed():
    page = ReloadPage(browser=True)
    rig = rig_of(page)
    stream = rig.connect()
    stream.ask(request(STREAM))
    page.close()
    assert stream.read() == b"0\r\n\r\n"
    assert rig.connect().ask(request(STREAM)).endswith(b"\r\n0\r\n\r\n")
    assert not page._event_streams
    assert not rig.worker.exchanges


@pytest.mark.parametrize("told", [True, False], ids=["before", "never"])
def test_a_stream_ends_in_order_when_its_worker_retires_in_a_hurry_and_is_opened_at_the_next(told, caplog):
    page = ReloadPage(browser=True)
    page.ready(1)
    old, new = rig_of(page, number=1), rig_of(page, number=2)
    stream = old.connect()
    stream.ask(request(STREAM))
    page.ready(2)
    if told:
        old.turn()
    old.worker.retire(hurry=True)
    data = stream.read()
    assert [state[1] for state in events(data)] == ([2] if told else [])
    assert data.endswith(b"0\r\n\r\n")
    assert not old.worker.exchanges
    assert not page._event_streams
    assert not caplog.records
    assert [state[1] for state in events(new.connect().ask(request(STREAM)))] == [2]


def test_a_stream_of_a_worker_that_runs_asyncio_waits_by_its_futures():
    async def app(scope, receive, send):
        await asyncio.sleep(0)
        await page_app(scope, receive, send)

    page = ReloadPage(browser=True)
    page.ready(1)
    with TestServer(page.wrap(app)) as server, opened(server) as stream:
        assert next_state(stream)[1] == 1
        for number in range(2, 30):
            page.ready(number)
            assert next_state(stream)[1] == number


MIGRATING = """
import http.client, sys
from pounce.asgi.reload_page import STREAM, ReloadPage
from pounce.testing import TestServer

async def app(scope, receive, send):
    import asyncio
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})

def ask(path):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.request("GET", path)
    return connection, connection.getresponse()

def state():
    while not (line := stream.readline()).startswith(b"data: "):
        assert line
    return line.split()[2]

page = ReloadPage(browser=True)
page.ready(1)
with TestServer(page.wrap(app), lifespan="off") as server:
    connection, stream = ask(STREAM)
    left, _ = ask(STREAM)
    assert state() == b"1"
    page.ready(2)
    assert state() == b"2"
    assert "asyncio" not in sys.modules
    assert ask("/")[1].status == 204
    assert "asyncio" in sys.modules
    for number in range(3, 20):
        page.ready(number)
        assert state() == b"%d" % number
    connection.close()
    left.close()
    while page._event_streams:
        ask("/")
"""


def test_a_stream_goes_on_where_the_application_imports_asyncio_while_it_is_open():
    subprocess.run([sys.executable, "-W", "ignore", "-c", MIGRATING], check=True, timeout=100)


@contextlib.contextmanager
def opened(server, path=STREAM):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        yield connection.getresponse()


def next_state(stream):
    while not (line := stream.readline()).startswith(b"data: "):
        assert line, "the stream has ended"
    return events(line + b"\n")[0]


def test_streams_on_several_worker_threads_all_get_the_last_state_whenever_they_are_opened():
    """`ready` and `failed` race with pages that come and go."""
    page = ReloadPage(browser=True)
    page.ready(1)
    last = 60
    failures = []

    def read(server):
        with opened(server) as stream:
            state = (b"", 0, 0)
            while state[1] < last:
                before, state = state, next_state(stream)
                assert state[1] >= before[1]

    def reader(server):
        try:
            for _ in range(3):
                read(server)
        except BaseException as error:
            failures.append(error)

    with TestServer(page.wrap(page_app), workers=3, worker_kind="thread") as server:
        threads = [threading.Thread(target=reader, args=(server,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for number in range(2, last):
            page.ready(number)
            page.failed("x")
        page.ready(last)
        for thread in threads:
            thread.join(60)
    assert not failures
