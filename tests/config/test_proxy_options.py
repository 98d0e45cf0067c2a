"""Whose fields are trusted: the option, $FORWARDED_ALLOW_IPS in the environment and in --env-file, and what is
refused."""

import pytest

from pounce.cli import configuration
from pounce.config import env_file
from pounce.config.config import Config
from pounce.errors import ConfigError

LOCAL = ("127.0.0.1", "::1")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    return tmp_path


def trusted(*arguments):
    return configuration(["a:b", *arguments])[0].forwarded_allow_ips


def test_this_machine_is_trusted_by_default_as_with_uvicorn():
    assert trusted() == Config("a:b").forwarded_allow_ips == LOCAL
    assert Config("a:b", forwarded_allow_ips=None).forwarded_allow_ips == LOCAL
    assert Config("a:b").proxy_headers


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        ("10.0.0.0/8, ::1,", ("10.0.0.0/8", "::1")),
        (["10.0.0.0/8", "::1"], ("10.0.0.0/8", "::1")),
        (("10.0.0.1,unix", "::1"), ("10.0.0.1", "unix", "::1")),
        ("*", ("*",)),
        (["*"], ("*",)),
        ("", ()),
        ([], ()),
        ("localhost", ("localhost",)),
    ],
)
def test_forwarded_allow_ips_is_text_or_a_list(value, entries):
    assert Config("a:b", forwarded_allow_ips=value).forwarded_allow_ips == entries
    if isinstance(value, str):
        assert trusted("--forwarded-allow-ips", value) == entries


@pytest.mark.parametrize("value", ["10.0.0.1/8", "10.0.0.0/33", "127.0.0.1,*", "a b", 5, [5], {"a": 1}])
def test_forwarded_allow_ips_that_is_wrong_is_refused(value):
    with pytest.raises(ConfigError, match=r"^forwarded_allow_ips=.* is not a list of addresses"):
        Config("a:b", forwarded_allow_ips=value)


def test_the_variable_is_used_where_the_option_is_not_given(monkeypatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.0/8, unix")
    assert trusted() == Config("a:b").forwarded_allow_ips == ("10.0.0.0/8", "unix")
    assert trusted("--forwarded-allow-ips", "::1") == ("::1",)
    monkeypatch.setenv("POUNCE_FORWARDED_ALLOW_IPS", "10.0.0.1")
    assert trusted() == ("10.0.0.1",)


def test_the_variable_that_is_empty_trusts_nobody_as_with_uvicorn(monkeypatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "")
    assert trusted() == ()


def test_the_variable_that_is_wrong_is_named_in_the_error(monkeypatch, capsys):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.300")
    with pytest.raises(SystemExit):
        configuration(["a:b"])
    assert "pounce: error: FORWARDED_ALLOW_IPS: '10.0.0.300' is not a list of addresses" in capsys.readouterr().err


def test_the_variable_may_be_in_the_env_file(folder, monkeypatch):
    pytest.importorskip("dotenv", reason="python-dotenv is not installed")
    file = folder / ".env"
    file.write_text("FORWARDED_ALLOW_IPS=10.0.0.0/8\n")
    assert trusted("--env-file", ".env") == ("10.0.0.0/8",)
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1")  # what is set already stays
    assert trusted("--env-file", ".env") == ("10.0.0.1",)


def test_the_env_file_is_asked_again_once_it_has_been_loaded(folder, monkeypatch):
    """As at SIGHUP, when the variable is in the environment because it was in the file."""
    pytest.importorskip("dotenv", reason="python-dotenv is not installed")
    monkeypatch.setattr(env_file, "_loaded", {})
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "")  # so that the test's end restores it
    monkeypatch.delenv("FORWARDED_ALLOW_IPS")
    file = folder / ".env"
    file.write_text("FORWARDED_ALLOW_IPS=10.0.0.0/8\n")
    env_file.load(".env")
    file.write_text("FORWARDED_ALLOW_IPS=10.0.0.1\n")
    assert trusted("--env-file", ".env") == ("10.0.0.1",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"forwarded_prefix": True, "forwarded_header": "forwarded"}, "forwarded_prefix needs"),
        ({"forwarded_prefix": True, "forwarded_header": "off"}, "forwarded_prefix needs"),
        ({"forwarded_host": True, "forwarded_header": "off"}, "forwarded_host needs"),
        ({"forwarded_header": "both"}, "not one of x-forwarded, forwarded, off"),
    ],
)
def test_what_no_field_could_say_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Config("a:b", **options)


def test_forwarded_host_and_forwarded_prefix_without_proxy_headers_are_noted(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = ["--forwarded-host", "--forwarded-prefix"]
    _, notes = configuration(["a:b", "--no-proxy-headers", *names])
    assert notes == [(30, f"{name} has no effect with --no-proxy-headers.") for name in names]
