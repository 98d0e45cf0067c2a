"""Pages with a script element in them: which responses get one, where it is, and what else of them changes."""

import httpx
import pytest

from pounce.asgi.reload_page import ReloadPage
from pounce.testing import TestServer
from tests.asgi.test_reload_page import HTML, PAGE, page_app, request, state_in
from tests.support.answers import content_of, read_answers, status_of
from tests.support.applications import answering, body, start
from tests.support.harness import Rig
from tests.support.requests import GET
from tests.support.requirements import library


def ask(app, data=None, **options):
    """The answer to the request for a page, or to `data`, of a server whose pages load themselves again."""
    rig = Rig(ReloadPage(browser=True).wrap(app), **options)
    (answer,) = read_answers(rig.connect().ask(data or request()))
    assert answer.whole
    return answer


def without_script(content):
    before, element, rest = content.partition(b"<script async ")
    assert element
    state_in(content)
    return before + rest.partition(b"</script>\n")[2]


def test_a_page_of_one_piece_has_the_script_behind_it_and_its_length_corrected():
    answer = ask(answering(start(200, HTML, (b"content-length", b"%d" % len(PAGE)), (b"x", b"y")), body(PAGE)))
    assert answer.content.startswith(PAGE + b"<script async ")
    assert without_script(answer.content) == PAGE
    assert int(answer.get(b"content-length")) == len(answer.content)
    assert answer.get(b"x") == b"y"


def test_names_of_fields_are_found_in_any_case():
    app = answering(start(200, (b"Content-Type", b"text/html"), (b"Content-Length", b"%d" % len(PAGE))), body(PAGE))
    answer = Rig(ReloadPage(browser=True).wrap(app)).connect().ask(request())
    assert without_script(content_of(answer)) == PAGE
    assert b"Content-Length: %d\r\n" % len(content_of(answer)) in answer


@pytest.mark.parametrize(
    "messages",
    [
        [body(PAGE)],
        [body(PAGE, more=True), body()],
        [body(more=True), body(PAGE[:9], more=True), body(PAGE[9:])],
        [body(PAGE[i : i + 1], more=True) for i in range(len(PAGE))] + [body()],
        [{"type": "http.response.body", "body": memoryview(PAGE)}],
    ],
)
def test_a_streamed_page_has_the_script_and_nothing_else_more(messages):
    answer = ask(answering(start(200, HTML), *messages))
    assert without_script(answer.content) == PAGE


def test_pieces_of_a_stream_leave_when_they_come_with_the_script_in_the_first_at_the_end_of_the_head():
    async def app(scope, receive, send):
        await send(start(200, HTML))
        await send(body(b"<!doctype html><head><title>a</title></HEAD ><p>1", more=True))
        await receive()
        await receive()

    client = Rig(ReloadPage(browser=True).wrap(app)).connect()
    came = content_of(client.ask(request()))
    assert b"</title><script async src=" in came
    assert b"</script>\n</HEAD ><p>1" in came


@pytest.mark.parametrize(
    "begin",
    [
        b"<head><!-- </head> ",
        b"<head><script>x = '</head>' ",
        b"<head><style>/* </head> */ ",
        b"<head><title></head> ",
    ],
)
def test_what_is_no_end_of_the_head_is_not_taken_for_it(begin):
    answer = ask(answering(start(200, HTML), body(begin, more=True), body(b"rest")))
    assert answer.content.startswith(begin + b"rest<script async ")


def test_an_empty_page_and_one_without_a_document_around_it_have_the_script():
    assert without_script(ask(answering(start(200, HTML), body())).content) == b""
    assert without_script(ask(answering(start(404, HTML), body(b"<b>nothing"))).content) == b"<b>nothing"


@pytest.mark.parametrize("kind", [b"text/html", b"Text/HTML ; charset=ISO-8859-1", b"text/html;charset=shift_jis"])
def test_html_has_the_script_in_every_charset_that_begins_as_ascii(kind):
    assert b"<script async " in ask(answering(start(200, (b"content-type", kind)), body(PAGE))).content


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (200, [(b"content-type", b"text/html; charset=UTF-16")]),
        (200, [(b"content-type", b"application/xhtml+xml")]),
        (200, [(b"content-type", b"text/plain")]),
        (200, [(b"content-type", b"application/json")]),
        (200, []),
        (200, [HTML, (b"content-encoding", b"gzip")]),
        (200, [HTML, (b"content-disposition", b'Attachment; filename="a.html"')]),
        (206, [HTML, (b"content-range", b"bytes 0-9/100")]),
        (500, [(b"content-type", b"application/json")]),
    ],
)
def test_other_responses_are_left_alone(status, fields):
    sent = [*fields, (b"content-length", b"%d" % len(PAGE)), (b"etag", b'"a"')]
    answer = ask(answering(start(status, *sent), body(PAGE)))
    assert answer.content == PAGE
    assert [field for field in answer.fields if field in sent] == sent


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_response_without_content_is_left_alone(status):
    (answer,) = read_answers(Rig(ReloadPage(browser=True).wrap(answering(start(status, HTML), body()))).connect().ask(
        request()))  # fmt: skip
    assert (answer.status, answer.content) == (status, b"")


def test_head_has_the_length_of_the_application():
    app = answering(start(200, HTML, (b"content-length", b"7")), body())
    assert b"content-length: 7\r\n" in Rig(ReloadPage(browser=True).wrap(app)).connect().ask(request(method="HEAD"))


def test_a_fragment_that_htmx_or_fetch_asks_for_is_left_alone():
    for fields in ({"hx_request": "true"}, {"sec_fetch_mode": "cors"}, {"x_requested_with": "XMLHttpRequest"}):
        assert ask(page_app, request(**fields)).content == PAGE
    assert ask(page_app, GET).content == PAGE  # of no browser


def test_the_application_is_asked_for_a_whole_page_that_is_not_encoded():
    """A GZipMiddleware would hide the place of the script, and a 304 shows a page of before."""
    seen = []

    async def app(scope, receive, send):
        seen.append({name for name, _ in scope["headers"]})
        await page_app(scope, receive, send)

    fields = {
        "accept_encoding": "gzip, br",
        "if_none_match": '"a"',
        "if_modified_since": "Sat, 28 Nov 2026 08:00:00 GMT",
    }
    ask(app, request(cookie="a=b", **fields))
    ask(app, request(accept="*/*", **fields))
    assert seen == [
        {b"host", b"accept", b"cookie"},
        {b"host", b"accept", b"accept-encoding", b"if-none-match", b"if-modified-since"},
    ]


def test_a_policy_with_a_nonce_lets_the_script_pass_and_one_without_is_not_changed():
    policy = (b"content-security-policy", b"default-src 'self'; script-src 'nonce-R4nd0m+/=' 'strict-dynamic'")
    answer = ask(answering(start(200, HTML, policy, (b"content-length", b"%d" % len(PAGE))), body(PAGE)))
    assert b'<script nonce="R4nd0m+/=" async src="/__pounce__/reload.js?' in answer.content
    assert answer.get(b"content-security-policy") == policy[1]
    answer = ask(answering(start(200, HTML, (b"content-security-policy", b"default-src 'self'")), body(PAGE)))
    assert without_script(answer.content) == PAGE


def test_pathsend_of_a_page_has_the_script_and_of_a_picture_is_as_it_was(tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(PAGE)
    message = {"type": "http.response.pathsend", "path": str(path)}
    answer = ask(answering(start(200, HTML, (b"content-length", b"%d" % len(PAGE))), message))
    assert without_script(answer.content) == PAGE
    assert ask(answering(start(200, (b"content-type", b"image/png")), message)).content == PAGE
    message["path"] += "x"
    assert ask(answering(start(200, HTML), message)).status == 500


# Applications that fail


def test_an_application_that_raises_has_a_500_page_with_the_script_and_its_traceback_in_the_log(caplog):
    async def app(scope, receive, send):
        raise ValueError("so it is")

    answer = ask(app)
    assert answer.status == 500
    assert answer.get(b"content-type") == b"text/html; charset=utf-8"
    assert b"Internal Server Error" in without_script(answer.content)
    assert "ValueError: so it is" in caplog.text
    assert caplog.text.count("Exception in ASGI application") == 1
    assert ask(app, GET).content == b"Internal Server Error"


def test_an_application_that_raises_where_it_is_called_has_the_same_page(caplog):
    def app(scope, receive, send):
        raise ValueError("so it is")

    assert b"<script async " in ask(app).content
    assert "ValueError: so it is" in caplog.text


@pytest.mark.parametrize("fields", [[], [(b"content-length", b"1000")]])
def test_a_page_of_no_certain_length_ends_with_the_script_where_the_application_raises(fields, caplog):
    async def app(scope, receive, send):
        await send(start(200, HTML, *fields))
        await send(body(PAGE, more=True))
        raise ValueError("so it is")

    for data in (request(), GET):
        (answer,) = read_answers(Rig(ReloadPage(browser=True).wrap(app)).connect().ask(data))
        script = data != GET and not fields
        assert answer.whole == script
        assert (without_script(answer.content) if script else answer.content) == PAGE
        assert caplog.text.count("ValueError: so it is") == 1
        caplog.clear()


@pytest.mark.parametrize(
    "messages", [[start(200, HTML), body(PAGE)], [start(204)], [start(200), body(PAGE, more=True)]]
)
def test_an_application_that_raises_behind_its_response_or_in_one_of_another_kind_adds_nothing(messages):
    async def app(scope, receive, send):
        await answering(*messages)(scope, receive, send)
        raise ValueError("so it is")

    (plain,) = read_answers(Rig(app).connect().ask(request()))
    (answer,) = read_answers(Rig(ReloadPage(browser=True).wrap(app)).connect().ask(request()))
    assert answer.status == plain.status
    assert (without_script(answer.content) if HTML in answer.fields else answer.content) == plain.content


def test_a_frameworks_500_in_plain_text_is_a_page_that_shows_the_same_text():
    text = b"1 < 2 & </pre>"
    fields = (b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))
    for pieces in ([body(text)], [body(text[:3], more=True), body(text[3:], more=True), body()]):
        answer = ask(answering(start(500, *fields), *pieces))
        assert answer.status == 500
        assert answer.get(b"content-type") == b"text/html; charset=utf-8"
        content = without_script(answer.content)
        assert content.endswith(b">1 &lt; 2 &amp; &lt;/pre></pre>\n")
        assert content.startswith(b"<!doctype html>")
    assert ask(answering(start(500, *fields), body(text)), GET).content == text
    assert ask(answering(start(400, *fields), body(text))).content == text


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.start", "status": "x", "headers": [HTML]}],
        [start(200, HTML, ("x", "y")), body(PAGE)],
        [{"type": "http.response.start", "status": 200, "headers": 5}],
        [start(200, HTML), {"type": "http.response.body", "body": "text"}],
        [body(PAGE)],
        [start(200, HTML), start(200, HTML)],
        [start(200, HTML), {"type": "http.response.pathsend", "path": 7}],
        [start(200, HTML, (b"content-length", b"3")), body(PAGE)],
        [{}],
    ],
)
def test_wrong_messages_are_the_same_error_with_and_without_the_script(messages, caplog):
    assert status_of(Rig(answering(*messages)).connect().ask(request())) == 500
    plain = caplog.text.splitlines()[-1]
    caplog.clear()
    assert status_of(Rig(ReloadPage(browser=True).wrap(answering(*messages))).connect().ask(request())) == 500
    assert caplog.text.splitlines()[-1] == plain


def test_what_comes_behind_the_end_of_a_page_is_ignored_as_always(caplog):
    answer = ask(answering(start(200, HTML), body(PAGE), body(PAGE)))
    assert without_script(answer.content) == PAGE
    assert "it is ignored" in caplog.text


def test_a_page_over_http_1_0_ends_with_the_connection():
    data = Rig(ReloadPage(browser=True).wrap(answering(start(200, HTML), body(PAGE, more=True), body()))).connect().ask(
        request().replace(b"HTTP/1.1", b"HTTP/1.0"))  # fmt: skip
    assert without_script(content_of(data)) == PAGE


# Frameworks


def test_starlettes_static_page_behind_its_gzip_and_its_500_have_the_script(tmp_path, caplog):
    library("starlette")
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.gzip import GZipMiddleware
    from starlette.responses import HTMLResponse, StreamingResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    page = b"<!doctype html><html><head><title>a</title></head><body>" + b"<p>hello" * 500 + b"</body></html>"
    (tmp_path / "index.html").write_bytes(page)

    async def html(_):
        return HTMLResponse(page)

    async def stream(_):
        return StreamingResponse((page[i : i + 100] for i in range(0, len(page), 100)), media_type="text/html")

    async def fails(_):
        raise ValueError("so it is")

    app = Starlette(
        routes=[
            *(Route(f"/{view.__name__}", view) for view in (html, stream, fails)),
            Mount("/", StaticFiles(directory=tmp_path, html=True)),
        ],
        middleware=[Middleware(GZipMiddleware)],
    )
    with TestServer(ReloadPage(browser=True).wrap(app)) as server:
        ask = {"accept": "text/html", "accept-encoding": "gzip"}
        for path in ("/", "/html", "/stream"):
            for fields in ({}, {"if-none-match": httpx.get(server.url + path).headers.get("etag", "")}):
                answer = httpx.get(server.url + path, headers={**ask, **fields})
                assert answer.status_code == 200
                assert "content-encoding" not in answer.headers
                assert without_script(answer.content) == page
        for fields in ({"accept": "*/*", "accept-encoding": "gzip"}, {**ask, "sec-fetch-mode": "cors"}):
            answer = httpx.get(server.url + "/html", headers=fields)
            assert answer.headers["content-encoding"] == "gzip"
            assert answer.content == page
        answer = httpx.get(server.url + "/fails", headers=ask)
        assert answer.status_code == 500
        assert b"Internal Server Error</pre>" in without_script(answer.content)
    assert "ValueError: so it is" in caplog.text
