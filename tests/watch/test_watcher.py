"""What editors and tools do to files, and what the watcher says, in each of its ways."""

import contextlib
import gc
import itertools
import os
import shutil
import subprocess

import pytest

from pounce.watch import tree as trees
from tests.support.requirements import tool
from tests.watch.conftest import write

pytestmark = pytest.mark.usefixtures("way")


def test_the_watcher_says_how_it_watches(watched, way):
    assert watched().watcher.how == way


def test_a_file_that_is_written_in_place_is_reported(watched, tree):
    it = watched()
    write(tree / "main.py", "x = 22\n")
    it.only(tree / "main.py")
    write(tree / "shop/deep/er/views.py", "x = 33\n")
    it.only(tree / "shop/deep/er/views.py")


def test_a_file_that_is_appended_to_is_reported(watched, tree):
    it = watched()
    with (tree / "main.py").open("a") as file:
        file.write("y = 2\n")
    it.only(tree / "main.py")


def test_a_file_that_another_is_renamed_over_is_reported(watched, tree):
    it = watched()
    write(tree / ".main.py.tmp", "x = 2\n").replace(tree / "main.py")
    it.only(tree / "main.py")


def test_a_file_that_is_replaced_from_another_folder_is_reported(watched, tree, tmp_path):
    it = watched()
    write(tmp_path / "elsewhere" / "main.py", "x = 2\n").replace(tree / "main.py")
    it.only(tree / "main.py")


def test_vims_backup_and_rename_is_one_report_of_the_file(watched, tree):
    it = watched()
    write(tree / "4913", "")
    (tree / "4913").unlink()
    (tree / "main.py").rename(tree / "main.py~")
    write(tree / "main.py", "x = 2\n")
    (tree / "main.py~").unlink()
    it.only(tree / "main.py")
    assert not it.calls


def test_emacs_lock_and_swap_files_are_no_change(watched, tree):
    it = watched()
    os.symlink("somebody@host.1:2", tree / ".#main.py")
    write(tree / ".main.py.swp")
    write(tree / "~main.py")
    write(tree / "#main.py#")
    it.nothing()


def test_a_new_file_is_reported(watched, tree):
    it = watched()
    write(tree / "new.py")
    it.only(tree / "new.py")


def test_a_new_empty_file_is_reported(watched, tree):
    it = watched()
    write(tree / "new.py", "")
    it.only(tree / "new.py")


def test_a_file_that_is_linked_into_place_is_reported(watched, tree, tmp_path):
    it = watched()
    os.link(write(tmp_path / "other.py"), tree / "new.py")
    it.only(tree / "new.py")


def test_a_file_whose_time_is_set_is_reported(watched, tree):
    it = watched()
    os.utime(tree / "main.py", (1, 1))
    it.only(tree / "main.py")


def test_a_file_that_is_removed_is_reported(watched, tree):
    it = watched()
    (tree / "main.py").unlink()
    it.only(tree / "main.py")


def test_a_file_that_is_removed_and_made_again_is_reported(watched, tree):
    it = watched()
    (tree / "main.py").unlink()
    it.only(tree / "main.py")
    write(tree / "main.py")
    it.only(tree / "main.py")


def test_a_file_that_is_renamed_is_reported_by_both_names(watched, tree):
    it = watched()
    (tree / "main.py").rename(tree / "shop" / "other.py")
    it.only(tree / "main.py", tree / "shop" / "other.py")


def test_a_file_that_does_not_count_is_no_change(watched, tree):
    it = watched()
    write(tree / "index.html", "changed")
    write(tree / "new.txt")
    (tree / "index.html").unlink()
    it.nothing()


def test_a_program_that_reads_is_no_change(watched, tree):
    it = watched()
    (tree / "main.py").read_text()
    os.listdir(tree / "shop")
    it.nothing()


def test_new_folders_that_are_filled_at_once_are_reported_whole(watched, tree, tmp_path):
    it = watched()
    made = [write(tree / "a" / f"{n}" / "b" / f"{n}" / "file.py") for n in range(10)]
    it.only(*made)
    write(made[3], "x = 2222\n")
    it.only(made[3])


def test_a_folder_that_is_moved_in_is_reported_whole_and_watched(watched, tree, tmp_path):
    it = watched()
    write(tmp_path / "package" / "sub" / "file.py")
    (tmp_path / "package").rename(tree / "package")
    it.only(tree / "package" / "sub" / "file.py")
    write(tree / "package" / "sub" / "file.py", "x = 2222\n")
    it.only(tree / "package" / "sub" / "file.py")


def test_a_folder_that_is_renamed_is_watched_by_its_new_name(watched, tree):
    it = watched()
    (tree / "shop").rename(tree / "store")
    old = [tree / "shop" / "models.py", tree / "shop" / "deep" / "er" / "views.py"]
    new = [tree / "store" / "models.py", tree / "store" / "deep" / "er" / "views.py"]
    it.only(*old, *new)
    write(new[1], "x = 2222\n")
    it.only(new[1])


def test_a_folder_that_is_moved_out_is_no_longer_watched(watched, tree, tmp_path):
    it = watched()
    (tree / "shop").rename(tmp_path / "shop")
    it.only(tree / "shop" / "models.py", tree / "shop" / "deep" / "er" / "views.py")
    write(tmp_path / "shop" / "models.py", "x = 2222\n")
    it.nothing()


def test_a_folder_that_is_removed_and_made_again_is_watched(watched, tree):
    it = watched()
    shutil.rmtree(tree / "shop")
    it.only(tree / "shop" / "models.py", tree / "shop" / "deep" / "er" / "views.py")
    for text in ("x = 1\n", "x = 2222\n"):
        write(tree / "shop" / "models.py", text)
        it.only(tree / "shop" / "models.py")


def test_a_folder_that_is_made_again_at_once_is_watched(watched, tree):
    it = watched()
    for _ in range(20):  # so that the new folder has the inode of the old one
        shutil.rmtree(tree / "shop")
        write(tree / "shop" / "models.py")
    it.until_changed(tree / "shop" / "models.py", tree / "shop" / "deep" / "er" / "views.py")
    write(tree / "shop" / "models.py", "x = 2222\n")
    it.until_changed(tree / "shop" / "models.py")


def test_a_folder_that_replaces_another_is_watched(watched, tree, tmp_path):
    it = watched()
    write(tmp_path / "shop" / "models.py", "x = 2222\n")
    (tree / "shop").rename(tmp_path / "old")
    (tmp_path / "shop").rename(tree / "shop")
    it.only(tree / "shop" / "models.py", tree / "shop" / "deep" / "er" / "views.py")
    write(tmp_path / "old" / "models.py", "x = 3333\n")
    it.nothing()
    write(tree / "shop" / "models.py", "x = 44444\n")
    it.only(tree / "shop" / "models.py")


def test_a_watched_folder_that_is_removed_and_made_again_is_watched(watched, tree):
    it = watched()
    shutil.rmtree(tree)
    it.until_changed(tree / "main.py")
    for text in ("x = 1\n", "x = 2222\n"):
        write(tree / "main.py", text)
        it.until_changed(tree / "main.py")


def test_a_watched_folder_whose_parent_is_replaced_is_watched(watched, tree, tmp_path):
    it = watched(roots=[tree / "shop"])
    write(tmp_path / "other" / "shop" / "models.py", "x = 2222\n")
    tree.rename(tmp_path / "old")
    (tmp_path / "other").rename(tree)
    it.until_changed(tree / "shop" / "models.py")
    write(tree / "shop" / "models.py", "x = 33333\n")
    it.until_changed(tree / "shop" / "models.py")


def test_changes_that_come_together_are_one_report(watched, tree):
    it = watched()
    made = [write(tree / f"{n}.py") for n in range(50)]
    it.until(lambda: it.calls)
    assert it.calls == [{str(path) for path in made}]


def test_a_change_of_branch_is_reported_with_every_file(watched, tree):
    git = tool("git")

    def run(*arguments):
        subprocess.run([git, "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tree, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip

    run("init", "-q", "-b", "first")
    run("add", "-A")
    run("commit", "-qm", "first")
    run("checkout", "-qb", "second")
    made = [write(tree / f"package{n}" / f"{m}.py") for n in range(10) for m in range(10)]
    shutil.rmtree(tree / "shop")
    write(tree / "main.py", "x = 2222\n")
    run("add", "-A")
    run("commit", "-qm", "second")
    run("checkout", "-q", "first")
    it = watched()
    shop = [tree / "shop" / "models.py", tree / "shop" / "deep" / "er" / "views.py"]
    run("checkout", "-q", "second")
    it.only(tree / "main.py", *shop, *made)
    run("checkout", "-q", "first")
    it.only(tree / "main.py", *shop, *made)
    write(shop[1], "x = 33333\n")
    it.only(shop[1])


@pytest.mark.parametrize("name", [".git", ".venv", "node_modules", "__pycache__", ".mypy_cache", "site-packages"])
def test_folders_that_are_never_watched_are_not(name, watched, tree):
    write(tree / name / "old.py")
    it = watched()
    write(tree / name / "old.py", "x = 2222\n")
    write(tree / name / "new.py")
    write(tree / "shop" / name / "new.py")
    it.nothing()


@pytest.mark.parametrize("marker", ["pyvenv.cfg", "CACHEDIR.TAG", "conda-meta/history"])
def test_environments_and_caches_are_not_watched_whatever_their_name(marker, watched, tree):
    write(tree / "env" / marker)
    write(tree / "env" / "lib" / "old.py")
    it = watched()
    write(tree / "env" / "lib" / "old.py", "x = 2222\n")
    it.nothing()
    write(tree / "other" / marker)
    it.nothing()
    write(tree / "other" / "lib" / "new.py")
    it.nothing()


def test_a_link_to_a_file_outside_has_the_file_reported_by_its_real_path(watched, tree, tmp_path):
    real = write(tmp_path / "outside" / "settings-v1.py")
    write(tmp_path / "outside" / "other.py")
    os.symlink(real, tree / "settings.py")
    it = watched()
    write(tmp_path / "outside" / "other.py", "x = 2222\n")
    write(real, "x = 2222\n")
    it.only(real)
    write(tmp_path / "new.py", "x = 2222\n").replace(real)
    it.only(real)


def test_a_link_to_a_folder_outside_has_its_files_reported_by_their_real_paths(watched, tree, tmp_path):
    real = write(tmp_path / "library" / "sub" / "file.py")
    os.symlink(tmp_path / "library", tree / "library")
    os.symlink(tree, tree / "shop" / "around")  # a circle
    it = watched()
    write(real, "x = 2222\n")
    it.only(real)
    write(tmp_path / "library" / "new" / "file.py")
    it.only(tmp_path / "library" / "new" / "file.py")


def test_a_link_that_is_made_later_is_followed(watched, tree, tmp_path):
    real = write(tmp_path / "library" / "file.py")
    single = write(tmp_path / "single.py")
    it = watched()
    os.symlink(tmp_path / "library", tree / "library")
    os.symlink(single, tree / "one.py")
    it.only(real, single)
    write(real, "x = 2222\n")
    write(single, "x = 2222\n")
    it.only(real, single)


def test_a_link_that_leads_elsewhere_has_the_new_files_reported(watched, tree, tmp_path):
    old, new = (write(tmp_path / "releases" / n / "file.py", n) for n in ("1", "222"))
    os.symlink(old.parent, tree / "current")
    it = watched()
    os.symlink(new.parent, tree / "next")
    (tree / "next").rename(tree / "current")
    it.until_changed(new)
    write(new, "x = 2222\n")
    it.only(new)
    write(old, "x = 2222\n")
    it.nothing()


def test_a_mounted_config_map_that_is_exchanged_is_reported(watched, tree):
    # As Kubernetes does it: file -> ..data/file, ..data -> ..version, and ..data is replaced.
    for version in ("..1", "..222"):
        write(tree / "config" / version / "settings.py", version)
    os.symlink("..1", tree / "config" / "..data")
    os.symlink("..data/settings.py", tree / "config" / "settings.py")
    it = watched()
    os.symlink("..222", tree / "config" / "..tmp")
    (tree / "config" / "..tmp").rename(tree / "config" / "..data")
    it.until_changed(tree / "config" / "..222" / "settings.py")


def test_a_watched_folder_that_is_a_link_is_watched_where_it_leads(watched, tree, tmp_path):
    os.symlink(tree, tmp_path / "checkout")
    other = write(tmp_path / "other" / "main.py", "x = 2222\n")
    it = watched(roots=[tmp_path / "checkout"])
    write(tree / "main.py", "x = 33333\n")
    it.only(tree / "main.py")
    os.symlink(tmp_path / "other", tmp_path / "next")
    (tmp_path / "next").rename(tmp_path / "checkout")
    it.until_changed(other)
    write(other, "x = 444444\n")
    it.only(other)


def test_files_that_are_named_count_wherever_they_are(watched, tree, tmp_path):
    env, log, missing = tmp_path / "conf" / ".env", write(tree / "log.json"), tmp_path / "conf" / "pounce.toml"
    write(env)
    write(tmp_path / "conf" / "other.py")
    it = watched(files=[env, log, missing])
    write(tmp_path / "conf" / "other.py", "x = 2222\n")
    write(env, "A=2222\n")
    it.only(env)
    write(log, "{     }")
    it.only(log)
    write(missing)
    it.only(missing)
    write(tmp_path / "new").replace(env)
    it.only(env)


def test_includes_and_excludes_decide(watched, tree):
    it = watched(includes=["*.html"], excludes=["models.py", str(tree / "shop" / "deep")])
    write(tree / "shop" / "models.py", "x = 2222\n")
    write(tree / "shop" / "deep" / "er" / "views.py", "x = 2222\n")
    write(tree / "index.html", "changed")
    it.only(tree / "index.html")


def test_folders_of_which_one_is_inside_another_report_a_file_once(watched, tree):
    it = watched(roots=[tree / "shop", tree, tree / "shop" / "deep"])
    write(tree / "shop" / "deep" / "er" / "views.py", "x = 2222\n")
    it.until(lambda: it.calls)
    assert it.calls == [{str(tree / "shop" / "deep" / "er" / "views.py")}]


def test_a_name_that_is_not_text_is_reported(watched, tree):
    it = watched()
    path = os.fsencode(tree) + b"/caf\xe9.py"
    with open(path, "w") as file:
        file.write("x")
    it.only(os.fsdecode(path))


def test_a_folder_that_cannot_be_read_is_left_out(watched, tree, monkeypatch):
    secret = write(tree / "secret" / "file.py").parent
    scandir = os.scandir

    def refused(path):  # root, as which tests may run, is never refused
        if path == str(secret):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(trees.os, "scandir", refused)
    it = watched()
    it.nothing()


def test_two_reports_are_delay_seconds_apart(watched, tree):
    it = watched(delay=0.3)
    times = []
    it.watcher._settling._on_change = lambda paths: (it.calls.append(paths), times.append(it.loop.clock()))
    for n in range(3):
        write(tree / "main.py", "x" * (n + 10))
        it.only(tree / "main.py")
    assert all(later - earlier >= 0.3 for earlier, later in itertools.pairwise(times))


def test_a_watcher_that_is_closed_reports_nothing(watched, tree):
    it = watched()
    write(tree / "main.py", "x = 2222\n")
    it.watcher.close()
    it.watcher.close()
    it.loop.call_later(0.3, lambda: it.calls.append("the end"))
    it.until(lambda: it.calls)
    assert it.calls == ["the end"]


def descriptors():
    """The open descriptors and what they are."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the list itself
            found.add((int(fd), os.readlink(f"/proc/self/fd/{fd}")))
    return found


def test_a_watcher_that_is_closed_leaves_no_descriptor_open(watched, tree):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc, to see descriptors")
    gc.collect()  # the number of a descriptor that is closed later would be used again
    before = descriptors()
    it = watched()
    write(tree / "main.py", "x = 2222\n")
    it.only(tree / "main.py")
    opened = descriptors() - before
    it.watcher.close()
    of_the_loop = {it.loop.selector.fileno(), *it.loop.pipe}
    assert {fd for fd, _ in opened & descriptors()} == of_the_loop
