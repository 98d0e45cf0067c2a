"""A start that the machine does not allow, or the operator has not meant: one line, 2 or 3, no traceback."""

import os
import resource
import socket
import subprocess
import sys

import pytest

from pounce.net.port_user import user_of_path, user_of_port
from tests.support.server import APPS, Running
from tests.system.test_cli import run


def test_the_process_that_uses_a_port_or_a_path_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
        name = f"process {os.getpid()} ("
        assert user_of_port(taken.getsockname()[1]).startswith(name)
        assert user_of_path(str(tmp_path / "s")).startswith(name)
        port = taken.getsockname()[1]
    assert user_of_port(port) == ""


def test_uds_in_use_names_its_server(tmp_path):
    path = str(tmp_path / "s")
    with Running("plain:app", "--uds", path) as server:
        code, said = run("plain:app", "--uds", path)
        assert code == 3
        assert f"is listening at {path} by process {server.process.pid} (" in said
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize("limit", range(7, 18))
@pytest.mark.parametrize("kind", ["1 auto", "2 thread", "2 process"])
def test_emfile_at_the_start_is_one_line(limit, kind):
    workers, kind = kind.split()
    command = [sys.executable, "-m", "pounce", "plain:app", "--port", "0", "--workers", workers, "--worker-kind", kind]
    command += ["--limit-max-requests", "1"]
    process = subprocess.Popen(command, cwd=APPS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, 2 * (limit,)))  # fmt: skip
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "running on" in line:
            process.terminate()
    process.stdout.close()
    code = process.wait(30)
    said = "".join(lines)
    assert "Traceback" not in said
    if "running on" not in said:
        assert code == 3
        assert sum(line.startswith("ERROR") for line in lines) == 1
        assert "too many open files" in said.lower()


BAD = b"\xff\xfe"


@pytest.mark.parametrize("arguments", [
    (b"--root-path", BAD), (b"--host", BAD), (b"--app-dir", BAD), (b"--env-file", BAD), (b"--log-config", BAD),
    (b"--header", b"a:" + BAD), (b"--bind", BAD), (b"--bind", BAD + b":80"), (b"--ws", BAD), (b"--port", BAD),
    (b"--uds", b"/" + b"x" * 200), (b"--bind", b"unix:" + b"x" * 200), (b"--host", b""), (b"--port", b""),
    (b"--uds", b"."), (b"--fd", b"0"), (b"--fd", b"2"), (b"--host", b"a b"), (b"--host", b"1.2.3.4.5"),
    (b"--log-config", b"plain.py"), (b"--backlog", b"99999999999"), (b"--fd", b"99999999999"),
    (b"--limit-max-requests-jitter", b"x"), (BAD + b":app",), (b":app",), (b"plain:",), (b"..plain:app",), (b"a/b:c",),
    (b"plain:app.",), (b"plain:a b",),
], ids=str)  # fmt: skip
def test_invalid_flags_are_one_line(arguments):
    app = () if ":" in os.fsdecode(arguments[0]) else (b"plain:app",)
    command = [os.fsencode(sys.executable), b"-m", b"pounce", *app, *arguments]
    if arguments[0] not in (b"--port", b"--host", b"--bind", b"--uds", b"--fd"):
        command += [b"--port", b"0"]
    process = subprocess.Popen(command, cwd=APPS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               stdin=subprocess.DEVNULL)  # fmt: skip
    lines = []
    for line in process.stdout:
        lines.append(line.decode(errors="replace"))
        if "running on" in lines[-1]:
            process.terminate()  # a strange value, but one that can be
    process.stdout.close()
    code = process.wait(30)
    said = "".join(lines)
    assert "Traceback" not in said, said
    if "running on" not in said:
        assert code in (2, 3)
        assert sum("error: " in line or line.startswith("ERROR") for line in lines) == 1, said


@pytest.mark.parametrize("line", [
    'host = "a\\u0000b"', 'uds = "a\\u0000b"', 'bind = ["a\\u0000b:80"]', 'bind = ["unix:a\\u0000b"]',
    'root-path = "\\u0000"',
    'app-dir = "a\\u0000b"', 'app = "a\\u0000b:c"', "app = 3", 'env-file = "a\\u0000"', 'log-config = {version = 2}',
    'log-config = {}', 'headers = "a"', 'headers = [["a"]]', 'bind = []', 'bind = [1]', 'log-level = 3.5',
], ids=str)  # fmt: skip
def test_invalid_options_in_the_file_are_one_line(line, tmp_path):
    app = "" if line.startswith("app =") else 'app = "plain:app"\n'
    (tmp_path / "pounce.toml").write_text(f"{line}\n{app}")
    port = [] if line.startswith(("uds", "bind")) else ["--port", "0"]
    command = [sys.executable, "-m", "pounce", *port]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env={**os.environ, "PYTHONPATH": str(APPS)})  # fmt: skip
    lines = []
    for text in process.stdout:
        lines.append(text)
        if "running on" in text:
            process.terminate()
    process.stdout.close()
    code = process.wait(30)
    said = "".join(lines)
    assert "Traceback" not in said, said
    if "running on" not in said:
        assert code in (1, 2, 3)
        assert sum("error: " in text or text.startswith("ERROR") for text in lines) == 1, said
