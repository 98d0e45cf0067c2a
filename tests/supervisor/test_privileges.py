"""--user, --group and --umask: whose rights the process has, and from when."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pounce.config.config import Config
from pounce.errors import ConfigError, StartupError
from pounce.supervisor.privileges import Privileges
from tests.support.server import get
from tests.support.upgrades import Lineage

NOBODY = pwd.getpwnam("nobody")

# Prints its rights while it is imported, and answers with those of its worker.
REPORT = """
import json, os
def rights():
    return {"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "umask": os.umask(0o22)}
print("imported with", json.dumps(rights()), flush=True)
os.umask(0o22)
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(rights()).encode()})
"""


@pytest.fixture
def folder():
    """One that every user may read, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="pounce-test-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        (folder / "main.py").write_text(REPORT)
        yield folder


# Others may not enter root's home, in which the interpreter may be. This shows them the interpreter and nothing else
# of it, in a namespace of its own.
_SHOW = """
set -e
mount --bind "$1" /mnt
mount -t tmpfs -o mode=755 tmpfs "$2"
mkdir -p "$1"
mount --bind /mnt "$1"
shift 2
exec "$@"
"""


def for_everyone():
    """Words before a command that let every user execute this interpreter."""
    if os.geteuid() != 0:
        pytest.skip("needs root, whose rights can be dropped")
    base = Path(sys.base_prefix).resolve()
    closed = [above for above in base.parents if not above.stat().st_mode & 0o001]
    if not closed:
        return []
    words = ["unshare", "--mount", "sh", "-c", _SHOW, "sh", str(base), str(closed[-1])]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("needs an interpreter that every user may execute, or unshare(1)")
    return words


def started(folder, *arguments, prefix=None, **options):
    words = for_everyone() if prefix is None else prefix
    if not {"--bind", "--uds"}.intersection(arguments):
        arguments = ("--port", "0", *arguments)
    return Lineage("main:app", *arguments, cwd=folder, prefix=words, **options)


def rights(text):
    found = json.loads(text)
    found.pop("umask")
    return found


NOBODYS = {"uid": [NOBODY.pw_uid] * 3, "gid": [NOBODY.pw_gid] * 3}


def groups_of_nobody():
    return sorted({*os.getgrouplist("nobody", NOBODY.pw_gid)})


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("user", ["nobody", str(NOBODY.pw_uid)])
def test_user_the_import_and_every_worker_are_without_roots_rights_and_there_is_no_way_back(folder, user, workers):
    with started(folder, "--user", user, "--workers", workers) as server:
        imported = server.wait_for("imported with").partition("with ")[2]
        for found in (rights(imported), rights(get(server.address)[1])):
            assert sorted(found.pop("groups")) == groups_of_nobody()
            assert found == NOBODYS
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        server.stop()
        assert "Traceback" not in server.log


def test_group_is_instead_of_the_users_own(folder):
    with started(folder, "--user", "nobody", "--group", "daemon") as server:
        found = rights(get(server.address)[1])
        assert found["uid"] == [NOBODY.pw_uid] * 3
        assert found["gid"] == [1] * 3
        assert 0 not in found["groups"]


def test_user_without_an_entry_has_the_group_that_is_given_and_no_other(folder):
    with started(folder, "--user", "12345", "--group", "54321") as server:
        assert rights(get(server.address)[1]) == {"uid": [12345] * 3, "gid": [54321] * 3, "groups": [54321]}


def test_port_below_1024_and_sigusr2_go_on_with_the_same_sockets(folder):
    with started(folder, "--user", "nobody", "--bind", "127.0.0.1:983") as server:
        new = server.upgrade()
        assert server.end() == 0
        assert rights(get(("127.0.0.1", 983))[1])["uid"] == [NOBODY.pw_uid] * 3
        assert Path(f"/proc/{new}").stat().st_uid in (0, NOBODY.pw_uid)
        server.stop_newest()
        assert "needs root" not in server.log


def test_unix_socket_is_the_users_and_umask_says_who_may_connect(folder):
    path = folder / "http.sock"
    with started(folder, "--user", "nobody", "--group", "daemon", "--uds", str(path), "--umask", "007") as server:
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (NOBODY.pw_uid, 1, 0o660)
        assert get(str(path))[0] == 200
        server.stop()
        assert "Traceback" not in server.log


def test_umask_is_that_of_the_application_and_of_a_socket_that_was_left_behind(folder):
    path = folder / "http.sock"
    with started(folder, "--uds", str(path), prefix=[]) as server:
        assert path.stat().st_mode & 0o777 == 0o666
        server.process.kill()
        server.end()
    with started(folder, "--uds", str(path), "--umask", "0o027", prefix=[]) as server:
        assert path.stat().st_mode & 0o777 == 0o640
        assert json.loads(server.wait_for("imported with").partition("with ")[2])["umask"] == 0o027


def test_unix_socket_in_a_folder_where_the_user_may_not_write_stays_at_the_end_and_is_replaced(folder):
    path = folder / "http.sock"
    for _ in range(2):
        with started(folder, "--user", "nobody", "--uds", str(path)) as server:
            assert get(str(path))[0] == 200
            assert server.stop() == 143
            assert "Traceback" not in server.log
        assert path.exists()


def test_sighup_keeps_user_group_and_umask_which_is_logged(folder):
    (folder / "pounce.toml").write_text("umask = '027'\n")
    with started(folder, prefix=[]) as server:
        (folder / "pounce.toml").write_text("umask = '077'\nuser = 'nobody'\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for("--umask cannot change while the server runs: it stays 027, not 077.")
        server.wait_for("--user cannot change while the server runs: it stays the default, not nobody.")


def test_pid_file_needs_a_folder_of_the_users(folder):
    with started(folder, "--user", "nobody", "--pid-file", "server.pid", ready=False) as server:
        assert server.end() == 3
        (line,) = [line for line in server.lines if "ERROR" in line]
        assert f"permission denied; user {NOBODY.pw_uid} needs a folder to write to" in line
    (folder / "run").mkdir()
    os.chown(folder / "run", NOBODY.pw_uid, NOBODY.pw_gid)
    with started(folder, "--user", "nobody", "--pid-file", "run/server.pid") as server:
        assert (folder / "run" / "server.pid").exists()
        server.stop()
    assert not (folder / "run" / "server.pid").exists()


def test_log_files_are_opened_with_the_users_rights(folder):
    (folder / "log").mkdir()
    os.chown(folder / "log", NOBODY.pw_uid, NOBODY.pw_gid)
    (folder / "log.json").write_text(json.dumps({
        "version": 1, "disable_existing_loggers": False,
        "handlers": {
            "file": {"class": "logging.FileHandler", "filename": "log/server.log"},
            "console": {"class": "logging.StreamHandler"},
        },
        "loggers": {"pounce": {"handlers": ["file", "console"], "level": "INFO"}},
    }))  # fmt: skip
    with started(folder, "--user", "nobody", "--log-config", "log.json") as server:
        server.stop()
    assert (folder / "log" / "server.log").stat().st_uid == NOBODY.pw_uid
    assert "Started server process" in (folder / "log" / "server.log").read_text()


def test_a_user_who_may_not_read_the_folder_of_the_application_is_told_so(folder):
    folder.chmod(0o700)
    with started(folder, "--user", "nobody", ready=False) as server:
        assert server.end() == 3
        (line,) = [line for line in server.lines if "ERROR" in line]
        assert line.endswith(f"--user nobody: this user may not read the application's folder {folder}")


def test_without_root_it_is_one_line_and_the_application_is_not_imported(folder):
    as_nobody = [*for_everyone(), "setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    for arguments in (["--user", "daemon"], ["--group", "daemon"]):
        with started(folder, *arguments, prefix=as_nobody, ready=False) as server:
            assert server.end() == 3
            (line,) = server.lines
            assert f"{' '.join(arguments)} needs root's rights, and this process is of user {NOBODY.pw_uid}" in line


def test_without_root_the_user_who_starts_it_may_be_named(folder):
    as_nobody = [*for_everyone(), "setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    with started(folder, "--user", "nobody", prefix=as_nobody) as server:
        assert rights(get(server.address)[1])["uid"] == [NOBODY.pw_uid] * 3


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"user": "wwwdata"}, "--user wwwdata: there is no such user"),
        ({"user": "nobody", "group": "nobodys"}, "--group nobodys: there is no such group"),
        ({"user": 54321}, "--user 54321: this user has no entry of its own; give a --group as well"),
    ],
)
def test_a_user_or_group_that_does_not_exist_is_named(options, wanted):
    with pytest.raises(ConfigError) as caught:
        Privileges(Config("a:b", **options))
    assert str(caught.value) == wanted


def test_a_user_that_does_not_exist_ends_the_start_with_2_and_one_line(folder):
    with started(folder, "--user", "wwwdata", prefix=[], ready=False) as server:
        assert server.end() == 2
        assert server.lines == ["ERROR:    --user wwwdata: there is no such user"]


def test_a_sandbox_that_allows_no_change_of_groups_is_one_line(monkeypatch):
    def refuse(*_arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setgroups", refuse)
    with pytest.raises(StartupError, match=r"^--group 54321 needs root's rights"):
        Privileges(Config("a:b", group=54321)).drop([])


@pytest.mark.parametrize("text", ["8", "1000", "-1", "0x3f", "rwx", "1.0"])
def test_umask_that_is_no_octal_number_is_refused(text):
    with pytest.raises(ConfigError, match="not an octal number from 000 to 777"):
        Config("a:b", umask=text)


@pytest.mark.parametrize(("given", "wanted"), [("027", 0o27), ("0o27", 0o27), ("0", 0), (0o77, 0o77), (None, None)])
def test_umask_is_octal_where_it_is_text(given, wanted):
    assert Config("a:b", umask=given).umask == wanted


def test_a_user_who_may_not_read_the_interpreter_is_told_so(folder):
    if not for_everyone():
        pytest.skip("needs an interpreter that other users may not read, as in root's home")
    with started(folder, "--user", "nobody", prefix=[], ready=False) as server:
        assert server.end() == 3
        (line,) = [line for line in server.lines if "ERROR" in line]
        assert "--user nobody: this user may not read the interpreter's folder " in line
