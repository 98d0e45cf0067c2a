"""Pages that reload themselves, in Chromium: what a developer sees between an edit and the new page."""

import contextlib
import signal
import time

import pytest

from pounce.asgi.reload_page import STREAM, ReloadPage
from pounce.testing import TestServer
from tests.support.applications import body, start
from tests.support.server import Running

TEXT = "location.pathname + ': ' + (document.body ? document.body.innerText : '')"
RUNS = "String(window.__pounce_reload__)"
LOADED_BY = "performance.getEntriesByType('navigation')[0].type"
SERVICE_WORKER = b"""
self.onfetch = event => { if (event.request.mode === "navigate") event.respondWith(kept(event.request)) };
async function kept(request) {
  const cache = await caches.open("pages");
  const found = await cache.match(request);
  if (found) return found;
  const answer = await fetch(request);
  await cache.put(request, answer.clone());
  return answer;
}
"""


class Site:
    """A server whose application a test replaces by a new one, as a reload does."""

    def __init__(self, **fields):
        self.page = ReloadPage(browser=True)
        self.number = 0
        self.fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
        self.streams = 0
        """How many event streams were opened."""
        self.mend()

    async def __call__(self, scope, receive, send):
        self.streams += scope["path"] == STREAM
        await self.application(scope, receive, send)

    def mend(self):
        """A new generation is ready."""
        self.number += 1
        self.application = self.page.wrap(self.made(self.number), self.number)
        self.page.ready(self.number)

    def made(self, number):
        async def application(scope, receive, send):
            path, fields = scope["path"], [(b"content-type", b"text/html"), *self.fields]
            if path == "/favicon.ico":
                await send(start(404))
                await send(body())
            elif path == "/worker.js":
                await send(start(200, (b"content-type", b"text/javascript")))
                await send(body(SERVICE_WORKER))
            elif path == "/fails" and number == 2:
                raise ValueError("so it is")
            elif path == "/breaks" and number == 3:
                await send(start(200, *fields))
                await send(body(b"<!doctype html><p>a half", more=True))
                raise ValueError("so it is")
            elif path == "/cached":  # the same whatever is asked for, also by the browser's own cache
                fields.append((b"cache-control", b"max-age=600"))
                await send(start(200, *fields))
                await send(body(b"generation %d" % number))
            elif path == "/fragment":
                await send(start(200, *fields))
                await send(body(b"<b>a fragment</b>"))
            elif path == "/endless":
                await send(start(200, *fields))
                await send(body(b"<!doctype html><head><title>a</title></head><p>generation %d" % number, more=True))
                await receive()
                await receive()
            else:
                if scope["method"] == "POST":
                    await receive()
                await send(start(200, *fields))
                text = b"%s by generation %d" % (scope["method"].encode(), number)
                await send(body(b"<!doctype html><title>a</title><p>" + text + b'<form method="post"></form>'))

        return application


@contextlib.contextmanager
def serving(site, **options):
    with TestServer(site, workers=2, worker_kind="thread", lifespan="off", **options) as server:
        try:
            yield server
        finally:
            site.page.close()


def test_chromium_reloads_a_page_when_ready_shows_the_error_and_what_mends_it(browser):
    site = Site()
    with serving(site) as server:
        tab = browser.tab(server.url)
        browser.wait(tab, TEXT, "GET by generation 1")
        site.mend()
        browser.wait(tab, TEXT, "GET by generation 2")
        for mistake in ("NameError: <one>", "NameError: <two>"):
            site.page.failed(f'  File "main.py", line 1\n{mistake}')
            shown = browser.wait(tab, TEXT, mistake)
            assert 'File "main.py", line 1' in shown
            assert "The last good version still serves" in shown
            assert "main.py" in browser.wait(browser.tab(server.url + "/other"), TEXT, mistake)  # opened meanwhile
            assert browser.run(tab, "return fetch('/').then(answer => answer.text())").endswith("</form>")
        site.mend()
        browser.wait(tab, TEXT, "GET by generation 3")


def test_chromium_reloads_an_endless_page_and_one_of_an_application_that_raised(browser):
    site = Site()
    with serving(site) as server:
        endless = browser.tab(server.url + "/endless")
        browser.wait(endless, TEXT, "generation 1")
        site.mend()
        browser.wait(endless, TEXT, "generation 2")
        fails = browser.tab(server.url + "/fails")
        browser.wait(fails, TEXT, "Internal Server Error")
        site.mend()
        browser.wait(fails, TEXT, "GET by generation 3")
        breaks = browser.tab(server.url + "/breaks")
        browser.wait(breaks, TEXT, "a half")
        site.mend()
        browser.wait(breaks, TEXT, "GET by generation 4")


def test_chromium_with_ten_tabs_has_one_stream_and_reloads_them_all(browser):
    """It opens at most six connections to a server of HTTP/1.1."""
    site = Site()
    with serving(site) as server:
        tabs = [browser.tab(f"{server.url}/{number}") for number in range(10)]
        for tab in tabs:
            browser.wait(tab, TEXT, "GET by generation 1")
        end = time.monotonic() + 30
        while len(site.page._event_streams) != 1:  # until the server sees which the browser has closed
            assert time.monotonic() < end
            time.sleep(0.01)
        site.mend()
        for tab in tabs:
            browser.wait(tab, TEXT, "GET by generation 2")
        leader = tabs.pop()
        browser.run(leader, "location = 'about:blank'")
        for tab in tabs[:3]:
            site.mend()
            browser.wait(tab, TEXT, f"GET by generation {site.number}")


def test_chromium_reloads_a_page_whose_stream_ended_when_it_connects_to_a_new_process(browser):
    site = Site()
    with serving(site) as server:
        port = server.port
        tab = browser.tab(server.url)
        browser.wait(tab, TEXT, "GET by generation 1")
    site = Site()  # the first generation again, of another process
    site.fields.append((b"x-process", b"second"))
    with serving(site, port=port):
        browser.wait(tab, LOADED_BY, "reload")
        browser.wait(tab, TEXT, "GET by generation 1")


def test_chromium_reloads_a_page_from_the_back_forward_cache_and_from_the_http_cache(browser):
    site = Site()
    with serving(site) as server:
        tab = browser.tab(server.url + "/first")
        browser.wait(tab, TEXT, "/first: GET by generation 1")
        browser.wait(tab, RUNS, "true")  # a page that is left before that is kept without its script
        browser.run(tab, "window.kept = 'kept'")
        browser.go(tab, server.url + "/cached")
        browser.wait(tab, TEXT, "/cached: generation 1")
        browser.wait(tab, RUNS, "true")
        browser.go(tab, server.url + "/second")
        browser.wait(tab, TEXT, "/second: GET by generation 1")
        for where in ("/cached: generation 1", "/first: GET by generation 1"):
            browser.do("back")
            browser.wait(tab, TEXT, where)
        assert browser.run(tab, "return window.kept") == "kept"  # as it was: nothing is to be loaded again
        for where in ("/cached: generation 1", "/second: GET by generation 1"):
            browser.do("forward")
            browser.wait(tab, TEXT, where)
        site.mend()
        browser.wait(tab, TEXT, "/second: GET by generation 2")
        browser.do("back")
        browser.wait(tab, TEXT, "/cached: generation 2")
        browser.do("back")
        browser.wait(tab, TEXT, "/first: GET by generation 2")


def test_chromium_reloads_once_a_page_that_a_service_worker_keeps(browser):
    site = Site()
    with serving(site) as server:
        tab = browser.tab(server.url)
        browser.wait(tab, TEXT, "GET by generation 1")
        browser.run(tab, "return navigator.serviceWorker.register('/worker.js').then(() => "
                         "navigator.serviceWorker.ready).then(() => 'ready')")  # fmt: skip
        browser.go(tab, server.url)
        browser.wait(tab, TEXT, "GET by generation 1")
        browser.run(tab, "console.warn = text => { document.body.append(text) }")
        site.mend()
        browser.wait(tab, LOADED_BY, "reload")
        browser.run(tab, "console.warn = text => { document.body.append(text) }")
        site.page.ready(site.number)
        browser.wait(tab, TEXT, "generation 1")
        streams = site.streams
        browser.run(tab, "return fetch('/fragment').then(() => 'done')")
        assert site.streams == streams  # the page did not get the new state in vain


@pytest.mark.parametrize(
    "policy",
    ["default-src 'self'", "script-src 'nonce-a1' 'strict-dynamic'; base-uri 'none'", "script-src 'self'"],
)
def test_chromium_runs_the_script_under_a_content_security_policy(browser, policy):
    site = Site(content_security_policy=policy)
    with serving(site) as server:
        tab = browser.tab(server.url)
        browser.wait(tab, TEXT, "GET by generation 1")
        site.mend()
        browser.wait(tab, TEXT, "GET by generation 2")


def test_chromium_leaves_a_page_that_answers_a_form_and_what_fetch_gets_as_they_are(browser):
    site = Site()
    with serving(site) as server:
        tab = browser.tab(server.url)
        browser.wait(tab, TEXT, "GET by generation 1")
        fragment = browser.run(tab, "return fetch('/fragment', {headers: {accept: 'text/html'}}).then(a => a.text())")
        assert fragment == "<b>a fragment</b>"
        browser.run(tab, "document.forms[0].submit()")
        browser.wait(tab, TEXT, "POST by generation 1")
        assert browser.run(tab, "return document.scripts.length") == 0


# The command, with files that a developer edits

MAIN = """
{imports}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        {lifespan}
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]}})
    await send({{"type": "http.response.body", "body": b"{text}"}})
"""


def edit(folder, text, imports="import words", lifespan="raise NotImplementedError"):
    (folder / "main.py").write_text(MAIN.format(text=text, imports=imports, lifespan=lifespan))


def test_chromium_with_reload_browser_follows_edits_mistakes_and_restarts_and_ctrl_c_is_not_held_up(browser, tmp_path):
    edit(tmp_path, "one")
    (tmp_path / "words.py").write_text("")
    (tmp_path / "settings.env").write_text("A=1")
    flags = ("--port", "0", "--reload", "--reload-browser", "--env-file", "settings.env", "--workers", "2")
    with Running("main:app", *flags, cwd=tmp_path) as server:
        tab = browser.tab(server.url)
        browser.wait(tab, TEXT, "one")
        edit(tmp_path, "two")
        browser.wait(tab, TEXT, "two")
        edit(tmp_path, "three", imports="import words, nothing_of_this_name")
        assert "main.py" in browser.wait(tab, TEXT, "ModuleNotFoundError: No module named 'nothing_of_this_name'")
        (tmp_path / "words.py").write_text("def f(:")
        browser.wait(tab, TEXT, "SyntaxError")
        (tmp_path / "words.py").write_text("")
        browser.wait(tab, TEXT, "ModuleNotFoundError")
        edit(tmp_path, "four", lifespan="return")
        browser.wait(tab, TEXT, "four")
        browser.run(tab, "document.body.append(' of the old process')")
        (tmp_path / "settings.env").write_text("A=2")  # needs a new process
        server.wait_for("Pounce running on", count=2)
        browser.wait(tab, f"({TEXT}).includes('old') ? '' : {TEXT}", "four")
        edit(tmp_path, "five")
        browser.wait(tab, TEXT, "five")
        server.wait_for("Reloaded in", count=3)
        began = time.monotonic()
        server.stop(signal.SIGINT)
        assert time.monotonic() - began < 15  # of 30 seconds that requests have
        assert "Cancel" not in server.log


def test_chromium_shows_why_the_first_generation_does_not_start_until_it_does(browser, tmp_path):
    edit(tmp_path, "one", imports="1 / 0")
    with Running("main:app", "--port", "0", "--reload", "--reload-browser", cwd=tmp_path) as server:
        tab = browser.tab(server.url)
        assert "There is no version yet" in browser.wait(tab, TEXT, "ZeroDivisionError")
        edit(tmp_path, "two", imports="")
        browser.wait(tab, TEXT, "two")
        edit(tmp_path, "three", imports="1 / 0")
        assert "The last good version still serves" in browser.wait(tab, TEXT, "ZeroDivisionError")
        assert browser.run(tab, "return fetch('/').then(answer => answer.text())") == "two"
