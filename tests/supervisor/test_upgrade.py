"""SIGUSR2: a new server process takes over the listening sockets, or leaves everything as it was."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from tests.support.server import begin, get, single
from tests.support.upgrades import Asking, Lineage, alive, wait_ended, write_version

HANGS = "import signal, time\nprint('importing', os.getpid(), flush=True)\nwhile True: time.sleep(0.01)\n"


@pytest.fixture
def folder(tmp_path):
    write_version(tmp_path, "one")
    return tmp_path


def started(folder, *arguments, **options):
    return Lineage("main:app", "--port", "0", *arguments, cwd=folder, **options)


def hanging(folder, before=""):
    """The next process prints `importing` and its number, and hangs there."""
    write_version(folder, "two", before="import os\n" + before + HANGS)


def importing(server, count=1):
    return int(server.wait_for("importing", count=count).split()[1])


# The way it goes


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigusr2_loads_what_is_there_now_and_no_request_of_clients_that_ask_all_the_while_fails(folder, workers):
    with started(folder, "--workers", workers) as server, Asking(server.address) as clients:
        for version in ("two", "three", "four"):
            write_version(folder, version)
            server.upgrade()
            clients.wait_for(version.encode())
        assert server.end() == 0
        assert len(set(server.pids)) == 4
        server.stop_newest()  # the last requests are answered or refused
        assert {status for status, _ in clients.answers} == {200}
        assert all("refused" in failure for failure in clients.failures), clients.failures[:3]
    assert "Traceback" not in server.log
    assert server.log.count("Finished server process") == 4


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_that_runs_is_finished_by_the_old_process(tmp_path, workers):
    (tmp_path / "main.py").write_text(
        "import pounce\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan': raise RuntimeError\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'begun ', 'more_body': True})\n"
        "    if scope['path'] == '/slow':\n"
        "        while (await receive())['type'] != 'http.disconnect': pass\n"
        "    await send({'type': 'http.response.body', 'body': b'ended'})\n"
    )
    with started(tmp_path, "--workers", workers) as server:
        slow = begin(server.address, "/slow")
        assert b"begun" in slow.recv(4096)
        server.upgrade()
        server.wait_for("Shutting down")
        assert get(server.address)[0] == 200
        assert server.process.poll() is None
        slow.shutdown(socket.SHUT_WR)
        slow.close()
        assert server.end() == 0


def test_the_new_process_reads_file_environment_file_and_folder_again(folder):
    pytest.importorskip("dotenv")
    (folder / "app.env").write_text("WORD=first\n")
    (folder / "main.py").write_text(
        "import os\nos.chdir('/')\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan': raise RuntimeError\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': os.environ['WORD'].encode()})\n"
    )
    (folder / "pounce.toml").write_text("env-file = 'app.env'\nheaders = ['x-version: 1']\n")
    with started(folder) as server:
        assert get(server.address)[1] == b"first"
        (folder / "app.env").write_text("WORD=second\n")
        server.upgrade()
        assert server.end() == 0
        assert get(server.address)[1] == b"second"


def test_the_new_process_is_run_by_the_python_that_is_there_now(folder):
    python = folder / "python"
    python.symlink_to(sys.executable)
    path = os.pathsep.join(entry for entry in sys.path if entry)
    env = {"PYTHONPATH": path, "PWD": str(folder)}
    (folder / "main.py").write_text(
        "import os\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan': raise RuntimeError\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': os.environ.get('MARK', 'old').encode()})\n"
    )
    with started(folder, env=env, python=str(python)) as server:
        assert get(server.address)[1] == b"old"
        python.unlink()
        server.order_upgrade()
        server.wait_for(f"No new server process: cannot execute {python}: no such file or directory; this one goes on.")
        assert get(server.address)[1] == b"old"
        python.write_text(f'#!/bin/sh\nMARK=new exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        server.upgrade()
        assert server.end() == 0
        assert get(server.address)[1] == b"new"


def test_a_folder_that_is_a_link_is_followed_to_where_it_leads_now(tmp_path):
    """A deployment sets `current` to the next release."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_version(tmp_path / name, name)
    current = tmp_path / "current"
    current.symlink_to(tmp_path / "one")
    with started(current, env={"PWD": str(current)}) as server:
        assert get(server.address)[1].startswith(b"one")
        current.unlink()
        current.symlink_to(tmp_path / "two")
        shutil.rmtree(tmp_path / "one")
        server.upgrade()
        assert server.end() == 0
        assert get(server.address)[1].startswith(b"two")


@pytest.mark.parametrize(("before", "after"), [("1", "3"), ("3", "1"), ("2", "4"), ("4", "2")])
def test_more_or_fewer_workers_take_every_connection(folder, before, after):
    (folder / "pounce.toml").write_text(f"workers = {before}\n")
    with started(folder) as server, Asking(server.address) as clients:
        (folder / "pounce.toml").write_text(f"workers = {after}\n")
        for version in ("two", "three"):
            write_version(folder, version)
            server.upgrade()
            clients.wait_for(version.encode())
        assert server.end() == 0
        for _ in range(50):  # over all sockets, with only the newest process left to accept
            assert get(server.address)[0] == 200
        assert not clients.failures


def test_an_address_that_the_new_configuration_does_not_have_is_closed_as_at_a_stop(folder):
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [sock.getsockname()[1] for sock in (one, other)]
    toml = folder / "pounce.toml"
    toml.write_text(f"bind = ['127.0.0.1:{ports[0]}', 'unix:{folder}/old.sock']\nworkers = 2\n")
    with Lineage("main:app", cwd=folder) as server:
        toml.write_text(f"bind = ['127.0.0.1:{ports[0]}', '127.0.0.1:{ports[1]}']\nworkers = 2\n")
        assert get(str(folder / "old.sock"))[0] == 200
        server.upgrade()
        assert server.end() == 0
        for port in ports:
            assert get(("127.0.0.1", port))[0] == 200
        assert not (folder / "old.sock").exists()
        toml.write_text(f"bind = ['127.0.0.1:{ports[1]}']\nworkers = 2\n")
        old = server.newest
        server.upgrade()
        wait_ended(old)
        assert get(("127.0.0.1", ports[1]))[0] == 200
        with pytest.raises(ConnectionRefusedError):
            get(("127.0.0.1", ports[0]))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_uds_goes_on_with_its_file_and_ends_with_the_last_process(folder, workers):
    path = folder / "a.sock"
    with Lineage("main:app", "--uds", str(path), "--workers", workers, cwd=folder) as server:
        inode = path.stat().st_ino
        with Asking(str(path)) as clients:
            for version in ("two", "three"):
                write_version(folder, version)
                server.upgrade()
                clients.wait_for(version.encode())
            assert server.end() == 0
            assert path.stat().st_ino == inode
        assert not clients.failures
        server.stop_newest()
        assert not path.exists()


def test_fd_goes_on(folder):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.set_inheritable(True)
        address = sock.getsockname()
        with Lineage("main:app", "--fd", str(sock.fileno()), cwd=folder, pass_fds=[sock.fileno()]) as server:
            for version in ("two", "three"):
                old = server.newest
                write_version(folder, version)
                server.upgrade()
                wait_ended(old)
            assert get(address)[1].startswith(b"three")
            server.stop_newest()
        waiting = socket.create_connection(address, timeout=5)  # its owner still listens
        waiting.close()


def test_a_new_process_that_turns_to_worker_processes_takes_over_after_it_has_executed_itself_again(tmp_path):
    """An application that worker threads cannot run: found out by the import, with the sockets inherited."""
    if not single("2"):
        pytest.skip("workers are processes from the start where Python has the GIL")
    write_version(tmp_path, "one")
    with started(tmp_path, "--workers", "2") as server, Asking(server.address) as clients:
        write_version(tmp_path, "two", before="import pounce_needs_gil\n")
        (tmp_path / "pounce_needs_gil.py").write_text(
            "from pounce.supervisor import plan\nplan.has_gil = lambda: True\n"
        )
        server.upgrade()
        clients.wait_for(b"two")
        assert server.end() == 0
        server.wait_for("2 worker processes, because the application needs the GIL")
        assert not clients.failures


# A new process that does not get ready


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("change", "code"),
    [("raise RuntimeError('as told')\n", 1), ("import os\nos._exit(7)\n", 7), ("import sys\nsys.exit(5)\n", 5),
     ("import os\nos.kill(os.getppid() if FORKED else os.getpid(), 9)\n", 137)],
)  # fmt: skip
def test_a_new_process_that_ends_before_it_is_ready_changes_nothing(folder, workers, change, code):
    with started(folder, "--workers", workers) as server, Asking(server.address) as clients:
        write_version(folder, "broken", before=f"FORKED = {not single(workers)}\n{change}")
        for count in (1, 2):
            server.order_upgrade()
            line = server.wait_for("before it was ready; this one goes on.", count=count)
            assert f"has ended with code {code} " in line
        assert not any(b"broken" in content for _, content in clients.answers)
        write_version(folder, "mended")
        server.upgrade()
        clients.wait_for(b"mended")
        assert server.end() == 0
        assert not clients.failures


def test_an_invalid_configuration_and_a_taken_address_change_nothing(folder):
    with started(folder) as server, socket.create_server(("127.0.0.1", 0)) as taken:
        (folder / "pounce.toml").write_text("workers = 'many'\n")
        server.order_upgrade()
        server.wait_for("has ended with code 2 before it was ready")
        # The port of the command line is not asked for any more.
        (folder / "pounce.toml").write_text(f"bind = ['127.0.0.1:{taken.getsockname()[1]}']\n")
        server.order_upgrade()
        server.wait_for("has ended with code 3 before it was ready")
        assert "address already in use" in server.log
        assert get(server.address)[0] == 200


def test_a_second_sigusr2_while_the_new_process_starts_names_it_and_starts_no_other(folder):
    with started(folder) as server:
        hanging(folder)
        server.order_upgrade()
        new = importing(server)
        server.send_signal(signal.SIGUSR2)
        line = server.wait_for("SIGUSR2 is ignored")
        assert re.search(rf"the new server process \[{new}\] has been starting for \d+ s; to end it: kill {new}$", line)
        assert get(server.address)[1].startswith(b"one")
        os.kill(new, signal.SIGTERM)
        server.wait_for(f"The new server process [{new}] has ended with code")
        write_version(folder, "three")
        server.upgrade()
        assert server.end() == 0
        assert get(server.address)[1].startswith(b"three")


# A stop while the new process starts


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_while_the_new_process_starts_ends_both(folder, workers):
    with started(folder, "--workers", workers) as server:
        hanging(folder)
        server.order_upgrade()
        importing(server)
        assert server.stop() == (143 if single(workers) else 0)
        new = server.new_process()
        assert f"The new server process [{new}] is not ready; it is ended." in server.log
        assert not alive(new)
        with pytest.raises(ConnectionRefusedError):
            get(server.address)


def test_sigterm_kills_a_new_process_that_ignores_it(folder):
    with started(folder, "--timeout-graceful-shutdown", "0.1") as server:
        hanging(folder, before="import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n")
        server.order_upgrade()
        new = importing(server)
        assert server.stop() == 143
        wait_ended(new)


def test_a_second_sigterm_kills_the_new_process_at_once(folder):
    with started(folder) as server:
        hanging(folder, before="import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n")
        server.order_upgrade()
        new = importing(server)
        server.send_signal(signal.SIGTERM)
        server.wait_for("is not ready; it is ended")
        assert server.stop() == 143
        wait_ended(new)


def test_a_new_process_whose_predecessor_is_killed_takes_over_all_the_same(folder):
    with started(folder) as server:
        gate = folder / "gate"
        write_version(folder, "two", before=(
            "import os, time\nprint('importing', os.getpid(), flush=True)\n"
            f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        ))  # fmt: skip
        server.order_upgrade()
        new = importing(server)
        server.process.kill()
        server.process.wait(30)
        waiting = begin(server.address, "/")  # in the queue that the new process holds
        gate.touch()
        assert b"two" in waiting.recv(4096)
        waiting.close()
        os.kill(new, signal.SIGTERM)
        wait_ended(new)


# Whose signal it is


def test_sigusr2_is_ignored_by_the_first_process_of_a_container(folder):
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-pf", "--kill-child", "true"], capture_output=True).returncode:
        pytest.skip("needs unshare with the right to make a process namespace")
    with Lineage("main:app", "--port", "0", cwd=folder, prefix=(unshare, "-pf", "--kill-child")) as server:
        with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children") as file:
            first = int(file.read().split()[0])
        os.kill(first, signal.SIGUSR2)
        server.wait_for("SIGUSR2 is ignored: the end of this process, the container's first, ends the container")
        assert get(server.address)[0] == 200
        os.kill(first, signal.SIGTERM)
        server.end()


def test_sigusr2_of_a_program_that_runs_a_server_stays_the_program_s(folder):
    script = (
        "import signal, threading, pounce\n"
        "before = signal.getsignal(signal.SIGUSR2)\n"
        "async def app(scope, receive, send): raise RuntimeError\n"
        "server = pounce.Server(pounce.Config(app, port=0))\n"
        "def look():\n"
        "    assert server.wait_started(30)\n"
        "    print(signal.getsignal(signal.SIGUSR2) is before, flush=True)\n"
        "    server.should_exit = True\n"
        "threading.Thread(target=look).start()\n"
        "server.run()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=folder)
    assert "True" in done.stdout, done.stderr


def test_a_worker_process_ignores_sigusr2(folder):
    if single("2"):
        pytest.skip("workers are threads on this interpreter")
    with started(folder, "--workers", "2") as server:
        with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children") as file:
            children = [int(pid) for pid in file.read().split()]
        for pid in children:
            os.kill(pid, signal.SIGUSR2)
        for _ in range(10):
            assert get(server.address)[0] == 200
        assert "died" not in server.log
        assert all(alive(pid) for pid in children)
