"""The scope of a request: what the ASGI specification asks for, and what uvicorn adds."""

from unittest.mock import ANY

from tests.support.applications import Recorder, hello
from tests.support.harness import Rig
from tests.support.requests import GET


def test_scope_of_a_request_has_the_specifications_keys_and_uvicorns():
    app = Recorder()
    Rig(app).connect().send(b"GET /a%20b%2Fc?x=%20 HTTP/1.1\r\nHost: a\r\nX-Y: Z\r\n\r\n")
    assert app.scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("192.0.2.2", 80),
        "client": ("192.0.2.1", 4711),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/a b/c",
        "raw_path": b"/a%20b%2Fc",
        "query_string": b"x=%20",
        "headers": [(b"host", b"a"), (b"x-y", b"Z")],
        "state": {},
        "extensions": {
            "http.response.trailers": {},
            "http.response.early_hint": {},
            "pounce.draining": ANY,
        },
    }


def test_scope_with_root_path_prefixes_path_and_raw_path_as_with_uvicorn():
    app = Recorder()
    Rig(app, root_path="/api").connect().send(b"GET /%C3%A9 HTTP/1.1\r\nHost: a\r\n\r\n")
    scope = app.scope
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api", "/api/é", b"/api/%C3%A9")


def test_scope_of_http_1_0_offers_only_what_needs_no_message():
    app = Recorder()
    Rig(app).connect().send(b"GET / HTTP/1.0\r\n\r\n")
    assert (app.scope["http_version"], app.scope["headers"]) == ("1.0", [])
    assert app.scope["extensions"] == {"pounce.draining": ANY}


def test_scope_state_is_a_shallow_copy_of_the_lifespans_for_every_request():
    states, shared = [], []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["list"] = shared
            await send({"type": "lifespan.startup.complete"})
            return
        states.append(scope["state"])
        scope["state"]["own"] = True
        await hello(scope, receive, send)

    client = Rig(app, lifespan="on").connect()
    client.ask(GET)
    client.ask(GET)
    assert states[0] is not states[1]
    assert states[0]["list"] is shared
    assert states[1] == {"list": shared, "own": True}
