"""What browsers see of a reload: an error page while the new code does not start, and, with `--reload-browser`, pages
that load themselves again.

A page has a script element (see `page_response`), whose script holds an event stream open and compares two states: the
one at which the page was made, which is an attribute of the element, and the present one, which the stream sends. So it
does not matter when the stream was interrupted, or by what: a worker that has retired, a new server process, a page
from the back/forward cache. `reload_page.js` says what a state is.

An application that is wrapped serves everything else as it is: what scripts and programs ask for, WebSockets, its
lifespan.

Owner: the supervisor's thread, which calls `failed` and `ready` and alone writes; the workers' threads read single
references. An event stream belongs to its worker's thread, and is woken through that worker's loop.
"""

import contextlib
import functools
import html
import re
import time
import zlib
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from pounce.app.types import Application, Message, Receive, Scope, Send
from pounce.asgi.page_response import asks_for_page, call_with_script, send_content, send_page
from pounce.errors import ClientDisconnected
from pounce.kernel.task import TimerLoop, Wait, Waiter

FOLDER = "/__pounce__/"
STREAM = FOLDER + "reload"
SCRIPT = FOLDER + "reload.js"
"""Paths that no application of ours sees: below the root path, as the application's own."""

CACHED = b"max-age=31536000, immutable"  # the script, whose address has its checksum

SERVED = (
    "The last good version still serves all other requests: those of scripts and programs, and forms that are sent."
)
NONE_SERVED = "There is no version yet that could be served: every other request is answered with 500."
NEXT_BY_ITSELF = "This page reloads itself when the code starts."
NEXT_BY_HAND = "Reload this page when the code is mended."


class _Failure(NamedTuple):
    state: str
    text: str
    served: str
    """What is served beside the error page."""


class ReloadPage:
    """One for each server, shared by all its worker threads and generations.

    `browser`: do pages load themselves again? Without it an application that is wrapped costs a request one test, as
    long as there is no error.
    """

    def __init__(self, *, browser: bool) -> None:
        self._browser = browser
        self._process = f"{time.time_ns():x}"  # after `execv` the process has the same number
        self._number = 0
        self._failures = 0
        self._failure: _Failure | None = None
        self._closed = False
        self._event_streams: set[_EventStream] = set()  # each worker adds and discards its own, in one step

    # On the supervisor's thread

    def failed(self, text: str) -> None:
        """The code does not start, for which `text` gives the reason: the error with the application's frames. Browsers
        that ask for a page get it, until `ready`."""
        self._failures += 1
        self._failure = _Failure(
            self._state(self._number, self._failures), text, SERVED if self._number else NONE_SERVED
        )
        self._wake_streams()

    def ready(self, number: int) -> None:
        """Generation `number` serves, the first one too. There is no error any more."""
        self._number = number  # first: a page that is asked for between the two gets the error once more
        self._failure = None
        self._wake_streams()

    def close(self) -> None:
        """The server ends. So do the event streams, which no drain has to wait for."""
        self._closed = True
        self._wake_streams()

    def _wake_streams(self) -> None:
        for stream in list(self._event_streams):
            with contextlib.suppress(RuntimeError):  # its loop has ended
                stream.loop.post(stream.wake)

    # Applications

    def wrap(self, application: Application, number: int | None = None) -> Application:
        """The application of generation `number`, which serves as before and, where a browser asks for a page, shows
        the error if there is one. Any thread may call it, for each worker's copy of the application if there are
        several. Without `number` a page counts as of the generation that is ready when it is asked for."""
        if self._browser:
            return self._with_script(application, number)

        def with_error_page(scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, object]:
            failure = self._failure
            if failure is not None and scope["type"] == "http" and asks_for_page(scope):
                return send_page(send, 500, _error_page(failure, b"", NEXT_BY_HAND))
            return application(scope, receive, send)

        return with_error_page

    def _with_script(self, application: Application, number: int | None) -> Application:
        def with_script(scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, object]:
            if scope["type"] != "http" or scope["method"] != "GET":
                return application(scope, receive, send)
            root: str = scope.get("root_path", "")
            path: str = scope["path"]
            if FOLDER in path:
                own = path.removeprefix(root).removeprefix(root)  # a proxy takes the root path away; a browser that
                if own == SCRIPT:  # comes without one asks with it, and the server adds it again
                    return send_content(send, 200, b"text/javascript; charset=utf-8", _read("reload_page.js"), CACHED)
                if own == STREAM:
                    return self._send_events(scope, receive, send)
            if not asks_for_page(scope):
                return application(scope, receive, send)
            failure = self._failure
            if failure is not None:
                page = _error_page(failure, _element(root, failure.state), NEXT_BY_ITSELF)
                return send_page(send, 500, page)
            state = self._state(self._number if number is None else number, 0)
            return call_with_script(application, scope, receive, send, _element(root, state))

        return with_script

    # Event streams

    def _state(self, number: int, failure: int) -> str:
        return f"{self._process} {number} {failure}"

    @property
    def _present_state(self) -> str:
        failure = self._failure
        return self._state(self._number, 0) if failure is None else failure.state

    async def _send_events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The event stream of one page (HTML, "Server-sent events"): the present state, at once and whenever it
        changes. It ends when the page has gone, the worker ends its requests, or the server ends."""
        fields = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        draining = scope.get("extensions", {}).get("pounce.draining")  # another worker is to have the stream
        stream = _EventStream(receive, await _ThisLoop())
        self._event_streams.add(stream)
        sent = ""
        try:
            while True:
                state = self._present_state  # after `add`: whoever changes it first wakes who is there
                if state != sent:
                    await send(_event(f"data: {state}\n\n"))
                    sent = state
                if self._closed or (draining is not None and draining.is_set()):
                    break
                message = await stream
                if message is not None and message["type"] == "http.disconnect":
                    break
        finally:
            self._event_streams.discard(stream)
        with contextlib.suppress(ClientDisconnected):
            await send({"type": "http.response.body", "body": b""})


def _event(text: str) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}


class _ThisLoop(Wait):
    """Gives the loop that drives the coroutine that awaits it, at once."""

    __slots__ = ()

    def park(self, task: Waiter) -> None:
        super().park(task)
        self.wake(task.loop)


class _EventStream:
    """Awaiting it gives the next message that the stream's request receives, or None when `wake` was called before.

    A coroutine can wait for one thing. This one waits for what `receive` waits for, and `wake` makes that come true;
    then `receive` is closed where it waits, and nothing that came meanwhile is taken.

    Owner: the worker's thread.
    """

    def __init__(self, receive: Receive, loop: TimerLoop) -> None:
        self.loop = loop
        self._receive = receive
        self._woken = False
        self._waits_for: Any = None  # a wait, or a future of asyncio's

    def wake(self) -> None:
        self._woken = True
        waits_for = self._waits_for
        if isinstance(waits_for, Wait):
            waits_for.wake()
        elif waits_for is not None and not waits_for.done():
            waits_for.set_result(None)

    def __await__(self) -> Generator[Any, Any, Message | None]:
        receiving = self._receive()
        try:
            while not self._woken:
                self._waits_for = receiving.send(None)
                yield self._waits_for
        except StopIteration as end:
            message: Message = end.value
            return message
        finally:
            self._waits_for = None
            receiving.close()
        self._woken = False
        return None


# Files


@functools.cache
def _read(name: str) -> bytes:
    return Path(__file__).with_name(name).read_bytes()


def _element(root: str, state: str) -> bytes:
    """The script element of a page. `root` is the root path of the request."""
    address = f"{quote(root)}{SCRIPT}?{zlib.crc32(_read('reload_page.js')):x}"
    return f'<script async src="{address}" data-state="{state}"></script>\n'.encode()


def _error_page(failure: _Failure, script: bytes, then: str) -> bytes:
    lines = failure.text.strip().splitlines() or ["no message"]
    values = {"error": lines[-1], "text": "\n".join(lines), "served": failure.served, "next": then}
    escaped = {name: html.escape(value).encode("utf-8", "backslashreplace") for name, value in values.items()}
    escaped["script"] = script
    return re.sub(rb"{{ (\w+) }}", lambda place: escaped[place[1].decode()], _read("reload_page.html"))
