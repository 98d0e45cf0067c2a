"""The command line: errors, log lines and exit codes."""

import os
import re
import socket
import subprocess
import sys

import pytest

import pounce
from pounce import __version__
from pounce.cli import parser
from pounce.config.config import OPTIONS
from pounce.config.option import NOT_YET
from tests.support.requirements import tool
from tests.support.server import APPS, Running, ask, get


def run(*arguments, env=None, cwd=APPS):
    """Runs a pounce that ends by itself: (exit code, output)."""
    done = subprocess.run(
        [sys.executable, "-m", "pounce", *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


def test_version_says_pounce_and_python():
    code, said = run("--version")
    assert code == 0
    assert said.startswith(f"Running pounce {__version__} with CPython {sys.version_info.major}.")


def test_help_names_every_option_and_fits_100_columns():
    code, said = run("--help", env={"COLUMNS": "100", "NO_COLOR": "1"})
    assert code == 0
    for option in OPTIONS.values():
        for flag in option.flags:
            assert (flag in said) is (option.group != NOT_YET), flag
    assert "Send a Date field. Default: on." in " ".join(said.split())
    assert "pounce main:app --threads auto" in said
    assert max(map(len, said.splitlines())) <= 100
    assert "%(" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "which application? Give it as module:attribute, for example main:app"),
        (("plain:app", "--prot", "1"), "--prot is not an option (did you mean --port?)"),
        (("plain:app", "--port", "many"), "--port: 'many' is not a whole number"),
        (("plain:app", "--port", "99999"), "--port: 99999 is not between 0 and 65535"),
        (("plain:app", "--threads", "-1"), "--threads: -1 is not between 0 and 1024"),
        (("plain:app", "--workers", "x"), "--workers: 'x' is not a whole number and not auto"),
        (("plain:app", "--port"), "argument --port: expected one argument"),
        (("plain:app", "other:app"), "one application is enough: 'other:app'"),
        (("plain:app", "--env-file", "/no/such"), "--env-file: '/no/such' is not an existing file"),
        (("plain:app", "--app-dir", "/no/such"), "--app-dir: '/no/such' is not an existing folder"),
        (("plain:app", "--log-config", "/no/such"), "--log-config: '/no/such' is not an existing file"),
        (("plain:app", "--log-level", "loud"), "--log-level: 'loud' is not one of critical"),
        (("plain:app", "--header", "novalue"), "--header: ['novalue'] is not a list of NAME:VALUE"),
        (("plain:app", "--bind", "nonsense"), "--bind: ['nonsense'] is not HOST:PORT"),
        (("plain:app", "--interface", "wsgi"), "--interface: WSGI is not in this version of pounce; a2wsgi"),
        (("plain:app", "--reload-dir", "/no/such"), "--reload-dir: ['/no/such'] is not a list of existing folders"),
        (("plain:app", "--ssl-keyfile=x"), "--ssl-keyfile: TLS is not in this version"),
        (
            ("plain:app", "--forwarded-allow-ips", "::1, 10.0.0.1/8"),
            "--forwarded-allow-ips: '::1, 10.0.0.1/8' is not a list of addresses and networks: '10.0.0.1/8' is an "
            "address in a network: the network is 10.0.0.0/8",
        ),
        (
            ("plain:app", "--forwarded-header", "both"),
            "--forwarded-header: 'both' is not one of x-forwarded, forwarded",
        ),
        (
            ("plain:app", "--forwarded-prefix", "--forwarded-header", "forwarded"),
            "forwarded_prefix needs forwarded_header=x-forwarded",
        ),
    ],
)
def test_an_invalid_command_line_is_one_line_and_code_2(arguments, words):
    code, said = run(*arguments)
    assert code == 2
    first, *rest = said.splitlines()
    assert first.startswith("pounce: error: ")
    assert words in first
    assert rest == ["Try 'pounce --help'."]


def test_an_invalid_environment_variable_is_one_line_that_names_it_and_code_2():
    code, said = run("plain:app", env={"POUNCE_PORT": "many"})
    assert (code, said.splitlines()[0]) == (2, "pounce: error: POUNCE_PORT: 'many' is not a whole number")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("plain",), 3, 'Import string "plain" must be in format "<module>:<attribute>".'),
        (("nowhere:app",), 3, 'Could not import module "nowhere".'),
        (("plain:nothing",), 3, 'Attribute "nothing" not found in module "plain".'),
        (("plain:not_callable",), 3, "It is int, which cannot be called."),
        (("plain:app", "--factory"), 3, "Error loading ASGI app factory: it must be callable without arguments."),
        (("plain:app", "--host", "no-such-host.invalid"), 3, "no-such-host.invalid: "),
        (("plain:app", "--host", "192.0.2.1"), 3, "cannot bind (--host 192.0.2.1 --port 8000): cannot assign"),
        (("plain:app", "--uds", "/no/such/folder/s"), 3, "cannot bind (--uds /no/such/folder/s): no such file"),
        (("plain:app", "--fd", "77"), 3, "cannot bind (--fd 77): bad file descriptor"),
        (("plain:app", "--log-config", "bad.json"), 2, "--log-config: bad.json: Expecting value"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_failed_start_is_one_line_and_uvicorns_exit_code(arguments, code, words, workers):
    port = () if "--host" in arguments else ("--port", "0")
    got, said = run(*arguments, *port, "--workers", workers)
    assert got == code, said
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1
    assert words in errors[0]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("module", "words"), [("broken", "while importing"), ("missing", "no_such_module_at_all")])
def test_a_failed_import_shows_the_applications_frames_only_and_code_1(module, words, workers):
    code, said = run(f"{module}:app", "--port", "0", "--workers", workers)
    assert code == 1
    assert said.count(words) >= 1
    assert said.count("Traceback") == 1
    assert f"{module}.py" in said
    assert os.path.dirname(pounce.__file__) not in said
    assert "importlib" not in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_failed_lifespan_startup_is_logged_once_and_code_3(workers):
    code, said = run("plain:failing", "--port", "0", "--workers", workers)
    assert code == 3
    lines = said.splitlines()
    assert lines.count("ERROR:    the database is away") == 1
    assert lines.count("ERROR:    Application startup failed. Exiting.") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_in_use_names_the_process_that_has_it_and_code_3(workers):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, said = run("plain:app", "--port", port, "--workers", workers)
    assert code == 3
    assert f"ERROR:    cannot bind (--host 127.0.0.1 --port {port}): address already in use" in said
    assert len(said.splitlines()) == 1
    assert f"address already in use by process {os.getpid()} (" in said


def test_port_of_a_running_server_is_refused_to_a_second_one_despite_so_reuseport():
    with Running("plain:app", "--port", "0", "--workers", "2") as first:
        code, said = run("plain:app", "--port", str(first.address[1]), "--workers", "2")
        assert code == 3
        assert "address already in use" in said
        assert get(first.address) == (200, b"hello")


@pytest.mark.parametrize(
    "app", ["plain:app", "plain:Attributes.inner.app", "plain:make"], ids=["name", "attribute path", "factory"]
)
def test_application_is_found_by_name_by_attribute_path_and_by_factory(app):
    factory = ["--factory"] if app == "plain:make" else []
    with Running(app, "--port", "0", *factory) as server:
        assert get(server.address) == (200, b"hello")
        assert "factory detected" not in server.log


def test_a_factory_without_the_flag_is_called_and_the_log_says_so():
    with Running("plain:make", "--port", "0") as server:
        assert get(server.address) == (200, b"hello")
        assert "ASGI app factory detected. Using it, but please consider setting the --factory flag" in server.log


# A module that is imported takes memory in every process. These would come in by a call that looks harmless.
COSTLY = {"asyncio", "h11", "wsproto", "urllib.parse", "logging.config", "shutil", "platform", "tomllib", "pathlib",
        "unicodedata", "importlib.metadata", "pounce.app.copies", "pounce.asgi.websocket",
        "pounce.connections.websocket"}  # fmt: skip


def test_a_server_at_rest_has_not_imported_costly_modules():
    script = "import argparse, dataclasses, logging, socket, sys, threading, typing; print(*sys.modules)"
    needed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    with Running("plain:imported", "--port", "0") as server:
        imported = get(server.address)[1].decode().split()
        assert "pounce.worker.worker" in imported
        assert not COSTLY.intersection(imported).difference(needed)


def test_app_dir_is_where_the_application_is_imported_from(tmp_path):
    with Running("plain:app", "--port", "0", "--app-dir", str(APPS), cwd=tmp_path) as server:
        assert get(server.address) == (200, b"hello")


def test_log_from_start_to_end_is_a_banner_and_uvicorns_lines():
    with Running("plain:app", "--port", "0", "--workers", "2") as server:
        get(server.address, "/a?b=c")
        server.wait_for("GET /a")
        server.stop()
        patterns = [
            rf"INFO:     Pounce {re.escape(__version__)} on CPython 3\.\d+\.\d+\S*( free-threaded)?, 2 worker .*",
            r"INFO:     Started server process \[\d+\]",
            r"INFO:     Waiting for application startup\.",
            r"INFO:     Application startup complete\.",
            r"INFO:     Pounce running on http://127\.0\.0\.1:\d+ \(Press CTRL\+C to quit\)",
            r'INFO:     127\.0\.0\.1:\d+ - "GET /a\?b=c HTTP/1\.1" 200 OK',
            r"INFO:     Shutting down",
            r"(lifespan shutdown|INFO:     Waiting for application shutdown\.)",  # the workers do not wait for the log
            r"(lifespan shutdown|INFO:     Waiting for application shutdown\.)",
            r"(lifespan shutdown|INFO:     Waiting for application shutdown\.)",
            r"INFO:     Application shutdown complete\.",
            r"INFO:     Finished server process \[\d+\]",
        ]
        assert len(server.lines) == len(patterns), server.log
        for line, pattern in zip(server.lines, patterns, strict=True):
            assert re.fullmatch(pattern, line), line


def test_loop_and_http_of_uvicorn_are_accepted_with_a_line_in_the_log():
    with Running("plain:app", "--port", "0", "--loop", "uvloop", "--http", "httptools") as server:
        assert "--loop uvloop: there is one event loop here" in server.log
        assert "--http httptools: there is one HTTP parser here" in server.log


@pytest.mark.parametrize("host", ["a" * 64, "ä" * 64, "ä..b"])
def test_host_that_is_no_domain_name_is_one_line_and_code_3(host):
    code, said = run("plain:app", "--host", host)
    assert code == 3
    assert re.fullmatch(rf"ERROR:    cannot bind \(--host {host} --port 8000\): {host}: [\w ]+\n", said), said


def test_pounce_toml_env_file_and_environment_reach_the_server(tmp_path):
    (tmp_path / "pounce.toml").write_text(
        f'app = "plain:app"\nport = 0\napp-dir = "{APPS}"\nheader = ["X-From: file"]\n'
    )
    (tmp_path / "settings.env").write_text("GREETING=hello\n")
    with Running("--env-file", "settings.env", cwd=tmp_path, env={"POUNCE_ROOT_PATH": "/api"}) as server:
        answer = ask(server.address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"x-from: file\r\n" in answer
        assert "Loading environment from 'settings.env'" in server.log


def test_uds_serves_on_a_unix_socket_and_removes_it_at_the_end(tmp_path):
    path = str(tmp_path / "pounce.sock")
    with Running("plain:app", "--uds", path) as server:
        assert get(path) == (200, b"hello")
        assert f"Pounce running on unix socket {path} (Press CTRL+C to quit)" in server.log
        assert server.stop() == 143
    assert not os.path.exists(path)


def test_bind_twice_serves_on_a_port_and_on_a_unix_socket(tmp_path):
    path = str(tmp_path / "pounce.sock")
    with Running("plain:app", "--bind", "127.0.0.1:0", "--bind", f"unix:{path}", "--workers", "2") as server:
        assert get(server.address) == (200, b"hello")
        assert get(path) == (200, b"hello")


def test_fd_serves_on_an_inherited_socket():
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        inherited.set_inheritable(True)
        process = subprocess.Popen(
            [sys.executable, "-m", "pounce", "plain:app", "--fd", str(inherited.fileno())],
            cwd=APPS,
            pass_fds=[inherited.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert get(inherited.getsockname()) == (200, b"hello")
        finally:
            process.terminate()
            assert process.wait(30) == -15


def test_the_installed_command_is_pounce():
    command = os.path.join(os.path.dirname(sys.executable), "pounce")
    assert subprocess.run([command, "--version"], stdout=subprocess.DEVNULL).returncode == 0


def test_curl_gets_its_100_and_two_responses():
    curl = tool("curl")
    with Running("plain:app", "--port", "0") as server:
        done = subprocess.run(
            [curl, "-s", "--data-binary", "x" * 2000, "-H", "Expect: 100-continue", f"{server.url}/echo", server.url],
            stdout=subprocess.PIPE,
            timeout=30,
        )
        assert done.stdout == b"x" * 2000 + b"hello"


def test_options_cannot_be_abbreviated():
    _, unknown = parser().parse_known_args(["a:b", "--por", "1"])
    assert "--por" in unknown
