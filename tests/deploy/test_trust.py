"""The options that say whose word is taken and for what, each with a proxy that was set up for it."""

import contextlib

import pytest

from tests.deploy.clients import ADDRESS, seen
from tests.deploy.proxies import apache, nginx
from tests.deploy.test_proxies import FORGED, assert_genuine, host
from tests.support.server import Running


@pytest.fixture
def behind(place):
    """Starts Pounce with these options behind a proxy with these changes; the proxy's port."""
    with contextlib.ExitStack() as stack:

        def start(proxy, *changes, options=()):
            server = stack.enter_context(Running("mirror:app", "--port", "0", *options))
            return stack.enter_context(proxy(place, "{}:{}".format(*server.address), *changes))

        yield start


SETS_FORWARDED = ('Forwarded "";', 'Forwarded "for=$remote_addr;proto=$scheme;host=$host";')
PASSES_X_FORWARDED = [
    (f"    proxy_set_header X-Forwarded-{name};\n", "")
    for name in ("For $remote_addr", "Proto $scheme", 'Host ""', "Prefix $prefix")
]


def test_forwarded_header_forwarded_takes_that_family_and_not_the_other(behind):
    options = ("--forwarded-header", "forwarded", "--forwarded-host")
    port = behind(nginx, SETS_FORWARDED, *PASSES_X_FORWARDED, options=options)
    assert_genuine(seen(port, "/", *FORGED), "https")


def test_forwarded_header_x_forwarded_ignores_the_other_family(behind):
    port = behind(nginx, ('    proxy_set_header Forwarded "";\n', ""), options=("--forwarded-host",))
    assert_genuine(seen(port, "/", *FORGED), "https")


def test_forwarded_host_gives_back_the_host_that_the_proxy_has_replaced(behind):
    change = ("ProxyPreserveHost On", "ProxyPreserveHost Off")
    assert host(seen(behind(apache, change))) != ["example.com"]
    scope = seen(behind(apache, change, options=("--forwarded-host",)), "/", *FORGED)
    assert_genuine(scope, "https")
    assert scope["server"][1] != 80


@pytest.mark.parametrize(
    "options",
    [("--no-proxy-headers",), ("--forwarded-allow-ips", "192.0.2.0/24,unix"), ("--forwarded-header", "off")],
    ids=["no-proxy-headers", "forwarded-allow-ips", "forwarded-header-off"],
)
def test_a_proxy_that_is_not_trusted_is_the_client(behind, options):
    scope = seen(behind(nginx, options=options))
    assert scope["client"][0] == "127.0.0.1"
    assert scope["scheme"] == "http"


def test_forwarded_allow_ips_everybody_takes_the_first_address(behind):
    change = ("X-Forwarded-For $remote_addr", "X-Forwarded-For $proxy_add_x_forwarded_for")
    port = behind(nginx, change, options=("--forwarded-allow-ips", "*"))
    assert seen(port)["client"][0] == ADDRESS
    assert seen(port, "/", ("X-Forwarded-For", "192.0.2.1"))["client"][0] == "192.0.2.1"  # so anybody can be anyone
