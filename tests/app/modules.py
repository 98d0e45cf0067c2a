"""Modules of an application, written by a test, and what a copy of them sees."""

import importlib

import pytest

from pounce.app.copies import Copies
from pounce.app.modules import ApplicationModules
from pounce.supervisor.plan import has_gil
from tests.support.server import Running

on_threads = pytest.mark.skipif(has_gil(), reason="workers are processes here: nothing is shared")


# A library that keeps a register, and does not like to be asked twice.
REGISTER = """
    known = {}
    def register(name, value=None):
        if name in known:
            raise ValueError(f"{name} is there already")
        known[name] = value
        return value
    class Metric:
        def __init__(self, name): register(name, self); self.value = 0
        def count(self, function):
            async def counted(*args):
                self.value += 1
                return await function(*args)
            return counted
    class Model:
        def __init_subclass__(cls): register(cls.__name__, cls)
    class Router:
        def __init__(self): self.routes = {}
        def route(self, path):
            def add(function):
                self.routes[path] = function
                return function
            return add
        def by_name(self, function):
            name = f"{function.__module__}.{function.__name__}"
            self.routes.setdefault(name, []).append(1)
            return function
        def include(self, other): self.routes |= other.routes
        async def __call__(self, scope, receive, send):
            if scope["type"] != "http": raise RuntimeError("no lifespan")
            answer = await self.routes[scope["path"]]()
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": str(answer).encode()})
"""


def copies(project, name="main", everything=False):
    module = importlib.import_module(name)
    return Copies(ApplicationModules(str(project)), module.app, everything=everything)


def in_copy(found, expression, first="main"):
    """The value of an expression as a new copy sees it."""
    copy = found.make(first)
    return copy.run(lambda: eval(expression, {name: importlib.import_module(name) for name in (first, "sys")}))


def names(found):
    return {module.__name__: source.copied_names for module, source in found.sources.items()}


def serve(project, *arguments):
    return Running("main:app", "--port", "0", *arguments, cwd=project, env={"PYTHONPATH": "../site-packages"})
