"""--proxy-protocol and --proxy-protocol-allow-ips: values, errors and notes."""

import pytest

from pounce.cli import configuration
from pounce.config import Config
from pounce.config.sources import load
from pounce.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "entries"),
    [
        ("10.0.0.0/8, 127.0.0.1,,unix", ("10.0.0.0/8", "127.0.0.1", "unix")),
        (["::1", "192.0.2.0/24,192.0.3.1"], ("::1", "192.0.2.0/24", "192.0.3.1")),
        ("*", ("*",)),
    ],
)
def test_proxy_protocol_allow_ips_takes_lists_and_texts_with_commas(given, entries, tmp_path):
    assert Config("a:b", proxy_protocol_allow_ips=given).proxy_protocol_allow_ips == entries
    if isinstance(given, str):
        values, _ = load({}, {"POUNCE_PROXY_PROTOCOL_ALLOW_IPS": given}, tmp_path)
        assert values == {"proxy_protocol_allow_ips": entries}


def test_by_default_there_is_no_proxy_protocol_and_this_machine_may_send_it():
    config = Config("a:b")
    assert not config.proxy_protocol
    assert config.proxy_protocol_allow_ips == ("127.0.0.1", "::1", "unix")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("localhost", "'localhost' is a name"),
        ("10.0.0.0/33", "'10.0.0.0/33' is not a network"),
        ("10.0.0.1/8", "the network is 10.0.0.0/8"),
        ("10.0.0.256", "'10.0.0.256' is not an address"),
        ("*,10.0.0.1", "'*' trusts everybody, so it has to stand alone"),
        ("", "empty: every connection would be closed"),
        ([], "empty: every connection would be closed"),
        (None, "empty: every connection would be closed"),
        (5, "not a list of addresses"),
    ],
)
def test_proxy_protocol_allow_ips_names_what_is_wrong_in_one_line(given, words):
    with pytest.raises(ConfigError) as caught:
        Config("a:b", proxy_protocol_allow_ips=given)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"proxy_protocol_allow_ips={given!r} is ")
    assert "\n" not in str(caught.value)


def test_proxy_protocol_allow_ips_without_the_protocol_is_noted(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    allowed = ["--proxy-protocol-allow-ips", "10.0.0.1"]
    _, notes = configuration(["a:b", *allowed])
    assert (30, "--proxy-protocol-allow-ips has no effect without --proxy-protocol.") in notes
    _, notes = configuration(["a:b", "--proxy-protocol", *allowed])
    assert not notes
