"""--pid-file: when it is written and removed, and whose it is."""

import os
import signal

import pytest

from pounce.errors import StartupError
from pounce.supervisor.pid_file import PidFile
from tests.support.server import get
from tests.support.upgrades import Lineage, write_version


@pytest.fixture
def folder(tmp_path):
    write_version(tmp_path, "one")
    return tmp_path


def started(folder, *arguments, **options):
    return Lineage("main:app", "--port", "0", *arguments, cwd=folder, **options)


def refusal(folder, path):
    with started(folder, "--pid-file", str(path), ready=False) as server:
        assert server.end() == 3
        (line,) = server.lines
        return line.removeprefix("ERROR:").strip()


def files(folder):
    return sorted(path.name for path in folder.iterdir() if "pid" in path.name)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_is_there_from_when_clients_are_let_in_to_the_end(folder, workers):
    write_version(folder, "one", before=(
        "import os, pounce\nprint('before:', os.path.exists('server.pid'), flush=True)\nos.chdir('/')\n"
    ))  # fmt: skip
    with started(folder, "--pid-file", "server.pid", "--workers", workers) as server:
        assert get(server.address)[0] == 200
        assert (folder / "server.pid").read_text() == f"{server.process.pid}\n"
        assert "before: False" in server.log
        server.stop()
    assert files(folder) == []


def test_sigusr2_the_new_process_puts_its_own_there_and_the_old_one_leaves_it(folder):
    with started(folder, "--pid-file", "server.pid") as server:
        for version in ("two", "three"):
            write_version(folder, version)
            new = server.upgrade()
            assert (folder / "server.pid").read_text() == f"{new}\n"
        assert server.end() == 0
        assert (folder / "server.pid").read_text() == f"{new}\n"
        server.stop_newest()
    assert files(folder) == []


def test_sigusr2_without_success_leaves_the_file_to_the_old_process(folder):
    with started(folder, "--pid-file", "server.pid") as server:
        write_version(folder, "broken", before="raise RuntimeError\n")
        server.order_upgrade()
        server.wait_for("this one goes on")
        assert (folder / "server.pid").read_text() == f"{server.process.pid}\n"
        assert files(folder) == ["server.pid"]


def test_that_of_a_killed_server_is_replaced_even_where_its_number_is_another_process_now(folder):
    with started(folder, "--pid-file", "server.pid", "--workers", "2") as server:
        server.process.send_signal(signal.SIGKILL)
        server.end()
    assert files(folder) == ["server.pid"]
    (folder / "server.pid").write_text(f"{os.getpid()}\n")
    with started(folder, "--pid-file", "server.pid") as server:
        assert (folder / "server.pid").read_text() == f"{server.process.pid}\n"
        server.stop()
    assert files(folder) == []


def test_that_of_another_server_which_runs_ends_the_start(folder):
    with started(folder, "--pid-file", "server.pid") as server:
        path = folder / "server.pid"
        assert refusal(folder, path) == (
            f"--pid-file {path}: it is the file of the server with process {server.process.pid}, which runs; stop "
            "that, or name another file"
        )
        assert path.read_text() == f"{server.process.pid}\n"
        server.stop()
    assert files(folder) == []


def test_one_that_someone_has_put_in_its_place_is_not_removed(folder):
    with started(folder, "--pid-file", "server.pid") as server:
        (folder / "server.pid").unlink()
        (folder / "server.pid").write_text("1\n")
        server.stop()
    assert (folder / "server.pid").read_text() == "1\n"


def test_a_start_that_fails_leaves_none(folder):
    write_version(folder, "broken", before="raise RuntimeError\n")
    with started(folder, "--pid-file", "server.pid", ready=False) as server:
        assert server.end() == 1
    assert files(folder) == []


def test_a_place_where_none_can_be_ends_the_start_before_the_application_is_imported(folder):
    write_version(folder, "one", before="print('imported')\n")
    nowhere = folder / "missing" / "server.pid"
    assert refusal(folder, nowhere) == (
        f"--pid-file {nowhere}: no such file or directory; user {os.geteuid()} needs a folder to write to, such as "
        "that of RuntimeDirectory= in a systemd unit"
    )


@pytest.mark.parametrize("path", ["/dev/null", "/tmp"])
def test_what_is_there_and_no_file_is_left_alone(path):
    with pytest.raises(StartupError, match="there is something that is not a file"):
        PidFile(path).check(has_predecessor=False)


def test_a_failure_when_the_time_has_come_is_one_line_and_the_server_serves(folder):
    (folder / "run").mkdir()
    write_version(folder, "one", before="import os\nos.rmdir('run')\n")
    with started(folder, "--pid-file", "run/server.pid") as server:
        assert get(server.address)[0] == 200
        assert "ERROR:    --pid-file" in server.wait_for("cannot be written: no such file or directory.")
        server.stop()
        assert "Traceback" not in server.log


def test_umask_holds_for_it(folder):
    with started(folder, "--pid-file", "server.pid", "--umask", "077"):
        assert (folder / "server.pid").stat().st_mode & 0o777 == 0o600
