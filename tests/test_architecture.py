"""The rules of the house: who may import whom, who may know asyncio, and how large anything may grow."""

import ast
import functools
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import pounce

ROOT = Path(pounce.__file__).parent

TOP = {"errors", "version"}
"""Modules that every room may import: they import nothing of the server themselves."""
MAY_IMPORT = {
    "errors": set(),
    "version": set(),
    "kernel": set(),
    "protocols": set(),
    "middleware": set(),
    "watch": {"kernel"},
    "aio": {"kernel"},
    "config": {"protocols.fields", "protocols.trusted"},
    "log_json": {"log_records"},
    "log_pieces": set(),
    "log_records": set(),
    "logging": {"config", "log_json", "log_pieces", "log_records"},
    "app": {"config", "logging"},
    "net": {"kernel", "config.bind"},
    "observe": {"kernel", "logging", "config", "protocols.events", "protocols.fields", "net.byte_stream"},
    "connections": {"net", "protocols", "kernel", "config"},
    "asgi": {
        "app",
        "connections.interface",
        "connections.own_response",
        "protocols",
        "kernel",
        "observe",
        "config",
        "log_records",
    },
    "worker": {"asgi", "connections", "observe", "app", "net", "aio", "kernel", "protocols", "config", "logging"},
    "admin": {"connections", "protocols", "kernel", "config", "observe", "net"},
    "supervisor": {
        "admin",
        "asgi.placeholder",
        "asgi.reload_page",
        "watch",
        "worker",
        "observe",
        "app",
        "aio",
        "net",
        "kernel",
        "config",
        "logging",
        "protocols.trusted",
    },
    "testing": {"supervisor", "config"},
    "cli": {"supervisor", "app", "kernel", "config"},
    "__init__": {"supervisor", "app", "kernel", "config"},
    "__main__": {"cli"},
}
"""Each room, or module beside the rooms, and the rooms or modules it may import. Its own room and TOP go without
saying."""
MAY_IMPORT_ASYNCIO = "aio"
LINES = 400
METHODS = 25


def modules():
    return sorted(ROOT.rglob("*.py"))


def name(path):
    """The name of a module below `pounce`: `net.stream`, `cli`; a package has its own, and `pounce` is `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


class Module(NamedTuple):
    """What the rules ask of a file."""

    imports: set[str]
    """Dotted names, wherever in the file, under TYPE_CHECKING too."""
    methods: dict[str, int]
    """How many each class has."""
    docstring: str | None


@functools.cache
def read(path):
    tree = ast.parse(path.read_text())
    imports, methods = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            imports.add(node.module)
            imports.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ClassDef):
            count = sum(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in node.body)
            methods[node.name] = max(count, methods.get(node.name, 0))
    return Module(imports, methods, ast.get_docstring(tree))


NAMES = {name(path) for path in modules()}


def ours(path):
    """Modules of the server that a file imports."""
    found = {
        imported.removeprefix("pounce.") for imported in read(path).imports if imported.startswith("pounce.")
    } & NAMES
    # `from pounce.net import stream` imports the room as well, which has nothing in it.
    return {module for module in found if not any(other.startswith(module + ".") for other in found)}


def allowed(here, there):
    room = here.split(".")[0]
    if there in TOP or there.split(".")[0] == room:
        return True
    return any(there == may or there.startswith(may + ".") for may in MAY_IMPORT[room])


@pytest.mark.parametrize("path", modules(), ids=name)
def test_each_room_imports_only_rooms_below_it(path):
    assert name(path).split(".")[0] in MAY_IMPORT, "this room is not in the table"
    assert not [there for there in ours(path) if not allowed(name(path), there)]


def test_no_module_leads_back_to_itself():
    graph = {name(path): ours(path) for path in modules()}
    assert not circles(graph)


def circles(graph):
    """Modules that can be reached from themselves, with where they lead."""

    def reached(start):
        seen, todo = set(), [start]
        while todo:
            for there in graph[todo.pop()] - seen:
                seen.add(there)
                todo.append(there)
        return seen

    return {module: sorted(found & graph[module]) for module in graph if module in (found := reached(module))}


@pytest.mark.parametrize("path", modules(), ids=name)
def test_only_one_room_imports_asyncio(path):
    if not name(path).startswith(MAY_IMPORT_ASYNCIO):
        assert not [imported for imported in read(path).imports if imported.split(".")[0] == "asyncio"]


@pytest.mark.parametrize("path", modules(), ids=name)
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= LINES


@pytest.mark.parametrize("path", modules(), ids=name)
def test_no_class_has_more_than_25_methods(path):
    assert not [each for each, count in read(path).methods.items() if count > METHODS]


@pytest.mark.parametrize("path", modules(), ids=name)
def test_every_module_says_what_it_is(path):
    if path.name != "__main__.py":
        assert read(path).docstring, "no docstring"


def test_the_checks_see_an_import_wherever_it_hides(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text(
        "def f():\n    import asyncio.events\n    from pounce.worker.worker import Worker\n    from pounce import cli\n"
    )
    assert {"asyncio.events", "pounce.worker.worker", "pounce.cli"} <= read(bad).imports
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == {"b": ["c"], "c": ["b"]}
    assert not allowed("kernel.loop", "net.stream")
    assert not allowed("net.stream", "config.config")
    assert allowed("net.listeners", "config.bind")


def test_importing_pounce_does_not_import_asyncio():
    script = "import sys, pounce, pounce.testing; assert 'asyncio' not in sys.modules; print(len(sys.modules))"
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


def test_the_required_packages_are_two():
    from importlib.metadata import requires

    required = [line for line in requires("pounce-asgi") or () if "extra ==" not in line]
    assert sorted(line.split(">")[0].split("<")[0] for line in required) == ["h11", "wsproto"]
