"""Which files and folders count: uvicorn's rules, and what differs on purpose."""

import os

import pytest

from pounce.watch.filter import Filter
from tests.watch.conftest import write


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, which has a few others in it."""
    here = tmp_path.resolve()
    for name in ("app", "app/sub", "tests", "templates", "assets/js", ".hidden"):
        (here / name).mkdir(parents=True)
    monkeypatch.chdir(here)
    return here


def wanted(here, name, includes=(), excludes=(), files=()):
    return Filter([], includes, excludes, files).wanted(str(here / name))


@pytest.mark.parametrize(
    ("name", "includes", "excludes", "expected"),
    [
        ("main.py", [], [], True),
        ("app/sub/main.py", [], [], True),
        ("main.pyc", [], [], False),
        ("index.html", [], [], False),
        (".main.py", [], [], False),
        ("~main.py", [], [], False),
        (".sw.py", [], [], False),
        ("index.html", ["*.html"], [], True),
        ("main.py", ["*.html"], [], True),
        ("main.py", ["*.html"], ["*.py"], False),
        ("main.py", ["*.py"], ["*.py"], False),
        ("main.py", [], ["main.py"], False),
        ("app/main.py", [], ["main.py"], False),
        ("main.py", [], ["app/main.py"], True),
        ("x/app/main.py", [], ["app/main.py"], False),
        ("app/main.py", [], ["app/*.py"], False),
        ("app/sub/other/main.py", [], ["app/*.py"], True),
        ("main.py", [], ["./main.py"], False),
        (".env", [".env"], [], True),
        (".env", [".*"], [], True),
        (".env", [".e*"], [], False),  # the default exclude .* remains
        (".env.py", [".*"], [], True),
        ("main.py", ["main.py"], ["m*.py"], True),  # a path that ends with an include wins over an exclude
        ("main.pyc", ["*.pyc"], [], True),  # the default exclude .py[cod] means the name .pyc
        (".pyc", [".p*"], [], False),
        (".pyc", [".p*", ".py[cod]", ".*"], [], True),
        ("Main.PY", [], [], False),
        ("app/main.cfg", ["app/*.cfg"], [], True),
        ("other/main.cfg", ["app/*.cfg"], [], False),
        ("app/sub/deep/main.cfg", ["app/**/*.cfg"], [], True),
        ("app/main.cfg", ["app/**/*.cfg"], [], True),
        ("other/main.cfg", ["**/*.cfg"], [], True),
        ("a[1].txt", ["a[[]1].txt"], [], True),
        ("a\nb.py", [], [], True),
    ],
)
def test_patterns_decide_which_files_count(name, includes, excludes, expected, here):
    assert wanted(here, name, includes, excludes) is expected


def test_absolute_patterns_mean_one_path(here):
    assert wanted(here, "app/x.cfg", [f"{here}/app/*.cfg"])
    assert not wanted(here, "sub/app/x.cfg", [f"{here}/app/*.cfg"])
    assert not wanted(here, "app/x.py", [], [f"{here}/app/x.py"])
    assert wanted(here, "sub/app/x.py", [], [f"{here}/app/x.py"])


def test_files_that_were_read_at_the_start_count_whatever_their_names(here):
    assert wanted(here, ".env", files=[".env"])
    assert wanted(here, "app/log.json", files=["app/log.json"])
    assert wanted(here, ".settings.py", files=[".settings.py"])
    assert not wanted(here, "app/.env", files=[".env"])


def roots(folders=(), includes=(), excludes=(), default=()):
    return [os.path.relpath(root) for root in Filter(folders, includes, excludes, (), default).roots]


def test_the_current_folder_is_watched_by_default(here):
    assert roots() == ["."]
    assert roots(includes=["*.html"], excludes=["*.cfg"]) == ["."]
    assert roots(default=["/"]) == [".", os.path.relpath("/")]


def test_folders_that_are_named_replace_the_current_one(here):
    assert roots(["app", "tests"], default=["/"]) == ["app", "tests"]


def test_an_include_that_matches_folders_has_them_watched(here):
    assert roots(includes=["templates"]) == ["templates"]
    assert roots(["app"], includes=["templates"]) == ["app", "templates"]
    assert sorted(roots(includes=["t*"])) == ["templates", "tests"]
    assert roots(includes=["assets/*"]) == ["assets/js"]
    assert roots(includes=[".*"]) == ["."]
    assert roots(includes=[str(here / "assets")]) == ["assets"]


def test_an_include_does_not_match_folders_that_are_never_watched(here):
    (here / "node_modules").mkdir()
    assert roots(includes=["n*"]) == ["."]


def test_an_exclude_that_matches_folders_leaves_them_out(here):
    assert roots(["app", "tests"], excludes=["tests"]) == ["app"]
    assert roots(["app/sub", "tests"], excludes=["app"]) == ["tests"]
    assert roots(["app", "tests"], excludes=["t*"]) == ["app"]
    assert roots(["tests"], excludes=["tests"]) == ["."]
    assert roots([".hidden"], excludes=[".*"]) == [".hidden"]


def test_folders_that_an_exclude_matches_are_not_entered(here):
    filter = Filter([], [], ["tests", "assets/*", ".*"])
    assert not filter.enters(str(here / "tests"))
    assert filter.enters(str(here / "app" / "tests"))
    assert not filter.enters(str(here / "assets" / "js"))
    assert filter.enters(str(here / "assets"))
    assert filter.enters(str(here / ".hidden"))
    assert not Filter([], [], [str(here / "app")]).enters(str(here / "app"))
    assert not Filter([], [], ["app/**"]).enters(str(here / "app" / "sub"))


def test_a_folder_that_is_named_is_watched_wherever_it_is(here):
    write(here / ".venv" / "lib" / "site-packages" / "mine" / "a.py")
    assert roots([".venv/lib/site-packages/mine"]) == [".venv/lib/site-packages/mine"]


def test_an_include_that_is_a_file_counts_in_a_folder_that_is_left_out(here):
    write(here / "tests" / "special.cfg")
    filter = Filter([], ["tests/special.cfg"], ["tests"])
    assert filter.wanted(str(here / "tests" / "special.cfg"))
    assert filter.files == {str(here / "tests" / "special.cfg")}


def test_the_kernels_file_systems_are_not_entered(here):
    filter = Filter(["/"], [], [])
    assert not any(filter.enters(path) for path in ("/proc", "/sys", "/dev"))
    assert filter.enters("/home")
