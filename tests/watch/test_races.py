"""Files that change in any order, while the watcher looks at them: at rest it knows what is on the disk."""

import os
import random
import shutil
import threading

import pytest

from tests.watch.conftest import write

NAMES = ("a", "b", "c")
FILES = ("x.py", "y.py", "z.txt")


def shuffle(rng, tree, outside):
    """One thing that somebody does to a tree: errors are those of a person who is too fast."""
    folders = [path for path, _, _ in os.walk(tree)]
    folder = rng.choice(folders)
    path = os.path.join(folder, rng.choice(NAMES))
    file = os.path.join(folder, rng.choice(FILES))
    try:
        match rng.randrange(6):
            case 0 | 1 | 2:
                with open(file, "w") as opened:
                    opened.write("x" * rng.randrange(1, 100))
            case 3:
                os.unlink(file)
            case 4:
                os.rename(file, os.path.join(rng.choice(folders), rng.choice(FILES)))
            case 5 | 6:
                os.makedirs(os.path.join(path, rng.choice(NAMES)))
            case 7:
                os.rename(path, os.path.join(rng.choice(folders), rng.choice(NAMES)))
            case 8:
                shutil.rmtree(path)
            case 9:
                os.rename(path, os.path.join(outside, str(rng.random())))
            case 10:
                source = rng.choice(folders)
                if not path.startswith(source):
                    shutil.copytree(source, path, symlinks=True)
            case 11:
                os.symlink(rng.choice([*folders, outside, file]), path)
    except (OSError, shutil.Error):
        pass


def on_disk(tree):
    """The files that count, by their real paths; links are followed, each folder once."""
    found, seen, todo = {}, set(), [os.path.realpath(tree)]
    while todo:
        folder = todo.pop()
        if folder in seen or not os.path.isdir(folder):
            continue
        seen.add(folder)
        for entry in os.scandir(folder):
            real = os.path.realpath(entry.path)
            if os.path.isdir(real):
                todo.append(real)
            elif os.path.isfile(real) and (entry.name.endswith(".py") or real.endswith(".py")):
                about = os.stat(real)
                found[real] = (about.st_mtime_ns, about.st_size, about.st_ino)
    return found


def known(it):
    """What the watcher knows, without what is left of links that are gone."""
    tree = it.watcher._tree
    return {f"{folder.path}/{name}": state for folder, name, state in tree.all_files()}


def at_rest(it, tree):
    """Turns the loop until the watcher knows what is on the disk."""
    disk = on_disk(tree)
    it.until(lambda: disk.items() <= known(it).items())
    last = write(tree / "last.py", "z" * 1000)
    it.until_changed(last)
    return disk | on_disk(tree)


def check(it, tree):
    disk = at_rest(it, tree)
    inside = {path for path in known(it) if path.startswith(f"{tree}/")}
    assert inside == {path for path in disk if path.startswith(f"{tree}/")}
    for path in random.Random(1).sample(sorted(disk), min(5, len(disk))):  # all of it is still watched
        write(type(tree)(path), "w" * 2000)
        it.until_changed(path)


@pytest.mark.parametrize("seed", range(6))
def test_a_tree_that_changes_between_turns_is_known_at_rest(seed, watched, tree, tmp_path, way):
    rng = random.Random(seed)
    outside = tmp_path / "outside"
    outside.mkdir()
    it = watched()
    for _ in range(150):
        shuffle(rng, tree, outside)
        if rng.random() < 0.3:
            it.loop.turn(0.0)
    check(it, tree)


@pytest.mark.parametrize("seed", range(2))
def test_a_tree_that_changes_during_turns_is_known_at_rest(seed, watched, tree, tmp_path, way):
    outside = tmp_path / "outside"
    outside.mkdir()
    it = watched()
    together = threading.Barrier(3)

    def work(number):
        rng = random.Random(seed * 2 + number)
        together.wait()
        for _ in range(200):
            shuffle(rng, tree, outside)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    together.wait()
    while any(thread.is_alive() for thread in threads):
        it.loop.turn(0.001)
    for thread in threads:
        thread.join()
    check(it, tree)
