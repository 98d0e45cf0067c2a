"""A browser that tests drive. The fixture `browser` is in tests/system/conftest.py."""

import contextlib
import socket
import subprocess
import time

import httpx

from tests.support.requirements import tool


class Browser:
    """Headless Chromium, through the WebDriver protocol."""

    def __init__(self, folder):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        self.process = subprocess.Popen(
            [tool("chromedriver"), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
        end = time.monotonic() + 30
        while True:
            try:
                self.http.get("/status")
                break
            except httpx.TransportError:
                assert time.monotonic() < end
                time.sleep(0.05)
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     f"--user-data-dir={folder}"]  # fmt: skip
        options = {"binary": tool("chromium"), "args": arguments}
        # No command waits until a page is complete, which a streamed one may never be.
        wanted = {"goog:chromeOptions": options, "pageLoadStrategy": "none"}
        answer = self.http.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
        self.session = f"/session/{answer['sessionId']}"

    def do(self, what, **values):
        answer = self.http.post(f"{self.session}/{what}", json=values)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    def tab(self, url):
        handle = self.do("window/new", type="tab")["handle"]
        self.do("window", handle=handle)
        self.do("url", url=url)
        return handle

    def go(self, tab, url):
        """Has a tab show another page. Returns when the page before it is gone."""
        self.run(tab, "window.before = true")
        self.do("url", url=url)
        self.wait(tab, "window.before || !document.body ? '' : 'gone'", "gone")

    def run(self, tab, script):
        self.do("window", handle=tab)
        return self.do("execute/sync", script=script, args=[])

    def wait(self, tab, script, words):
        end = time.monotonic() + 60
        while words not in (found := self.run(tab, f"return {script}")):
            assert time.monotonic() < end, found
            time.sleep(0.05)
        return found

    def close(self):
        with contextlib.suppress(httpx.HTTPError):
            self.http.delete(self.session)
        self.http.close()
        self.process.terminate()
        self.process.wait(30)
