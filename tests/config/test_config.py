"""Options: where they come from, what they may be, and what is said when they cannot be."""

import dataclasses
import os

import pytest

from pounce.config.config import DEFAULTS, OPTIONS, Config
from pounce.config.sources import files_read_at_start, load
from pounce.errors import ConfigError


def loaded(tmp_path, flags=None, environ=None):
    return load(flags or {}, environ or {}, tmp_path)[0]


def test_the_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config("a:b").port = 1


def test_later_sources_win(tmp_path):
    (tmp_path / "pounce.toml").write_text('port = 1\nhost = "file"\nroot-path = "/file"\nthreads = 3\n')
    values = loaded(tmp_path, {"port": 3}, {"POUNCE_PORT": "2", "POUNCE_HOST": "environment"})
    assert values == {"port": 3, "host": "environment", "root_path": "/file", "workers": 3}


def test_options_in_pyproject(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.pounce]\napp = "main:app"\nheaders = ["X: y"]\nport = 9\n')
    assert loaded(tmp_path) == {"app": "main:app", "headers": (("X", "y"),), "port": 9}


@pytest.mark.parametrize("text", ["[tool.other]\nport = 1\n", "this is not toml"])
def test_somebody_elses_pyproject_is_left_alone(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    assert loaded(tmp_path) == {}


def test_an_own_file_wins_over_pyproject(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.pounce]\nport = 1\n")
    (tmp_path / "pounce.toml").write_text("port = 2\n")
    assert loaded(tmp_path) == {"port": 2}


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("POUNCE_APP", "main:app", "app", "main:app"),
        ("POUNCE_WORKERS", "4", "workers", 4),
        ("POUNCE_THREADS", "auto", "workers", 0),
        ("POUNCE_ACCESS_LOG", "false", "access_log", False),
        ("POUNCE_USE_COLORS", "1", "use_colors", True),
        ("POUNCE_HEADERS", "A:b C:d", "headers", (("A", "b"), ("C", "d"))),
        ("POUNCE_TIMEOUT_KEEP_ALIVE", "2.5", "timeout_keep_alive", 2.5),
        ("POUNCE_LIMIT_CONCURRENCY", "off", "limit_concurrency", None),
        ("POUNCE_BIND", "127.0.0.1:1 unix:/a", "bind", ("127.0.0.1:1", "unix:/a")),
    ],
)
def test_options_in_the_environment(tmp_path, variable, text, name, value):
    assert loaded(tmp_path, environ={variable: text}) == {name: value}


def test_variables_that_are_no_options_are_noted_and_ignored(tmp_path):
    environ = {"POUNCE_SERVICE_HOST": "10.0.0.1", "POUNCE_PROT": "1", "POUNCE_PYTHON": "python3", "OTHER": "x"}
    values, notes = load({}, environ, tmp_path)
    assert values == {}
    assert notes == [
        (30, "POUNCE_PROT is not an option (did you mean port?); ignored."),
        (30, "Kubernetes has set POUNCE_SERVICE_HOST for a Service named pounce; ignored."),
    ]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("prot = 1\n", "pounce.toml: prot is not an option (did you mean port?)"),
        ('port = "x"\n', "pounce.toml: port: 'x' is not a whole number"),
        ("port = true\n", "pounce.toml: port: True is not a whole number"),
        ("port = 70000\n", "pounce.toml: port: 70000 is not between 0 and 65535"),
        ('lifespan = "no"\n', "pounce.toml: lifespan: 'no' is not one of auto, on, off"),
        ("port\n", "pounce.toml: "),
    ],
)
def test_invalid_options_in_the_file_are_named(tmp_path, file, words):
    (tmp_path / "pounce.toml").write_text(file)
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"port": "8000"}, "port='8000' is not a whole number"),
        ({"port": -1}, "port=-1 is not between 0 and 65535"),
        ({"workers": -1}, "workers=-1 is not between 0 and 1024"),
        ({"threads": "many"}, "threads='many' is not a whole number and not auto"),
        ({"timeout_keep_alive": -1}, "timeout_keep_alive=-1 is less than 0"),
        ({"timeout_write": 0}, "timeout_write=0 is not more than 0; off means no limit"),
        ({"timeout_write": float("nan")}, "not a number of seconds"),
        ({"limit_concurrency": 0}, "limit_concurrency=0 is less than 1"),
        ({"log_level": "loud"}, "log_level='loud' is not one of critical"),
        ({"log_level": "warn"}, "(did you mean warning?)"),
        ({"lifespan": "of"}, "(did you mean off?)"),
        ({"env_file": "/no/such"}, "env_file='/no/such' is not an existing file"),
        ({"app_dir": "/no/such"}, "app_dir='/no/such' is not an existing folder"),
        ({"headers": ["no colon"]}, "not a list of NAME:VALUE"),
        ({"headers": [("a b", "c")]}, "not a field that HTTP allows"),
        ({"headers": [("a", "b\r\nc: d")]}, "not a field that HTTP allows"),
        ({"headers": [("a",)]}, "not a list of NAME:VALUE"),
        ({"bind": ["nonsense"]}, "not HOST:PORT, [IPv6]:PORT, unix:PATH, fd://N or fd://NAME"),
        ({"bind": ["a:1", "a:1"]}, "the same address twice"),
        ({"access_log": "yes"}, "access_log='yes' is neither true nor false"),
        ({"root_path": None}, "root_path=None is not text"),
    ],
)
def test_invalid_options_in_a_program_are_named(options, words):
    with pytest.raises(ConfigError) as caught:
        Config("a:b", **options)
    assert words in str(caught.value)


def test_threads_and_workers_are_one_option():
    assert Config("a:b", threads=3).workers == Config("a:b", workers=3).workers == 3
    assert Config("a:b", threads="auto").workers == 0


def test_web_concurrency_sets_workers_where_nothing_else_does(monkeypatch):
    monkeypatch.setenv("WEB_CONCURRENCY", "5")
    assert Config("a:b").workers == 5
    assert Config("a:b", workers=2).workers == 2
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    with pytest.raises(ConfigError, match="WEB_CONCURRENCY: 'many' is not a whole number"):
        Config("a:b")


def test_host_and_port_uds_fd_and_bind_exclude_each_other():
    assert [bind.source for bind in Config("a:b", bind=["unix:/a", ":1"], fd=3, uds="/b").binds()] == [
        "--bind unix:/a",
        "--bind :1",
    ]
    assert Config("a:b", fd=3, uds="/b").binds()[0].fd == 3
    assert Config("a:b", uds="/b", port=1).binds()[0].path == "/b"
    (bind,) = Config("a:b", port=1).binds()
    assert (bind.host, bind.port, bind.source) == ("127.0.0.1", 1, "--host 127.0.0.1 --port 1")


def test_every_option_has_a_help_text_that_ends_as_a_sentence():
    for name, option in OPTIONS.items():
        assert option.help.endswith((".", "?")), name


# Found by reading the code.
def test_headers_with_an_invalid_value_are_a_config_error():
    with pytest.raises(ConfigError, match="not a field that HTTP allows: X-A: €"):
        Config("app:app", headers=[("X-A", "€")])


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("timeout_request_head", 10.0),
        ("timeout_request_body", 10.0),
        ("limit_request_body_rate", 240),
        ("timeout_keep_alive", 5.0),
        ("timeout_write", 30.0),
        ("timeout_request", None),
        ("timeout_graceful_shutdown", 30.0),
        ("limit_request_head", 65536),
        ("limit_request_fields", 100),
        ("limit_request_target", 8192),
        ("limit_request_body", None),
        ("limit_concurrency", None),
        ("limit_queue", 0),
        ("queue_timeout", 10.0),
        ("timeout_worker_stuck", None),
    ],
)
def test_every_timeout_and_limit_is_a_field_and_a_flag_with_its_default(name, default):
    assert DEFAULTS[name] == default
    assert "--" + name.replace("_", "-") in OPTIONS[name].flags


def test_files_that_are_read_only_at_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (".env", "log.json"):
        (tmp_path / name).write_text("{}")

    def names(**options):
        return sorted(os.path.relpath(path) for path in files_read_at_start(Config("a:b", **options), tmp_path))

    assert names() == ["pounce.toml"]
    assert names(env_file=".env", log_config="log.json") == [".env", "log.json", "pounce.toml"]
    assert names(log_config={"version": 1}) == ["pounce.toml"]
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert names() == ["pounce.toml"]
    (tmp_path / "pyproject.toml").write_text("[tool.pounce]\nport = 1\n")
    assert names() == ["pounce.toml", "pyproject.toml"]
