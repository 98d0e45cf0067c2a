"""The warnings of a start: trust in everybody at a public address, and names, which no proxy has."""

import logging
import signal
from types import SimpleNamespace

import pytest

from pounce.config.config import Config
from pounce.supervisor.trust import warn_of_trust
from tests.support.server import APPS, Running

PUBLIC = "whoever can connect to"


def warnings(caplog, *addresses, **options):
    caplog.set_level(logging.WARNING, "pounce.error")
    warn_of_trust(Config("a:b", **options), [SimpleNamespace(address=address) for address in addresses])
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"])
def test_everybody_at_a_public_address_is_one_warning(host, caplog):
    (line,) = warnings(caplog, ("127.0.0.1", 1), (host, 8000), forwarded_allow_ips="*")
    name = f"[{host}]:8000" if ":" in host else f"{host}:8000"
    assert line.startswith(f"--forwarded-allow-ips *: whoever can connect to {name} can pass for any other client.")


@pytest.mark.parametrize(
    ("address", "options"),
    [
        (("127.0.0.1", 80), {"forwarded_allow_ips": "*"}),
        (("127.9.9.9", 80), {"forwarded_allow_ips": "*"}),
        (("::1", 80), {"forwarded_allow_ips": "*"}),
        (("::ffff:127.0.0.1", 80), {"forwarded_allow_ips": "*"}),
        (("/run/app.sock", None), {"forwarded_allow_ips": "*"}),
        (("0.0.0.0", 80), {}),
        (("0.0.0.0", 80), {"forwarded_allow_ips": "10.0.0.0/8"}),
        (("0.0.0.0", 80), {"forwarded_allow_ips": "*", "proxy_headers": False}),
        (("0.0.0.0", 80), {"forwarded_allow_ips": "*", "forwarded_header": "off"}),
        (("0.0.0.0", 80), {"proxy_protocol_allow_ips": "*"}),
    ],
)
def test_trust_that_no_stranger_gets_is_no_warning(address, options, caplog):
    assert warnings(caplog, address, **options) == []


def test_everybody_may_send_the_proxy_protocol_is_a_warning_of_its_own(caplog):
    (line,) = warnings(caplog, ("0.0.0.0", 80), proxy_protocol=True, proxy_protocol_allow_ips="*")
    assert line.startswith("--proxy-protocol-allow-ips *: whoever can connect to 0.0.0.0:80")


def test_a_name_is_a_warning(caplog):
    (line,) = warnings(caplog, ("127.0.0.1", 80), forwarded_allow_ips="localhost, 127.0.0.1")
    assert line == "--forwarded-allow-ips: 'localhost' is not an address, and no name is looked up: no proxy has it."


def test_an_identifier_that_proxies_write_is_no_warning(caplog):
    assert warnings(caplog, ("127.0.0.1", 80), forwarded_allow_ips="_gateway, 127.0.0.1") == []


def test_a_configuration_that_follows_warns_of_what_is_new(caplog):
    caplog.set_level(logging.WARNING, "pounce.error")
    listeners = [SimpleNamespace(address=("0.0.0.0", 80))]
    local, everybody = (Config("a:b", forwarded_allow_ips=text) for text in ("127.0.0.1", "*"))
    warn_of_trust(everybody, listeners, everybody)
    warn_of_trust(local, listeners, everybody)
    assert caplog.records == []
    warn_of_trust(everybody, listeners, local)
    assert PUBLIC in caplog.text


def test_everybody_trusted_since_sighup_is_a_warning(tmp_path):
    (tmp_path / "main.py").write_text((APPS / "plain.py").read_text())
    options = tmp_path / "pounce.toml"
    options.write_text('forwarded_allow_ips = "127.0.0.1"\n')
    with Running("main:app", "--bind", "0.0.0.0:0", cwd=tmp_path) as server:
        assert PUBLIC not in server.log
        options.write_text('forwarded_allow_ips = "*"\n')
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(PUBLIC)


def test_a_server_warns_once_whatever_the_number_of_workers():
    with Running("plain:app", "--bind", "0.0.0.0:0", "--workers", "2", "--forwarded-allow-ips", "*") as server:
        assert server.log.count(PUBLIC) == 1
