"""The rules of the house: who may import whom, and who may know asyncio (DESIGN.md, sections 2 and 3)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pounce

ROOT = Path(pounce.__file__).parent

# Every room with its floor. A module may import what is below it, what is in its own room, and the leaves.
FLOORS = {
    "cli": 7,
    "__main__": 7,
    "testing": 7,
    "discovery": 7,
    "__init__": 7,
    "supervisor": 6,
    "crew": 6,
    "plan": 6,
    "watch": 6,
    "unfinished": 6,
    "stacks": 6,
    "ending": 6,
    "sharing": 6,
    "lifespan_log": 6,
    "request_limit": 5,
    "copies": 6,
    "reexecution": 6,
    "dependence": 6,
    "loop_bound": 6,
    "threads": 6,
    "local": 6,
    "handle": 6,
    "embedding": 6,
    "processes": 6,
    "cpus": 6,
    "worker": 5,
    "reception": 5,
    "report": 5,
    "board": 5,
    "scheduler": 5,
    "asgi": 4,
    "protocols": 3,
    "net": 2,
    "kernel": 1,
}
LEAVES = {"config", "env_file", "errors", "fields", "imports", "keywords", "log_config", "logging", "options",
          "per_worker", "sources", "version"}  # fmt: skip
# Protocols do no I/O, and sockets know no protocol, so these two do not know each other although one is above.
STRANGERS = {("protocols", "net"), ("protocols", "kernel")}
MAY_IMPORT_ASYNCIO = {"kernel/asyncio_face.py", "kernel/asyncio_loop.py"}
LONGEST = 400


def modules():
    return sorted(path for path in ROOT.rglob("*.py"))


def room(name):
    """The room of a dotted name below `pounce`, or of a file."""
    return name.split(".")[1] if name.startswith("pounce.") else "__init__"


def imports(path):
    """Dotted names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module == "pounce":
                yield from (f"pounce.{alias.name}" for alias in node.names)


def place(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path):
    here = place(path)
    assert here in FLOORS or here in LEAVES, f"{here} has no floor: give it one"
    for name in imports(path):
        if not name.startswith("pounce"):
            continue
        there = room(name)
        if name == "pounce":
            continue
        if there in LEAVES:
            continue
        assert here not in LEAVES, f"{here} is a leaf and knows {there}"
        assert (here, there) not in STRANGERS, f"{here} must not know {there}"
        assert there == here or FLOORS[there] <= FLOORS[here], f"{here} imports {there}, which is above it"
        if FLOORS[there] == FLOORS[here] and there != here:
            assert FLOORS[here] >= 5, f"{here} imports its neighbour {there}"


def test_leaves_know_each_other_only_downwards():
    order = ["version", "errors", "imports", "per_worker", "fields", "options", "keywords", "env_file", "config",
             "sources", "log_config", "logging"]  # fmt: skip
    for place_, leaf in enumerate(order):
        for name in imports(ROOT / f"{leaf}.py"):
            if name.startswith("pounce."):
                assert room(name) in order[:place_], f"{leaf} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_face_knows_asyncio(path):
    if str(path.relative_to(ROOT)) not in MAY_IMPORT_ASYNCIO:
        assert not [name for name in imports(path) if name.split(".")[0] == "asyncio"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_one_file(path):
    assert len(path.read_text().splitlines()) <= LONGEST, "a file that needs a table of contents is two files"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_room_says_what_it_is_for(path):
    if path.name != "__main__.py":
        assert ast.get_docstring(ast.parse(path.read_text())), "no docstring"


def test_the_rules_would_notice(tmp_path):
    """The checks above see an import wherever it hides."""
    bad = tmp_path / "bad.py"
    bad.write_text(
        "def f():\n    import asyncio.events\n    from pounce.worker import Worker\n    from pounce import cli\n"
    )
    assert set(imports(bad)) == {"asyncio.events", "pounce.worker", "pounce", "pounce.cli"}


def test_importing_pounce_does_not_import_asyncio():
    script = "import sys, pounce, pounce.testing; assert 'asyncio' not in sys.modules; print(len(sys.modules))"
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


def test_the_required_packages_are_two():
    from importlib.metadata import requires

    required = [line for line in requires("pounce-asgi") or () if "extra ==" not in line]
    assert sorted(line.split(">")[0].split("<")[0] for line in required) == ["h11", "wsproto"]
