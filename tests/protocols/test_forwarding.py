"""X-Forwarded fields apart from requests: long lists, odd bytes, and their names. What single fields mean is in the
table of asgi/test_forwarded.py, and system/test_uvicorn_proxies.py compares them with uvicorn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pounce.protocols import forwarding
from pounce.protocols.forwarding import UNDERSCORE_TWINS, Forwarded, host_and_port, read_x_forwarded
from pounce.protocols.trusted import TrustedPeers

TRUSTED = TrustedPeers.parse("127.0.0.1, 10.0.0.0/8")


def read(*fields, trusted=TRUSTED):
    return read_x_forwarded(fields, trusted, host=True, prefix=True)


class Counting(TrustedPeers):
    """Counts what it is asked."""

    __slots__ = ("asked",)

    def trusts_host(self, host):
        self.asked.append(host)
        return super().trusts_host(host)


def test_a_list_of_ten_thousand_entries_is_read_as_far_as_its_writers_are_trusted():
    trusted = Counting(["127.0.0.1", "10.0.0.0/8"])
    trusted.asked = []
    line = b",".join([b"6.6.6.6"] * 10_000)
    assert read((b"x-forwarded-for", line + b", 192.0.2.7, 10.0.0.3"), trusted=trusted).client == ("192.0.2.7", 0)
    assert trusted.asked == ["10.0.0.3", "192.0.2.7"]


def test_a_list_of_ten_thousand_trusted_entries_has_the_leftmost():
    line = b"10.0.0.77:1," + b",".join([b"10.0.0.3"] * 10_000)
    assert read((b"x-forwarded-for", line)).client == ("10.0.0.77", 1)
    assert read((b"x-forwarded-for", line), trusted=TrustedPeers.parse("*")).client == ("10.0.0.77", 1)


@pytest.mark.parametrize("port", ["9" * 4000, "9" * 5000, "-" * 5000, "[" * 5000, "1" + "_1" * 100])
def test_a_long_port_is_none(port):
    assert host_and_port("192.0.2.7:" + port)[1] == 0


def test_the_twins_are_all_spellings_with_an_underscore():
    assert len(UNDERSCORE_TWINS) == 12
    assert {name.replace(b"_", b"-") for name in UNDERSCORE_TWINS} | {b"forwarded"} == (
        forwarding.NAMES - UNDERSCORE_TWINS
    )


names = st.sampled_from(sorted(forwarding.NAMES))


@given(st.lists(st.tuples(names, st.binary(max_size=40)), max_size=6), st.sampled_from(["*", "127.0.0.1", ""]))
def test_no_bytes_raise(fields, entries):
    forwarded = read(*fields, trusted=TrustedPeers.parse(entries))
    assert isinstance(forwarded, Forwarded)
    assert forwarded.client is None or (forwarded.client[0] and 0 <= forwarded.client[1] <= 65535)
    assert forwarded.prefix is None or b"//" not in forwarded.prefix
