"""Addresses to listen on: which are understood."""

import pytest

from pounce.config.bind import parse_bind


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80, None, None)),
        ("[::1]:8000", ("::1", 8000, None, None)),
        (":8000", ("", 8000, None, None)),
        ("unix:/run/a.sock", (None, 0, "/run/a.sock", None)),
        ("unix:///run/a.sock", (None, 0, "/run/a.sock", None)),
        ("fd://3", (None, 0, None, 3)),
    ],
)
def test_bind_understands_addresses_of_hosts_unix_sockets_and_descriptors(text, wanted):
    bind = parse_bind(text)
    assert (bind.host, bind.port, bind.path, bind.fd) == wanted


@pytest.mark.parametrize("text", ["", "8000", "host", "::1:80", "host:port", "host:65536", "unix:", "fd://", "fd://a:1",
                                  "h:-1"])  # fmt: skip
def test_bind_refuses_what_is_no_address(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse_bind(text)
