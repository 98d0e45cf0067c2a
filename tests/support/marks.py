"""Marks tests by what their code can reach: `processes` where a server or another program is started, `tools` where an
outside program is needed, `libraries` where a package is that the server does not require."""

import multiprocessing
import subprocess
import types
from typing import Any

import pytest

from pounce.testing import TestServer
from tests.support.requirements import library, missing, tool

REACHING: dict[Any, str] = {
    subprocess: "processes",
    multiprocessing: "processes",
    TestServer: "processes",
    tool: "tools",
    missing: "tools",
    library: "libraries",
}


def add(items: list[pytest.Item]) -> None:
    """Marks each test by its function and its fixtures."""
    known: dict[Any, set[str]] = {}
    for item in items:
        if isinstance(item, pytest.Function):
            fixtures = [fixture for named in item._fixtureinfo.name2fixturedefs.values() for fixture in named]
            functions = [item.function, *(fixture.func for fixture in fixtures)]
            for name in sorted(set().union(*(reached(function, known) for function in functions))):
                item.add_marker(name)


def reached(thing: Any, known: dict[Any, set[str]]) -> set[str]:
    """The marks of a function or class of the tests: of the names in its code and of its bases, and of theirs."""
    if isinstance(thing, types.ModuleType | types.FunctionType | type) and thing in REACHING:
        return {REACHING[thing]}
    if not isinstance(thing, types.FunctionType | type) or not thing.__module__.startswith("tests."):
        return set()
    if thing in known:
        return known[thing]
    marks = known[thing] = set[str]()
    if isinstance(thing, type):
        for value in (*thing.__bases__, *vars(thing).values()):
            marks |= reached(value, known)
        return marks
    thing = getattr(thing, "__wrapped__", thing)
    for name in names(thing.__code__):
        marks |= reached(thing.__globals__.get(name), known)
    return marks


def names(code: types.CodeType) -> set[str]:
    """The global names that a function's code mentions, with those of the functions inside."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= names(constant)
    return found
