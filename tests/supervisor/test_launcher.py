"""A new server process under a service manager: whose child it is when it becomes the main one, and that nothing else
of an upgrade is different for it."""

import os
import signal
import sys

import pytest

from pounce.supervisor.launcher import Launched
from tests.support.server import begin, get
from tests.support.upgrades import Lineage, alive, parent, wait_ended, write_version

IMPORTING = "import os, time\nprint('importing', os.getpid(), os.getppid(), flush=True)\n"
HANGS = "while not os.path.exists('gate'): time.sleep(0.01)\n"


@pytest.fixture
def folder(tmp_path):
    write_version(tmp_path, "one")
    return tmp_path


def started(folder, manager, *arguments):
    env = {"NOTIFY_SOCKET": manager.address}
    server = Lineage("main:app", "--port", "0", "--workers", "1", *arguments, cwd=folder, env=env)
    assert manager.next() == ["READY=1"]
    return server


def importing(server):
    """The numbers of the new process and of its parent."""
    _, new, launcher = server.wait_for("importing").split()
    return int(new), int(launcher)


def test_mainpid_names_a_process_that_is_not_its_predecessors_child(folder, manager):
    with started(folder, manager) as server:
        write_version(folder, "two", before=IMPORTING)
        server.order_upgrade()
        new, launcher = importing(server)
        assert launcher != server.process.pid
        assert manager.next()[0] == "RELOADING=1"
        assert manager.next() == [f"MAINPID={new}", "READY=1"]
        assert parent(new) not in (launcher, server.process.pid)
        assert not alive(launcher)
        assert server.end() == 0
        assert get(server.address) == (200, b"two")
        server.stop_newest()


@pytest.mark.parametrize(
    ("change", "code"),
    [("raise RuntimeError('as told')\n", 1), ("os._exit(7)\n", 7), ("os.kill(os.getpid(), 9)\n", 137),
     ("os.kill(os.getpid(), 11)\n", 139)],
)  # fmt: skip
def test_exit_codes_and_signals_of_a_new_process_that_does_not_start_are_logged_with_its_number(
    folder, manager, change, code
):
    with started(folder, manager) as server:
        write_version(folder, "broken", before=IMPORTING + change)
        server.order_upgrade()
        new, launcher = importing(server)
        server.wait_for(f"The new server process [{new}] has ended with code {code} before it was ready")
        assert not alive(new)
        assert not alive(launcher)
        assert get(server.address) == (200, b"one")


def test_sigterm_meanwhile_ends_the_old_process_the_new_one_and_the_launcher(folder, manager):
    with started(folder, manager) as server:
        write_version(folder, "two", before=IMPORTING + HANGS)
        server.order_upgrade()
        pids = importing(server)
        assert server.stop() == 143
        assert not any(map(alive, pids))


def test_a_new_process_that_ignores_sigterm_is_killed(folder, manager):
    with started(folder, manager, "--timeout-graceful-shutdown", "0.1") as server:
        ignores = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        write_version(folder, "two", before=ignores + IMPORTING + HANGS)
        server.order_upgrade()
        pids = importing(server)
        assert server.stop() == 143
        for pid in pids:
            wait_ended(pid)


def test_the_log_names_the_process_that_a_signal_ends(folder, manager):
    with started(folder, manager) as server:
        write_version(folder, "two", before=IMPORTING + HANGS)
        server.order_upgrade()
        new, _ = importing(server)
        server.send_signal(signal.SIGUSR2)
        assert server.wait_for("SIGUSR2 is ignored").endswith(f"to end it: kill {new}")
        os.kill(new, signal.SIGTERM)
        server.wait_for(f"The new server process [{new}] has ended with code")


def test_a_launcher_that_is_killed_takes_the_new_process_with_it(folder, manager):
    with started(folder, manager) as server:
        write_version(folder, "two", before=IMPORTING + HANGS)
        server.order_upgrade()
        new, launcher = importing(server)
        os.kill(launcher, signal.SIGKILL)
        server.wait_for("has ended with code 137 before it was ready")
        wait_ended(new)
        assert get(server.address) == (200, b"one")


def test_a_predecessor_that_is_killed_leaves_no_launcher_behind(folder, manager):
    with started(folder, manager) as server:
        write_version(folder, "two", before=IMPORTING + HANGS)
        server.order_upgrade()
        new, launcher = importing(server)
        server.process.kill()
        server.process.wait(30)
        waiting = begin(server.address, "/")
        (folder / "gate").touch()
        assert manager.next()[0] == "RELOADING=1"
        assert manager.next() == [f"MAINPID={new}", "READY=1"]
        assert parent(new) != launcher
        assert not alive(launcher)
        assert b"two" in waiting.recv(4096)
        waiting.close()
        os.kill(new, signal.SIGTERM)
        wait_ended(new)


@pytest.mark.parametrize("serves", [True, False])
def test_a_launcher_that_is_killed_takes_a_process_that_serves_already_not_with_it(manager, monkeypatch, serves):
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    environment = dict(os.environb)
    launched = Launched([sys.executable, "-c", "import time; time.sleep(120)"], "/", environment, [])
    launched.process.kill()
    launched.leave(serves=serves)
    if not serves:
        wait_ended(launched.pid)
        return
    assert alive(launched.pid)
    os.kill(launched.pid, signal.SIGKILL)
    wait_ended(launched.pid)
