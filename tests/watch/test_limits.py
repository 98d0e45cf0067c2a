"""What the watcher does where the system gives it less than it needs: it polls, and one line of the log says why."""

import errno
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pounce.watch import inotify, mounts, watcher
from pounce.watch import tree as trees
from tests.watch.conftest import write


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="pounce.error")
    return lambda: [record.getMessage() for record in caplog.records]


class Failing(inotify.Calls):
    """Has watches for `left` folders, then fails with ENOSPC."""

    left = 0

    def __init__(self):
        super().__init__()
        add = self.add

        def limited(*arguments):
            if Failing.left == 0:
                inotify.ctypes.set_errno(errno.ENOSPC)
                return -1
            Failing.left -= 1
            return add(*arguments)

        self.add = limited


@pytest.mark.parametrize("left", [0, 2])
def test_a_full_table_of_watches_has_the_files_polled(left, watched, tree, lines, monkeypatch):
    monkeypatch.setattr(inotify, "Calls", Failing)
    monkeypatch.setattr(Failing, "left", left)
    it = watched()
    assert it.watcher.how == "polling"
    (line,) = lines()
    assert line.startswith(f"Changes are found by polling: {tree}")
    assert line.endswith(": no inotify watch is left for it; raise fs.inotify.max_user_watches")
    write(tree / "shop" / "deep" / "er" / "views.py", "x = 2222\n")
    it.only(tree / "shop" / "deep" / "er" / "views.py")


def test_a_table_of_watches_that_becomes_full_has_the_files_polled_and_loses_nothing(watched, tree, lines, monkeypatch):
    monkeypatch.setattr(inotify, "Calls", Failing)
    monkeypatch.setattr(Failing, "left", 6)
    it = watched()
    assert it.watcher.how == "inotify"
    made = [write(tree / f"{n}" / "deep" / "new.py") for n in range(10)]
    write(tree / "main.py", "x = 2222\n")
    it.until_changed(tree / "main.py", *made)
    assert it.watcher.how == "polling"
    assert len(lines()) == 1
    write(made[7], "x = 2222\n")
    it.only(made[7])


PROGRAM = """
import logging, sys, pathlib
from pounce.kernel.loop import Loop
from pounce.watch.filter import Filter
from pounce.watch.watcher import watch
logging.basicConfig(format="%(message)s")
tree = pathlib.Path(sys.argv[1])
loop, changed = Loop(), []
watcher = watch(loop, Filter([str(tree)], [], []), changed.append, 0.0)
(tree / "f3" / "a.py").write_text("changed")
while not changed:
    loop.turn(1.0)
print(watcher.how, changed)
"""


@pytest.mark.parametrize(
    ("limit", "setting"), [("max_inotify_watches", "max_user_watches"), ("max_inotify_instances", "max_user_instances")]
)
def test_a_limit_of_the_kernel_has_the_files_polled(limit, setting, tmp_path):
    # The limits can be set for a user namespace.
    for n in range(10):
        write(tmp_path / "tree" / f"f{n}" / "a.py")
    few = "0" if "instances" in limit else "5"
    script = f'echo {few} > /proc/sys/user/{limit} || exit 77; exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        [*command, tmp_path / "tree"], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(os.path.dirname(watcher.__file__)))},
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("needs user namespaces that this user may make")
    assert done.stdout == f"polling [{{'{tmp_path}/tree/f3/a.py'}}]\n", done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("Changes are found by polling: ")
    assert line.endswith(f"raise fs.inotify.{setting}")


def test_a_queue_that_overflows_has_every_folder_compared(watched, tree, monkeypatch):
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("the queue of this system is too long to be filled in a moment")
    overflows = []
    original = trees.Tree.rescan
    monkeypatch.setattr(trees.Tree, "rescan", lambda self: overflows.append(1) or original(self))
    it = watched()
    for n in range(limit + 100):  # an event that is that of the file before is merged with it
        (tree / f"{n % 10}.txt").write_text("")
    new = write(tree / "new" / "folder" / "file.py")
    write(tree / "shop" / "models.py", "x = 2222\n")
    it.only(tree / "shop" / "models.py", new)
    assert overflows
    write(new, "x = 33333\n")
    it.only(new)


def test_a_tree_of_too_many_folders_is_watched_in_part(watched, tree, lines, monkeypatch):
    for n in range(20):
        write(tree / f"a{n}" / "b.py")
    monkeypatch.setattr(trees, "MAX_FOLDERS", 10)
    it = watched()
    (line,) = lines()
    assert "is not watched: there are more than 10 folders; name those that matter with --reload-dir" in line
    write(tree / "main.py", "x = 2222\n")
    it.only(tree / "main.py")


def test_a_very_deep_tree_is_watched_in_part(watched, tree):
    deep = tree.joinpath(*["d"] * 300)
    write(deep / "file.py")
    it = watched()
    write(deep / "file.py", "x = 2222\n")
    it.nothing()


MOUNTS = textwrap.dedent("""\
    22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/vda rw
    23 22 0:22 / /home/me/my\\040work rw,relatime - 9p host rw
    24 23 0:22 / /home/me/my\\040work/local rw,relatime master:1 - tmpfs tmpfs rw
    25 22 0:23 / /mnt rw - nfs4 server:/ rw
    nonsense
    """)


@pytest.mark.parametrize(
    ("folder", "type"),
    [
        ("/home/me", ""),
        ("/home/me/my work", "9p"),
        ("/home/me/my work/app/sub", "9p"),
        ("/home/me/my work/local/app", ""),
        ("/mnt/app", "nfs4"),
        ("/mnt2", ""),
    ],
)
def test_file_systems_that_report_nothing_are_recognised(folder, type, tmp_path):
    (tmp_path / "mountinfo").write_text(MOUNTS)
    said = mounts.silent(["/", folder], str(tmp_path / "mountinfo"))
    assert said == (f"{folder} is on {type}, where changes from outside are not reported" if type else "")


def test_a_system_without_a_table_of_mounts_is_asked_for_inotify(tmp_path):
    assert mounts.silent(["/"], str(tmp_path / "none")) == ""


def test_a_system_with_neither_inotify_nor_watchfiles_is_polled_and_the_extra_named(watched, tree, lines, monkeypatch):
    def unsupported():
        raise inotify.Unsupported

    monkeypatch.setattr(inotify, "Calls", unsupported)
    monkeypatch.setattr(watcher.importlib.util, "find_spec", lambda _name: None)
    it = watched()
    assert it.watcher.how == "polling"
    assert lines() == ["Changes are found by polling: watchfiles is not installed; pip install 'pounce-asgi[reload]'"]


def test_a_process_of_watchfiles_that_ends_has_the_files_polled(watched, tree, lines, monkeypatch):
    def unsupported():
        raise inotify.Unsupported

    monkeypatch.setattr(inotify, "Calls", unsupported)
    monkeypatch.setattr(watcher.importlib.util, "find_spec", lambda _name: True)
    monkeypatch.setattr("pounce.watch.watchfiles.PROGRAM", "raise SystemExit(3)")
    it = watched()
    it.until(lambda: it.watcher.how == "polling")
    assert lines() == ["Changes are found by polling: watchfiles has ended with code 3"]
    write(tree / "main.py", "x = 2222\n")
    it.only(tree / "main.py")
