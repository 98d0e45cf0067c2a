"""Pounce behind nginx, HAProxy, Apache httpd and Caddy, with the files and the commands of examples/deploy.

Each proxy is asked over TLS by a client at 127.0.0.9, and connects to Pounce from 127.0.0.1, or to a Unix socket.
"""

import json

import pytest

from tests.deploy.clients import ADDRESS, answered, seen, websocket

FORGED = (
    ("X-Forwarded-For", "192.0.2.1"),
    ("X-Forwarded-For", "192.0.2.2, 127.0.0.1"),
    ("X-Forwarded-Proto", "http"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Prefix", "/evil"),
    ("Forwarded", "for=192.0.2.3;proto=http;host=evil.example"),
    ("X-Real-IP", "192.0.2.4"),
    ("X-Request-ID", "forged"),
    ("X_Forwarded_For", "192.0.2.5"),
    ("X_Forwarded_Proto", "http"),
    ("X_Forwarded_Prefix", "/evil"),
)
"""What a client sends that wants to be somebody else."""


def host(scope):
    return [value for name, value in scope["fields"] if name == "host"]


def assert_genuine(scope, scheme):
    assert scope["client"][0] == ADDRESS
    assert (scope["scheme"], scope["root_path"], host(scope)) == (scheme, "", ["example.com"])


def test_client_scheme_and_host_are_those_the_client_used(edge):
    scope = seen(edge.port, "/where")
    assert_genuine(scope, "https")
    assert scope["path"] == "/where"


def test_forged_fields_change_nothing(edge):
    for _ in range(2):  # over one connection of the proxy's, where it keeps it
        assert_genuine(seen(edge.port, "/", *FORGED), "https")


def test_forged_fields_with_underscores_do_not_reach_the_application(edge):
    scope = seen(edge.port, "/", *FORGED)
    assert not [name for name, _ in scope["fields"] if name.startswith("x_")]


def test_a_websocket_has_the_client_the_scheme_wss_and_messages_both_ways(edge):
    with websocket(edge.port, "/talk", *(f"{name}: {value}" for name, value in FORGED)) as talk:
        assert_genuine(json.loads(talk.receive()), "wss")
        for text in ("one", "two" * 50_000):
            talk.send(text)
            assert talk.receive() == text


def test_the_access_log_has_the_client(edge):
    seen(edge.port, "/logged")
    assert f" {ADDRESS}:" in edge.server.wait_for('"GET /logged HTTP/1.1" 200')


def test_request_id_is_not_the_clients_and_the_same_in_scope_and_response(edge):
    with answered(edge.port, "/", *FORGED) as response:
        scope = json.loads(response.read())
    (identity,) = response.headers.get_all("x-request-id")
    assert scope["request_id"]["id"] == identity != "forged"
    if edge.name in ("nginx", "caddy"):  # which make one
        assert [value for name, value in scope["fields"] if name == "x-request-id"] == [identity]


def test_an_event_arrives_before_the_next_one_is_sent(edge):
    edge.gate.unlink(missing_ok=True)
    with answered(edge.port, "/events") as response:
        assert response.readline() == b"data: one\n"
        edge.gate.touch()
        assert response.read() == b"\ndata: two\n\n"


def test_content_reaches_the_application_whole(edge):
    with answered(edge.port, "/", method="POST", content=bytes(3_000_000)) as response:
        assert response.headers["x-size"] == "3000000"
        response.read()


def test_below_a_path_the_application_sees_its_root_path(edge):
    if edge.name == "haproxy":
        pytest.skip("the PROXY protocol knows no paths")
    scopes = [seen(edge.port, "/shop/items", *FORGED)]
    with websocket(edge.port, "/shop/items") as talk:
        scopes.append(json.loads(talk.receive()))
    for scope in scopes:
        assert (scope["root_path"], scope["path"], scope["client"][0]) == ("/shop", "/shop/items", ADDRESS)


def test_health_is_asked_by_the_proxy_or_through_it(edge):
    with answered(edge.port, "/healthz") as response:
        assert (response.status, response.read().strip()) == (200, b"ok")
