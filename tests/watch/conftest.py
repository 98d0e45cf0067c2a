"""A folder that is watched, in each of the ways."""

from pathlib import Path

import pytest

from pounce.kernel.loop import Loop
from pounce.watch import inotify, mounts, watcher
from pounce.watch.filter import Filter
from tests.support.requirements import library


def pytest_collection_modifyitems(items):
    """A change has settled after some milliseconds, and polling waits for its next look."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.waits)


WAYS = (
    "inotify",
    "polling",
    pytest.param("watchfiles", marks=pytest.mark.processes),  # the library runs in a program of its own
)


class Watched:
    """A watcher of `folder`, on a loop that the test turns."""

    def __init__(self, folder, delay=0.0, roots=(), includes=(), excludes=(), files=()):
        self.folder = folder
        self.loop = Loop()
        self.calls = []
        """The paths of each call of on_change."""
        folders = [str(root) for root in roots or [folder]]
        filter = Filter(folders, includes, excludes, [str(file) for file in files])
        self.watcher = watcher.watch(self.loop, filter, self.calls.append, delay)

    @property
    def changed(self):
        return set().union(*self.calls)

    def until(self, condition):
        """Turns the loop until the condition holds; the test's time limit ends it."""
        while not condition():
            self.loop.turn(1.0)

    def until_changed(self, *paths):
        """Waits until these files were reported, and forgets the reports. Returns all paths that were."""
        wanted = {str(path) for path in paths}
        self.until(lambda: wanted <= self.changed)
        changed = self.changed
        self.calls.clear()
        return changed

    def only(self, *paths):
        """These files are reported, and no other before the next change."""
        assert self.until_changed(*paths) == {str(path) for path in paths}

    def nothing(self):
        """What was done is no change: the next one is reported alone."""
        last = self.folder / "last.py"
        write(last, f"{len(last.read_bytes()) if last.exists() else 0} {'x' * 64}")
        self.only(last)

    def close(self):
        self.watcher.close()
        self.loop.close()


def write(path, text="x = 1\n"):
    """Makes a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def tree(tmp_path):
    """The folder that is watched."""
    folder = (tmp_path / "tree").resolve()
    write(folder / "main.py")
    write(folder / "shop" / "models.py")
    write(folder / "shop" / "deep" / "er" / "views.py")
    write(folder / "index.html")
    return folder


@pytest.fixture
def watched(tree, request):
    """Makes the watchers of a test, and closes them."""
    made = []

    def make(*args, **kwargs):
        made.append(Watched(tree, *args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.close()


def unsupported():
    raise inotify.Unsupported


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Each way of watching, as the one that this system has."""
    monkeypatch.setattr(watcher, "ROOTS_INTERVAL", 0.1)
    if request.param == "polling":
        monkeypatch.setattr(mounts, "silent", lambda *_: "a test")
    elif request.param == "watchfiles":
        library("watchfiles")
        monkeypatch.setattr(inotify, "Calls", unsupported)
    return request.param
