"""Two proxies in front of Pounce: the outer one meets the client, the inner one passes on what the outer one says.

docs/deployment.md, "Two proxies", has the changes to the files that these tests make.
"""

import contextlib
import json
from pathlib import Path

import pytest

from tests.deploy.clients import seen, websocket
from tests.deploy.examples import arguments
from tests.deploy.proxies import apache, caddy, haproxy, nginx
from tests.deploy.test_proxies import FORGED, assert_genuine
from tests.support.server import Running

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"

NGINX_INSIDE = (
    ("listen 443 ssl;", "listen 443;"),
    ("X-Forwarded-For $remote_addr;", "X-Forwarded-For $proxy_add_x_forwarded_for;"),
    ("X-Forwarded-Proto $scheme;", "X-Forwarded-Proto $http_x_forwarded_proto;"),
    ("X-Forwarded-Prefix $prefix;", "X-Forwarded-Prefix $http_x_forwarded_prefix;"),
)
NGINX_BEHIND_PROXY_PROTOCOL = (
    ("listen 443 ssl;", "listen 443 proxy_protocol;"),
    ("X-Forwarded-For $remote_addr;", "X-Forwarded-For $proxy_protocol_addr;"),
    ("X-Forwarded-Proto $scheme;", "X-Forwarded-Proto $http_x_forwarded_proto;"),
)
APACHE_INSIDE = (
    ("    SSLEngine on\n", ""),
    ("    RequestHeader unset X-Forwarded-For\n", ""),
    ("    RequestHeader unset X-Forwarded-Prefix\n", ""),
    ("    RequestHeader set X-Forwarded-Proto expr=%{REQUEST_SCHEME}\n", ""),
)
CADDY_INSIDE = (
    ("\nexample.com {", "\nhttp://example.com {"),
    ("\theader_up X-Forwarded-Prefix {args.0}\n", "\ttrusted_proxies 127.0.0.1/32\n"),
)
HAPROXY_INSIDE = (
    (":443 ssl crt /etc/haproxy/example.com.pem alpn h2,http/1.1", ":443"),
    ("    http-request redirect scheme https unless { ssl_fc }\n", ""),
    ("    http-request del-header X-Forwarded- -m beg\n", ""),
)
LAST = "    http-request del-header Forwarded\n"
SETS_THE_SCHEME = "    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n"
NO_PROTOCOL = (" send-proxy-v2 proxy-v2-options ssl,unique-id,authority", "")
HAPROXY_SETS_FIELDS = ((LAST, f"{LAST}    option forwardfor\n{SETS_THE_SCHEME}"), NO_PROTOCOL)
HAPROXY_ADDS_A_LINE = ((LAST, f"{LAST}    option forwardfor\n"), NO_PROTOCOL)
HAPROXY_SETS_THE_SCHEME = ((LAST, LAST + SETS_THE_SCHEME),)

FIELDS, PROTOCOL = "nginx.conf", "haproxy.cfg"
"""Whose command Pounce is started with: the inner proxy sets fields, or speaks the PROXY protocol."""

CHAINS = {
    "nginx-apache": (FIELDS, (nginx,), (apache, *APACHE_INSIDE)),
    "nginx-caddy": (FIELDS, (nginx,), (caddy, *CADDY_INSIDE)),
    "caddy-nginx": (FIELDS, (caddy,), (nginx, *NGINX_INSIDE)),
    "haproxy-nginx": (FIELDS, (haproxy, *HAPROXY_SETS_FIELDS), (nginx, *NGINX_INSIDE)),
    "haproxy-nginx-proxy-protocol": (
        FIELDS,
        (haproxy, *HAPROXY_SETS_THE_SCHEME),
        (nginx, *NGINX_BEHIND_PROXY_PROTOCOL),
    ),
    "apache-haproxy-by-protocol": (PROTOCOL, (apache,), (haproxy, *HAPROXY_INSIDE)),
    # HAProxy adds a second X-Forwarded-For line, where others make one list.
    "nginx-haproxy-repeated-lines": (FIELDS, (nginx,), (haproxy, *HAPROXY_INSIDE, *HAPROXY_ADDS_A_LINE)),
}


@pytest.fixture(scope="module", params=CHAINS)
def port(request, place):
    """Of the outer proxy."""
    command, outer, inner = CHAINS[request.param]
    with Running(*arguments(command)) as server, contextlib.ExitStack() as stack:
        port = server.address[1]
        for proxy, *changes in (inner, outer):
            port = stack.enter_context(proxy(place, f"127.0.0.1:{port}", *changes))
        yield port


def test_client_scheme_and_host_are_those_the_outer_proxy_has_seen(port):
    assert_genuine(seen(port), "https")


def test_forged_fields_change_nothing_in_a_chain(port):
    assert_genuine(seen(port, "/", *FORGED), "https")


def test_a_websocket_has_the_client_and_the_scheme_wss_in_a_chain(port):
    with websocket(port, "/talk", *(f"{name}: {value}" for name, value in FORGED)) as talk:
        assert_genuine(json.loads(talk.receive()), "wss")
        talk.send("one")
        assert talk.receive() == "one"
