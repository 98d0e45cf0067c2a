"""`NewProcess`: what an upgrade reads of a new server process, whatever that does, and in whatever order."""

import contextlib
import os
import signal
import socket
import sys
import time

import pytest

from pounce.config.bind import Bind
from pounce.kernel.loop import Loop
from pounce.supervisor.inheritance import Command
from pounce.supervisor.upgrade import NewProcess
from tests.support.sockets import opened
from tests.support.upgrades import alive, parent

# The descriptors as the new process has them, and what it writes to its predecessor.
BEGIN = """
import os, signal, sys, time
listeners, ready = os.environ.get("POUNCE_LISTENERS", ""), int(os.environ["POUNCE_READY_FD"])
"""


class Upgrade:
    def __init__(self, script, *listeners):
        self.loop = Loop()
        self.ended = []
        command = Command([sys.executable, "-c", BEGIN + script], "/", dict(os.environb))
        self.process = NewProcess(self.loop, command, listeners, lambda: self.ended.append("ready"), self.ended.append)

    def outcome(self):
        end = time.monotonic() + 30
        while not self.ended:
            assert time.monotonic() < end
            self.loop.turn(1)
        return self.ended

    def close(self):
        launched = self.process._launched
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        if launched.process.pid == self.process.pid:
            launched.process.returncode = None
            launched.process.wait()
        else:
            launched.leave(serves=False)
            while alive(self.process.pid):  # it is no child of this process
                time.sleep(0.01)
        self.loop.close()


@pytest.fixture(params=[False, True], ids=["child", "service manager"])
def _manager(request, monkeypatch, tmp_path):
    """Under a service manager the new process is to be the manager's child, when it is ready."""
    if request.param:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))


@pytest.fixture
def upgrade(_manager):
    made = []

    def make(script, *listeners):
        made.append(Upgrade(script, *listeners))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(params=[True, False], ids=["pidfd", "no pidfd"])
def _pidfd(request, monkeypatch):
    if not request.param:

        def fail(pid):
            raise OSError

        monkeypatch.setattr(os, "pidfd_open", fail)


WAITS = "time.sleep(600)\n"


def test_ready_hands_on_the_listeners_that_were_taken_and_no_others(upgrade):
    with opened(Bind("", host="127.0.0.1"), workers=2) as (taken,), opened(Bind("", host="127.0.0.1")) as (left,):
        one = upgrade("os.write(ready, b' '.join(listeners.encode().split()[:2]) + b'\\n')\n" + WAITS, taken, left)
        assert one.outcome() == ["ready"]
        assert (taken.inherited, left.inherited) == (True, False)


def test_under_a_service_manager_a_process_that_is_ready_has_lost_its_parent_and_becomes_the_managers(upgrade):
    one = upgrade("os.write(ready, b'\\n')\n" + WAITS)
    launcher = one.process._launched.process
    assert parent(one.process.pid) == (os.getpid() if launcher.pid == one.process.pid else launcher.pid)
    assert one.outcome() == ["ready"]
    if "NOTIFY_SOCKET" in os.environ:
        assert launcher.returncode == 0
        assert parent(one.process.pid) not in (os.getpid(), launcher.pid)


def test_a_launcher_that_is_killed_takes_the_new_process_with_it(upgrade):
    one = upgrade(WAITS)
    one.process._launched.process.send_signal(signal.SIGKILL)
    assert one.outcome() == [137]
    while alive(one.process.pid):
        time.sleep(0.01)


def test_the_new_process_has_the_sockets_and_the_pipe_and_no_other_descriptors(upgrade):
    with opened(Bind("", host="127.0.0.1")) as (listener,), socket.create_server(("127.0.0.1", 0)) as other:
        other.set_inheritable(True)
        script = (
            "import socket\n"
            "found = {int(name) for name in os.listdir('/proc/self/fd')} - {0, 1, 2}\n"
            "mine = {int(listeners), ready}\n"
            "sock = socket.socket(fileno=int(listeners))\n"
            f"right = sock.getsockname()[1] == {listener.address[1]} and {other.fileno()} not in found\n"
            "sys.exit(0 if right and mine <= found else 9)\n"
        )
        assert upgrade(script, listener).outcome() == [0]


@pytest.mark.usefixtures("_pidfd")
def test_a_message_in_pieces_is_read_whole(upgrade):
    script = "for byte in b'7 8\\n':\n    os.write(ready, bytes([byte]))\n    time.sleep(0.01)\n"
    assert upgrade(script + WAITS).outcome() == ["ready"]


@pytest.mark.usefixtures("_pidfd")
def test_a_process_that_ends_right_after_it_was_ready_was_ready(upgrade):
    for _ in range(5):
        one = upgrade("os.write(ready, b'\\n')\n")
        while alive(one.process.pid):
            pass
        assert one.outcome() == ["ready"]
        one.loop.turn(0)
        assert one.ended == ["ready"]


@pytest.mark.usefixtures("_pidfd")
@pytest.mark.parametrize(("script", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137), ("1/0", 1)])
def test_the_exit_code_is_that_of_a_shell(upgrade, script, code):
    assert upgrade("os.close(2)\n" + script).outcome() == [code]


@pytest.mark.usefixtures("_pidfd")
def test_a_process_that_closes_the_pipe_is_heard_of_when_it_ends(upgrade):
    assert upgrade("os.close(ready)\ntime.sleep(0.3)\nsys.exit(4)\n").outcome() == [4]


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux, which tells when a process has ended")
def test_a_process_whose_child_holds_the_pipe_is_heard_of_when_it_ends(upgrade):
    script = "if not os.fork():\n    os.close(2)\n    time.sleep(5)\n    os._exit(0)\nos._exit(6)\n"
    assert upgrade(script).outcome() == [6]


def test_stop_ends_it_in_order_and_once(upgrade, caplog):
    caplog.set_level("INFO", "pounce.error")
    one = upgrade("signal.signal(signal.SIGTERM, signal.SIG_DFL)\n" + WAITS)
    one.process.stop(30.0)
    one.process.stop(30.0)
    assert one.outcome() == [143]
    assert caplog.text.count("is not ready; it is ended") == 1


def test_abort_kills_it(upgrade):
    one = upgrade("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAITS)
    one.process.stop(None)
    one.process.abort()
    assert one.outcome() in ([137], [143])  # the latter: before it had run its first line


def test_a_command_that_cannot_be_executed_leaves_no_descriptor(tmp_path):
    loop = Loop()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="nowhere"):
        NewProcess(loop, Command([str(tmp_path / "nowhere")], "/", {}), [], lambda: None, lambda _: None)
    assert len(os.listdir("/proc/self/fd")) == before
    loop.close()
