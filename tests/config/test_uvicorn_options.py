"""uvicorn's words: its keywords, flags and variables, accepted where they ask for nothing that is not here, and an
invalid value of any option, from any source, told in one line."""

import json
import subprocess
import sys

import pytest

import pounce
from pounce.cli import configuration
from pounce.config.config import OPTIONS, Config
from pounce.config.keywords import ConfigOptions
from pounce.config.option import NOT_YET
from pounce.errors import ConfigError
from tests.support.server import APPS, Running, get

# Every keyword of uvicorn.run and uvicorn.Config 0.54 with its default.
UVICORNS = {
    "host": "127.0.0.1", "port": 8000, "uds": None, "fd": None, "loop": "auto", "http": "auto", "http2": False,
    "ws": "auto", "ws_max_size": 16777216, "ws_max_queue": 32, "ws_ping_interval": 20.0, "ws_ping_timeout": 20.0,
    "ws_per_message_deflate": True, "lifespan": "auto", "env_file": None, "log_level": None, "access_log": True,
    "use_colors": None, "interface": "auto", "reload": False, "reload_dirs": None, "reload_delay": 0.25,
    "reload_includes": None, "reload_excludes": None, "workers": None, "proxy_headers": True, "server_header": True,
    "date_header": True, "forwarded_allow_ips": None, "root_path": "", "limit_concurrency": None,
    "limit_max_requests": None, "limit_max_requests_jitter": 0, "backlog": 2048, "timeout_keep_alive": 5,
    "timeout_notify": 30, "timeout_graceful_shutdown": None, "timeout_worker_healthcheck": 5, "callback_notify": None,
    "ssl_keyfile": None, "ssl_certfile": None, "ssl_keyfile_password": None, "ssl_version": 17, "ssl_cert_reqs": 0,
    "ssl_ca_certs": None, "ssl_ciphers": None, "ssl_context_factory": None, "headers": None, "factory": False,
    "h11_max_incomplete_event_size": None, "reset_contextvars": False, "app_dir": None,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(arguments, capsys):
    """The line with which a command line is refused."""
    with pytest.raises(SystemExit) as ended:
        configuration(arguments)
    assert ended.value.code == 2
    line, *rest = capsys.readouterr().err.splitlines()
    assert rest == ["Try 'pounce --help'."]
    return line.removeprefix("pounce: error: ")


def test_every_default_of_uvicorn_is_accepted():
    config = Config("a:b", **UVICORNS)
    assert (config.headers, config.app_dir, config.workers) == ((), "", None)
    assert not config.should_reload
    assert not config.is_ssl


def test_config_can_be_imported_from_the_module_that_uvicorn_has():
    from pounce.config import Config as FromTheModule

    assert FromTheModule is Config is pounce.Config
    assert not hasattr(pounce.config, "anything else")


def test_no_module_hides_the_function_per_worker():
    import pounce.app.per_worker

    assert isinstance(pounce.per_worker, type(pounce.run))


def test_keywords_of_fastapis_command_are_accepted():
    given = {"host": "0.0.0.0", "port": 8000, "reload": False, "reload_dirs": None, "workers": None, "root_path": "",
             "proxy_headers": True, "forwarded_allow_ips": None}  # fmt: skip
    Config("main:app", **given)


ASKED = {
    "http2": True, "ssl_keyfile": "key.pem", "ssl_certfile": "cert.pem",
    "ssl_keyfile_password": "secret", "ssl_version": 2, "ssl_cert_reqs": 2, "ssl_ca_certs": "ca.pem",
    "ssl_ciphers": "HIGH",
}  # fmt: skip


HARMLESS = {
    "reload": False, "reload_dirs": ".", "reload_includes": "*.py", "reload_excludes": "*.txt", "reload_delay": 1.5,
    "http2": False, "ssl_version": 17,
    "ssl_cert_reqs": 0, "ssl_ciphers": "TLSv1", "timeout_notify": 60, "h11_max_incomplete_event_size": 16384,
    "timeout_worker_healthcheck": 10,
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_options_that_are_not_here_are_refused_from_every_source(name, folder, monkeypatch, capsys):
    value = ASKED[name]
    text = str(value)
    flag = OPTIONS[name].flags[0]
    with pytest.raises(ConfigError, match=rf"^{name}: .* is not in this version of pounce") as caught:
        Config("a:b", **{name: value})
    assert "secret" not in str(caught.value)
    words = [flag] if value is True else [flag, text]
    assert refused(["a:b", *words], capsys).startswith(f"{flag}: ")
    (folder / "pounce.toml").write_text(f"{name} = {json.dumps(value)}\n")
    assert refused(["a:b"], capsys).startswith(f"pounce.toml: {name}: ")
    (folder / "pounce.toml").unlink()
    monkeypatch.setenv(f"POUNCE_{name.upper()}", text)
    assert refused(["a:b"], capsys).startswith(f"POUNCE_{name.upper()}: ")


@pytest.mark.parametrize("name", HARMLESS)
def test_options_without_effect_are_accepted_from_every_source(name, folder, monkeypatch):
    value = HARMLESS[name]
    flag = OPTIONS[name].flags[0]
    Config("a:b", **{name: value})
    configuration(
        ["a:b", *([flag if value else "--no-" + flag[2:]] if isinstance(value, bool) else [flag, str(value)])]
    )
    (folder / "pounce.toml").write_text(f"{name} = {json.dumps(value)}\n")
    configuration(["a:b"])
    (folder / "pounce.toml").unlink()
    monkeypatch.setenv(f"POUNCE_{name.upper()}", str(value))
    configuration(["a:b"])


@pytest.mark.parametrize(
    "flag",
    ["--reload-dir=.", "--reload-include=*.html", "--reload-exclude=a.py", "--reload-delay=1", "--reload-browser"],
)
def test_options_of_reload_have_no_effect_without_reload_and_are_logged(flag, folder):
    name = flag.partition("=")[0]
    _, notes = configuration(["a:b", flag])
    assert notes == [(30, f"{name} has no effect without --reload.")]
    assert configuration(["a:b", flag, "--reload"])[1] == []


# Text that no option of this name can be.
BAD_TEXT = dict.fromkeys(OPTIONS, "no such value") | {"workers": "two", "headers": "no-colon", "bind": "nonsense"}


ANY_TEXT = {"host", "uds", "root_path", "ws", "loop", "http", "timeout_notify", "callback_notify",
            "reload_includes", "reload_excludes", "pid_file", "user", "group"}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in ANY_TEXT])
def test_an_invalid_value_names_its_source(name, folder, monkeypatch, capsys):
    spec, bad = OPTIONS[name], BAD_TEXT[name]
    for flag in spec.flags:
        if spec.kind.metavar is not None:
            line = refused(["a:b", f"{flag}={bad}"], capsys)
        else:
            line = refused(["a:b", f"{flag}={bad}"], capsys).removeprefix("argument ")
        assert line.startswith(flag)
        plain = flag[2:].replace("-", "_")
        variable = f"POUNCE_{plain.upper()}"
        monkeypatch.setenv(variable, bad)
        assert refused(["a:b"], capsys).startswith(f"{variable}: ")
        monkeypatch.delenv(variable)
        for value in (bad, {"a": 1}, [[1]]):
            if isinstance(value, dict) and name == "log_config":
                continue  # a dictionary is what it may be
            written = json.dumps(value) if not isinstance(value, dict) else "{a = 1}"
            (folder / "pounce.toml").write_text(f"{plain} = {written}\n")
            assert refused(["a:b"], capsys).startswith(f"pounce.toml: {plain}: ")
            (folder / "pounce.toml").unlink()
    for value in (bad, 1j, [[1]]):
        if name == "log_config" and value == 1j:
            continue
        with pytest.raises(ConfigError) as caught:
            Config("a:b", **{name: value})
        assert str(caught.value).startswith(name)
        assert "\n" not in str(caught.value)


NUMBERS = [name for name, spec in OPTIONS.items()
           if (spec.kind.metavar or "").split("|")[0] in ("N", "PORT", "SECONDS")]  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1e400", "x"])
def test_numbers_that_no_option_can_have_are_refused(name, text, folder, capsys):
    flag = OPTIONS[name].flags[0]
    assert refused(["a:b", f"{flag}={text}"], capsys).startswith(flag)


def test_the_flag_is_named_as_it_was_typed(folder, capsys):
    assert refused(["a:b", "--workers", "two"], capsys) == "--workers: 'two' is not a whole number and not auto"
    assert refused(["a:b", "--threads", "two"], capsys) == "--threads: 'two' is not a whole number and not auto"


def test_kubernetes_and_uvicorns_variables_are_one_line_each(folder, monkeypatch):
    for name, value in {
        "POUNCE_PORT": "tcp://10.0.0.1:8000", "POUNCE_SERVICE_HOST": "10.0.0.1", "POUNCE_SERVICE_PORT_HTTP": "8000",
        "POUNCE_PORT_8000_TCP": "tcp://10.0.0.1:8000", "POUNCE_PORT_8000_TCP_ADDR": "10.0.0.1",
        "UVICORN_PORT": "9", "UVICORN_HOST": "0.0.0.0", "UVICORN_NONSENSE": "1", "POUNCE_HOST": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    config, notes = configuration(["a:b"])
    assert (config.port, config.host) == (8000, "127.0.0.1")
    kubernetes, uvicorn = (text for _, text in notes)
    assert kubernetes.startswith("Kubernetes has set POUNCE_PORT, POUNCE_SERVICE_HOST, ")
    assert uvicorn == "UVICORN_PORT, UVICORN_HOST set: did you mean POUNCE_PORT, POUNCE_HOST? Ignored."


def test_aliases_in_the_environment_and_the_file(folder, monkeypatch):
    monkeypatch.setenv("POUNCE_HEADER", "A:b")
    monkeypatch.setenv("POUNCE_THREADS", "3")
    monkeypatch.setenv("POUNCE_H11_MAX_INCOMPLETE_EVENT_SIZE", "200000")
    (folder / "pounce.toml").write_text('reload-dir = ["src"]\n')
    (folder / "src").mkdir()
    config, _ = configuration(["a:b"])
    assert config.reload_dirs == (str(folder / "src"),)
    assert (config.headers, config.workers, config.limit_request_head) == ((("A", "b"),), 3, 200000)


def test_h11_max_incomplete_event_size_is_limit_request_head_431():
    assert Config("a:b", h11_max_incomplete_event_size=200000).limit_request_target == 200000
    assert Config("a:b", h11_max_incomplete_event_size=4096).limit_request_target == 8192
    own = Config("a:b", h11_max_incomplete_event_size=200000, limit_request_target=9000, limit_request_head=10000)
    assert (own.limit_request_target, own.limit_request_head) == (9000, 10000)
    with Running("plain:app", "--port", "0", "--h11-max-incomplete-event-size", "200000") as server:
        assert get(server.address, "/" + "a" * 150000)[0] == 200
        assert get(server.address, "/" + "a" * 250000)[0] in (414, 431)


def test_header_date_replaces_the_servers():
    from tests.support.server import ask

    with Running("plain:app", "--port", "0", "--header", "Date: x", "--header", "Server: y") as server:
        answer = ask(server.address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").lower()
        assert answer.count(b"\r\ndate:") == answer.count(b"\r\nserver:") == 1
        assert b"\r\ndate: x\r\n" in answer


@pytest.mark.parametrize("field", ["Content-Length: 5", "Transfer-Encoding: chunked", "Connection: close"])
def test_header_that_frames_a_response_is_refused(field, folder, capsys):
    assert "is the server's own to write" in refused(["a:b", "--header", field], capsys)


def test_env_file_may_set_workers(folder, monkeypatch):
    (folder / ".env").write_text("WEB_CONCURRENCY=3\n")
    assert configuration(["a:b", "--env-file", ".env"])[0].workers == 3
    assert configuration(["a:b", "--env-file", ".env", "--workers", "2"])[0].workers == 2
    monkeypatch.setenv("WEB_CONCURRENCY", "4")  # what is set already stays
    assert configuration(["a:b", "--env-file", ".env"])[0].workers == 4


def test_env_file_that_is_invalid_is_refused(folder, monkeypatch, capsys):
    (folder / ".env").write_bytes(b"\xff\xfe=\x00")
    assert refused(["a:b", "--env-file", ".env"], capsys).startswith("--env-file: .env: ")
    (folder / ".env").write_text("WEB_CONCURRENCY=many\n")
    assert refused(["a:b", "--env-file", ".env"], capsys).startswith(".env: WEB_CONCURRENCY: 'many' is not")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[tool]\npounce = "x"\n', "pounce is 'x', not a table"),
        ('tool = "pounce"\n', "tool is 'pounce', not a table"),
        ("[tool]\npounce = []\n", "pounce is [], not a table"),
    ],
)
def test_pyproject_table_that_is_no_table_is_refused(text, words, folder, capsys):
    (folder / "pyproject.toml").write_text(text)
    assert words in refused(["a:b"], capsys)


def test_pyproject_that_cannot_be_read_is_logged(folder):
    (folder / "pyproject.toml").write_text("[tool.pounce\nport = 9\n")
    config, ((_, note),) = configuration(["a:b"])
    assert config.port == 8000
    assert "pyproject.toml cannot be read (" in note


def test_the_file_that_was_used_is_logged(folder):
    (folder / "pyproject.toml").write_text("[tool.pounce]\nport = 9\n")
    assert configuration(["a:b"])[1] == [(20, f"Options from {folder}/pyproject.toml")]


def test_the_typed_keywords_are_the_fields():
    given = [*OPTIONS, "threads"]
    assert list(ConfigOptions.__annotations__) == given
    assert set(UVICORNS) - {"log_config"} <= set(given)


SNIPPET = """
import pounce
from pounce.testing import TestServer

async def app(scope: object, receive: object, send: object) -> None: ...

if __name__ == "__main__":
    pounce.run(app, headers=[("a", "b")], bind="127.0.0.1:0", workers=2, reload=False)
    pounce.run("m:app", bind=["127.0.0.1:0", "unix:/x"], threads="auto", headers=["A: b"], log_level="info")
    config = pounce.Config(app, bind=("127.0.0.1:0",), headers=(("a", "b"),), timeout_keep_alive="off")
    port: int = config.port
    TestServer(app, lifespan="off", timeout=3.0, headers=[("a", "b")])
"""


def test_the_keywords_pass_mypys_strict_check(tmp_path):
    (tmp_path / "good.py").write_text(SNIPPET)
    (tmp_path / "bad.py").write_text("import pounce\npounce.run('a:b', prot=1)\npounce.run('a:b', port='x')\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    env = {"PATH": "", "MYPYPATH": str(APPS.parent.parent), "HOME": str(tmp_path)}
    done = subprocess.run([*command, "good.py", "bad.py"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "good.py" not in done.stdout, done.stdout + done.stderr
    assert 'bad.py:2: error: Unexpected keyword argument "prot" for "run"' in done.stdout
    assert 'bad.py:3: error: Argument "port" to "run" has incompatible type "str"' in done.stdout


def test_options_that_are_not_here_are_not_in_the_help():
    assert {name for name, spec in OPTIONS.items() if spec.group == NOT_YET} >= set(ASKED)


def test_reload_is_on_for_an_import_string_only():
    assert Config("a:b", reload=True).should_reload
    assert not Config("a:b").should_reload
    assert not Config(print, reload=True).should_reload


def test_options_of_reload_have_uvicorns_defaults():
    config = Config("a:b")
    assert (config.reload, config.reload_delay, config.reload_browser) == (False, 0.25, False)
    assert config.reload_dirs == config.reload_includes == config.reload_excludes == ()


def test_reload_options_are_the_same_from_every_source(folder, monkeypatch):
    for name in ("src", "my lib"):
        (folder / name).mkdir()
    expected = {
        "reload": True, "reload_dirs": (str(folder / "src"), str(folder / "my lib")), "reload_delay": 0.5,
        "reload_includes": ("*.html", "*.css"), "reload_excludes": ("a.py",), "reload_browser": True,
    }  # fmt: skip

    def options(config):
        return {name: getattr(config, name) for name in expected}

    words = "--reload --reload-dir src --reload-include *.html --reload-include *.css --reload-exclude a.py"
    flags = ["a:b", *words.split(), "--reload-dir", "my lib", "--reload-delay", "0.5", "--reload-browser"]
    assert options(configuration(flags)[0]) == expected
    keywords = expected | {"reload_dirs": ["src", folder / "my lib"], "reload_excludes": "a.py"}
    assert options(Config("a:b", **keywords)) == expected
    (folder / "pounce.toml").write_text(
        'reload = true\nreload-dirs = ["src", "my lib"]\nreload-delay = 0.5\nreload-includes = ["*.html", "*.css"]\n'
        'reload-excludes = "a.py"\nreload-browser = true\n'
    )
    assert options(configuration(["a:b"])[0]) == expected
    (folder / "pounce.toml").unlink()
    for name, text in {
        "RELOAD": "1", "RELOAD_DIRS": "src:my lib", "RELOAD_DELAY": "0.5", "RELOAD_INCLUDES": "*.html *.css",
        "RELOAD_EXCLUDE": "a.py", "RELOAD_BROWSER": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv("POUNCE_" + name, text)
    assert options(configuration(["a:b"])[0]) == expected


@pytest.mark.parametrize("given", ["src", "file.py", "", "s\0c"])
def test_reload_dir_that_is_no_folder_is_refused(given, folder, capsys):
    (folder / "file.py").write_text("")
    with pytest.raises(ConfigError, match=r"^reload_dirs=.* there is no folder "):
        Config("a:b", reload_dirs=given)
    assert "there is no folder" in refused(["a:b", "--reload", "--reload-dir", ".", "--reload-dir", given], capsys)


@pytest.mark.parametrize("pattern", ["", ".", "/", "./"])
def test_reload_patterns_that_can_match_nothing_are_refused(pattern):
    with pytest.raises(ConfigError, match="one of them can match no file"):
        Config("a:b", reload_includes=["*.html", pattern])


def test_reload_dir_is_the_same_folder_when_the_application_changes_the_current_one(folder, monkeypatch):
    (folder / "src").mkdir()
    config = Config("a:b", reload_dirs="src")
    monkeypatch.chdir("/")
    assert config.reload_dirs == (str(folder / "src"),)


def test_drain_times_are_0_by_default_as_uvicorn_closes_at_once():
    assert (Config("a:b").timeout_websocket_drain, Config("a:b").drain_delay) == (0.0, 0.0)
    assert Config("a:b", timeout_websocket_drain=30, drain_delay=5).drain_delay == 5
    for name in ("timeout_websocket_drain", "drain_delay"):
        with pytest.raises(ConfigError, match=f"^{name}=None is not a number of seconds"):
            Config("a:b", **{name: None})
