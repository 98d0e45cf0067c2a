"""Pages: which requests ask for one, and how a response gets a script element while it is being sent.

A page is what a browser shows in a tab or a frame. What a script asks for (`fetch`, XMLHttpRequest, htmx, Turbo) is
data to that script, also if it is HTML: such a fragment has no script element of ours, and needs none, because the page
around it has one.

Nothing is held back for the script: each message of the response leaves when it comes. In a response of one piece the
element is behind the last byte, where a browser takes it for the end of the body, whatever the content is. A streamed
response has it at the end of its head element if that is in the first piece, because a stream may last.

Must never change a response that it cannot change rightly: one of another type or status, encoded, or in UTF-16.
Owner: the thread of the worker that has the request.
"""

import contextlib
import os
import re

from pounce.app.types import Application, Message, Receive, Scope, Send
from pounce.asgi.pathsend import open_file
from pounce.errors import ClientDisconnected
from pounce.protocols.events import ApplicationError
from pounce.protocols.fields import Field

OF_SCRIPTS = (b"hx-request", b"x-requested-with")  # fields that libraries for such requests add
NOT_PASSED_ON = (b"accept-encoding", b"if-none-match", b"if-modified-since")
"""Fields of a request for a page that the application does not see: its answer could not be changed if it were encoded,
and a 304 would show a page that the browser has kept from before, with the script of then or none."""

PLAIN_PAGE = b'<!doctype html>\n<meta name="color-scheme" content="light dark">\n<pre style="white-space: pre-wrap">'
FAILURE = b"Internal Server Error. The log has the traceback.\n"
WITHOUT_PAGE = (204, 205, 206, 304)  # status codes of responses without content, or with a part of one
NOT_ASCII = (b"utf-16", b"utf-32", b"utf-7", b"ucs-2")  # charsets in which the element's bytes mean something else
POLICY = b"content-security-policy"

_HEAD_END = re.compile(rb"</head\s*>", re.IGNORECASE)
_TEXTS = ((b"<!--", b"-->"), (b"<script", b"</script"), (b"<style", b"</style"), (b"<title", b"</title"))
"""Begin and end of what is not read as HTML: a `</head>` in it is not the end of the head."""
_NONCE = re.compile(rb"'nonce-([A-Za-z0-9+/_=-]+)'")  # Content Security Policy, section 2.3.1


def asks_for_page(scope: Scope) -> bool:
    """Will the response be shown as a page? Of a request over HTTP."""
    if scope["method"] != "GET":  # to load the answer to a POST again would send the form again
        return False
    # Sec-Fetch-Mode (W3C, Fetch Metadata) tells for certain, also of what a service worker passes on, whose
    # Sec-Fetch-Dest is empty. But browsers send it to HTTPS and to their own machine only.
    html = False
    for name, value in scope["headers"]:
        if name == b"accept":
            html = html or b"text/html" in value.lower()
        elif (name == b"sec-fetch-mode" and value != b"navigate") or name in OF_SCRIPTS:
            return False
    return html


async def call_with_script(
    application: Application, scope: Scope, receive: Receive, send: Send, script: bytes
) -> object:
    """Calls the application for a page. Its response gets the element `script`. If the application fails, what it
    has sent ends with the element, or a page with the element is sent in its place. Its exception is raised."""
    fields = [field for field in scope["headers"] if field[0] not in NOT_PASSED_ON]
    response = _Response(send, script)
    try:
        return await application({**scope, "headers": fields}, receive, response.send)
    except Exception:
        with contextlib.suppress(ClientDisconnected, ApplicationError):
            if response.started:
                await response.cut_off()
            else:
                await send_page(send, 500, PLAIN_PAGE + FAILURE + b"</pre>\n" + script)
        raise


async def send_page(send: Send, status: int, page: bytes) -> None:
    """Sends a page of the server's own, in UTF-8, which is in no cache."""
    await send_content(send, status, b"text/html; charset=utf-8", page)


async def send_content(send: Send, status: int, kind: bytes, content: bytes, caching: bytes = b"no-store") -> None:
    fields = [(b"content-type", kind), (b"content-length", b"%d" % len(content)), (b"cache-control", caching)]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": content})


class _Response:
    """The messages of one response, sent on with the script element among them."""

    def __init__(self, send: Send, script: bytes) -> None:
        self.started = False
        self._send = send
        self._script = script  # empty once it is sent, and in a response that gets none
        self._as_html = False  # is it plain text, which is sent as HTML?
        self._has_content = False  # has some been sent?
        self._has_length = False  # has the length been sent?
        self._is_open = False  # has a page begun, and not ended?

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and not self.started:
            await self._send(self._start(message))
            self.started = True
            return
        if self.started and self._script:
            if kind == "http.response.body":
                message = self._with_script(message)
            elif kind == "http.response.pathsend":
                fd, _ = open_file(message["path"])
                with os.fdopen(fd, "rb") as file:
                    message = self._with_script({"type": "http.response.body", "body": file.read()})
        await self._send(message)
        self._has_content = self._has_content or bool(message.get("body"))
        self._is_open = self._is_open and bool(message.get("more_body"))

    async def cut_off(self) -> None:
        """Ends a page in the middle, with the script: a connection that is reset would take it along. A page of which
        nothing has been sent is replaced by the server, and one of a certain length cannot end before."""
        if self._is_open and self._has_content and not self._has_length:
            await self._send({"type": "http.response.body", "body": self._script})

    def _start(self, message: Message) -> Message:
        changed = None
        try:
            message = {**message, "headers": list(message.get("headers", ()))}  # an iterator gives them once
            fields = [(bytes(name), bytes(value)) for name, value in message["headers"]]
            changed = self._changed(int(message["status"]), fields)
        except Exception:  # the server says what is wrong with it
            pass
        if changed is None:
            self._script = b""
            return message
        return {**message, "headers": changed}

    def _changed(self, status: int, fields: list[Field]) -> list[Field] | None:
        """The fields of a response with the script; None if it can have none."""
        if status in WITHOUT_PAGE or status < 200:
            return None
        values = {name.lower(): value.strip().lower() for name, value in fields}
        kind, _, parameters = values.get(b"content-type", b"").partition(b";")
        # A framework that answers for a handler that has failed does it in plain text. That page has to be loaded again
        # when the mistake is mended.
        self._as_html = status >= 500 and kind.strip() == b"text/plain"
        if not (kind.strip() == b"text/html" or self._as_html) or any(name in parameters for name in NOT_ASCII):
            return None
        if values.get(b"content-encoding", b"identity") != b"identity":
            return None
        if values.get(b"content-disposition", b"").startswith(b"attachment"):
            return None
        nonce = _NONCE.search(b" ".join(value for name, value in fields if name.lower() == POLICY))
        if nonce is not None:
            self._script = self._script.replace(b"<script ", b'<script nonce="%s" ' % nonce[1])
        changed = []
        for name, value in fields:
            if name.lower() == b"content-length":
                if self._as_html:
                    continue
                self._has_length = True
                value = b"%d" % (int(value) + len(self._script))
            elif name.lower() == b"content-type" and self._as_html:
                value = b"text/html" + value.strip()[len(b"text/plain") :]
            changed.append((name, value))
        self._is_open = True
        return changed

    def _with_script(self, message: Message) -> Message:
        """The next piece of the content, with the script in it if this is the place."""
        body, more = message.get("body", b""), message.get("more_body", False)
        if not isinstance(body, bytes | bytearray | memoryview):
            return message  # the server says what is wrong with it
        body = bytes(body)
        first = not self._has_content
        if self._as_html:
            body = body.replace(b"&", b"&amp;").replace(b"<", b"&lt;")
            if first:
                body = PLAIN_PAGE + body
            if not more:
                body += b"</pre>\n"
        if not more:
            place: int | None = len(body)
        else:
            place = _end_of_head(body) if first and not self._as_html else None
        if place is not None:
            body = body[:place] + self._script + body[place:]
            self._script = b""
        return {**message, "body": body}


def _end_of_head(piece: bytes) -> int | None:
    """Where the head element of an HTML document ends, if that can be seen in its first piece for certain."""
    found = _HEAD_END.search(piece)
    if found is None:
        return None
    place = found.start()
    before = piece[:place].lower()
    return None if any(before.rfind(begin) > before.rfind(end) for begin, end in _TEXTS) else place
