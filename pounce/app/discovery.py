"""Discovery: finds the application when the command line names a file, or nothing, as FastAPI's command does.

Must never execute a file: what a name at the top of a module is assigned is read in its source. So the application is
imported when and where it would be if it had been named. Owner: none; nothing here is kept.
"""

import ast
import os
from typing import NamedTuple

from pounce.errors import ConfigError

FILES = ("main.py", "app.py", "api.py", "app/main.py", "app/app.py", "app/api.py")
NAMES = ("app", "api")

MAKERS = frozenset((
    "ASGIApp", "App", "Application", "BlackSheep", "Esmerald", "FastAPI", "FastHTML", "Litestar",
    "ProtocolTypeRouter", "Quart", "Ravyn", "Sanic", "SocketIOApp", "Starlette", "WSGIMiddleware", "WsgiToAsgi",
    "Xpresso", "fast_app", "get_asgi_application", "http_app", "streamable_http_app", "sse_app",
))  # fmt: skip
"""Classes and functions of well-known frameworks whose result is an ASGI application."""


class Found(NamedTuple):
    app: str
    """module:attribute"""
    folder: str
    """The folder from which the module can be imported."""


def names_a_file(text: str) -> bool:
    """Does the text name a file or a folder, rather than a module?"""
    if os.path.isdir(text):
        return True
    path = text if os.path.exists(text) else text.partition(":")[0]
    return path.endswith(".py") or os.sep in path


def find(text: str | None, folder: str = "") -> Found | None:
    """The application in the file or folder `text` (perhaps with `:attribute`), or in the first of the usual files of
    `folder`; None if there is no such file. Raises ConfigError."""
    if text is None:
        path = _usual(folder)
        return _found(path, "") if path is not None else None
    path, attribute = text, ""
    if not os.path.exists(path) and ":" in path:
        path, _, attribute = path.rpartition(":")
    if folder and not os.path.exists(path):
        path = os.path.join(folder, path)
    if os.path.isdir(path):
        init = os.path.join(path, "__init__.py")
        path = init if os.path.isfile(init) else _usual(path) or init
    elif os.path.isfile(path + ".py"):
        path += ".py"
    if not os.path.isfile(path):
        raise ConfigError(f"there is no file {path}")
    return _found(path, attribute)


def _usual(folder: str) -> str | None:
    paths = (os.path.join(folder, name) for name in FILES)
    return next((path for path in paths if os.path.isfile(path)), None)


def _found(path: str, attribute: str) -> Found:
    module, folder = _module(os.path.abspath(path))
    return Found(f"{module}:{attribute or _attribute(path, module)}", folder)


def _module(path: str) -> tuple[str, str]:
    """A file as a module, and the folder to import it from: the one above its packages."""
    folder, name = os.path.split(path.removesuffix(".py"))
    parts = [] if name == "__init__" else [name]
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, name = os.path.split(folder)
        parts.insert(0, name)
    for part in parts:
        if not part.isidentifier():
            raise ConfigError(f"{path}: {part!r} cannot be the name of a module")
    return ".".join(parts), folder


def _attribute(path: str, module: str) -> str:
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read(), path)
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{path}: {error}; give the application as {module}:NAME") from None
    bound, likely = _names(tree)
    for name in NAMES:
        if name in bound:
            return name
    if len(likely) == 1:
        return likely[0]
    if likely:
        raise ConfigError(f"{path}: which application? {', '.join(f'{module}:{name}' for name in likely)}")
    raise ConfigError(f"{path}: no application found; give it as {module}:NAME")


def _names(tree: ast.Module) -> tuple[set[str], list[str]]:
    """The names that are bound at the top of a module, and those among them that look like an application."""
    bound: set[str] = set()
    likely: dict[str, None] = {}
    makers = set(MAKERS)
    for node in _statements(tree.body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                bound.add(name)
                if alias.name in MAKERS:
                    makers.add(name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            bound.add(node.name)
            if isinstance(node, ast.AsyncFunctionDef) and _takes_three(node):
                likely[node.name] = None
        elif isinstance(node, ast.ClassDef):
            bound.add(node.name)
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
            called = any(part.name == "__call__" and _takes_three(part, 1) for part in methods)
            if called or any(_last(base) in makers for base in node.bases):
                makers.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            bound.update(names)
            value = node.value
            made = isinstance(value, ast.Call) and _last(value.func) in makers
            aliased = isinstance(value, ast.Name) and value.id in likely
            likely.update(dict.fromkeys(names[:1] if made or aliased else ()))
    return bound, list(likely)


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Also those below `if`, `try` and `with`, which run when the module is imported."""
    found = []
    for node in body:
        found.append(node)
        for part in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With):
                found += _statements(getattr(node, part, []))
        for handler in getattr(node, "handlers", ()):
            found += _statements(handler.body)
    return found


def _takes_three(node: ast.FunctionDef | ast.AsyncFunctionDef, more: int = 0) -> bool:
    return len(node.args.posonlyargs) + len(node.args.args) == 3 + more


def _last(node: ast.expr) -> str:
    """The last name of `fastapi.FastAPI`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
