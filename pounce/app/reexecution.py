"""Reexecution: which statements of a module are executed again for a copy, and which names they assign.

A copy of a module begins with the values of the original. Only two kinds of statements at the module's top level are
executed again: one that assigns a bound name (see `dependencies`), and one that uses such a name while the module is
executed, as a decorator of a bound application or an `include_router` does. Everything else has been executed once, for
all copies: classes of models, metrics, log handlers, settings, constants.

The selection propagates, because two names of one object must stay two names of one object. Every name that a selected
statement assigns is copied, and every statement that uses a copied name is selected. A name that several statements
assign is copied as soon as a statement that uses it is selected: it had another value then.

Must never select less than that, or copies would share a part of what belongs to one loop. Owner: the thread that makes
the copies.
"""

import ast
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from types import CodeType, ModuleType
from typing import Any

from pounce.app.dependencies import DependencyGraph


class CannotCopy(Exception):
    """A module that cannot be executed again in part; the text completes "because ..."."""


class Statement:
    """A statement at the top level of a module, or in a block there that is entered under a condition."""

    __slots__ = ("assigns", "node", "parts", "reads", "reexecuted", "stars", "targets")

    def __init__(self, node: ast.stmt) -> None:
        self.node = node
        self.assigns: set[str] = set()
        self.reads: set[tuple[str, ...]] = set()
        """Names that it reads while the module is executed, each with the attributes that follow it."""
        self.targets: set[str] = set()
        """Names that it assigns for itself (`for i in ...`): of no concern to other statements."""
        self.stars: list[ast.ImportFrom] = []
        self.reexecuted = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        """Is it executed again?"""
        self.parts = [Statement(part) for block in _blocks(node) for part in block]
        _Reader(self).read(node)

    def walk(self) -> "Iterator[Statement]":
        """Itself and its parts."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def reexecuted_part(self) -> ast.stmt | None:
        """The part of it that is executed again."""
        if not self.parts or (isinstance(self.node, ast.With) and self.reexecuted):
            return self.node if self.reexecuted else None
        if not any(each.reexecuted for each in self.walk()):
            return None
        kept = {id(part.node): part.reexecuted_part() for part in self.parts}
        return _with_blocks(self.node, lambda block: [new for part in block if (new := kept[id(part)]) is not None])


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The blocks of a statement that may be executed again in part."""
    if isinstance(node, ast.If | ast.Try | ast.With):
        for name in ("body", "orelse", "finalbody"):
            if block := getattr(node, name, None):
                yield block
        for handler in getattr(node, "handlers", ()):
            yield handler.body


def _with_blocks(node: ast.stmt, change: Callable[[list[ast.stmt]], list[ast.stmt]]) -> ast.stmt:
    """The statement with other blocks."""
    new = copy(node)
    for name in ("body", "orelse", "finalbody"):
        if block := getattr(node, name, None):
            setattr(new, name, change(block) or ([ast.copy_location(ast.Pass(), node)] if name != "orelse" else []))
    if isinstance(new, ast.Try):
        new.handlers = [copy(handler) for handler in new.handlers]
        for handler in new.handlers:
            handler.body = change(handler.body) or [ast.copy_location(ast.Pass(), node)]
    return new


class _Reader(ast.NodeVisitor):
    """Finds the names that a statement assigns and reads, but not those inside its functions, which run when they are
    called."""

    def __init__(self, statement: Statement) -> None:
        self._to = statement
        self._inner = 0  # depth of classes and comprehensions: the names they assign are not the module's

    def read(self, node: ast.stmt) -> None:
        """Reads a statement, without its parts."""
        inside = {id(part) for block in _blocks(node) for part in block}
        if not inside:
            self.visit(node)
            return
        if isinstance(node, ast.If):
            self.visit(node.test)
        for item in getattr(node, "items", ()):
            self.visit(item)
        for handler in getattr(node, "handlers", ()):
            if handler.type is not None:
                self.visit(handler.type)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._assign(node.name)
        arguments = node.args
        for part in (*node.decorator_list, *arguments.defaults, *arguments.kw_defaults, node.returns,
                     *(each.annotation for each in ast.walk(arguments) if isinstance(each, ast.arg))):  # fmt: skip
            if part is not None:
                self.visit(part)

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self._to.targets.update(each.id for each in ast.walk(node.target) if isinstance(each, ast.Name))
        self.generic_visit(node)

    visit_AsyncFor = visit_For

    def _comprehension(self, node: ast.AST) -> None:
        self._inner += 1
        self.generic_visit(node)
        self._inner -= 1

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for part in (*node.args.defaults, *node.args.kw_defaults):
            if part is not None:
                self.visit(part)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._assign(node.name)
        self._inner += 1
        self.generic_visit(node)
        self._inner -= 1

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._assign(alias.asname or alias.name.partition(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self._to.stars.append(node)
            else:
                self._assign(alias.asname or alias.name)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name is not None:
            self._assign(node.name)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name is not None:
            self._assign(node.name)

    def visit_TypeAlias(self, node: Any) -> None:
        self._assign(node.name.id)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._to.reads.add((node.id,))
        else:
            self._assign(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if (chain := _chain(node)) is not None:
            self._to.reads.add(chain)
        else:
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.generic_visit(node)
        if isinstance(node.target, ast.Name):
            self._to.reads.add((node.target.id,))

    def _assign(self, name: str) -> None:
        if not self._inner:
            self._to.assigns.add(name)


def _chain(node: ast.expr) -> tuple[str, ...] | None:
    """`a.b.c` as its parts."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else None


class Source:
    """A module's statements."""

    def __init__(self, name: str, module: ModuleType) -> None:
        self.name = name
        self.module = module
        text = None
        spec = module.__spec__
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "get_source"):
            try:
                text = spec.loader.get_source(spec.name)
            except (ImportError, OSError):
                text = None
        if name == "__main__":
            raise CannotCopy("it is in the program itself, which cannot be executed twice")
        if text is None:
            raise CannotCopy(f"the source of {name} cannot be read")
        self.file = module.__file__ or name
        tree = ast.parse(text, self.file)
        self.blocks = [Statement(node) for node in tree.body]
        self.statements = [each for block in self.blocks for each in block.walk()]
        for statement in self.statements:
            for star in statement.stars:
                statement.assigns.update(self._starred(star))
        self.assigners: dict[str, list[Statement]] = {}
        for statement in self.statements:
            for assigned in statement.assigns:
                self.assigners.setdefault(assigned, []).append(statement)
        self.copied_names: set[str] = set()
        """Names of which each copy has its own value."""

    def _starred(self, node: ast.ImportFrom) -> Iterable[str]:
        package = self.module.__package__ or ""
        name = (
            importlib.util.resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
        )
        origin = sys.modules.get(name or "")
        if origin is None:
            return ()
        names: Iterable[str] = getattr(origin, "__all__", None) or [n for n in vars(origin) if not n.startswith("_")]
        here = vars(self.module)
        return [each for each in names if each in here and here[each] is vars(origin).get(each)]

    def code(self) -> CodeType:
        """The statements that a copy executes again, compiled."""
        body = [kept for block in self.blocks if (kept := block.reexecuted_part()) is not None]
        return compile(ast.Module(body=body, type_ignores=[]), self.file, "exec", dont_inherit=True)


def select_statements(graph: DependencyGraph, modules: dict[str, ModuleType], *, everything: bool) -> dict[str, Source]:
    """The modules that have a bound name, with the statements that are executed again. Raises CannotCopy."""
    sources: dict[str, Source] = {}

    def source(name: str) -> Source:
        if name not in sources:
            sources[name] = Source(name, modules[name])
        return sources[name]

    if everything:
        for name, module in modules.items():
            if module.__spec__ is None or module.__spec__.origin is None:
                continue  # a namespace package: nothing of it is executed
            whole = source(name)
            for statement in whole.statements:
                statement.reexecuted = True
                whole.copied_names |= statement.assigns
        return {name: found for name, found in sources.items() if found.statements}
    changed = True
    while changed:
        changed = False
        for module_name, name in graph.names:
            found = source(module_name)
            if name not in found.copied_names:
                found.copied_names.add(name)
                changed = True
        for found in list(sources.values()):
            changed |= _propagate(found, modules, sources, graph)
    for found in sources.values():
        for name in found.copied_names:
            if name not in found.assigners and (found.name, name) not in graph.assigned_names:
                raise CannotCopy(f"{found.name}.{name} is not made by a statement of the module")
    return sources


def _propagate(
    found: Source, modules: dict[str, ModuleType], sources: dict[str, Source], graph: DependencyGraph
) -> bool:
    """Selects the statements of a module that follow from its copied names, and adds the names they assign. Has that
    changed anything?"""
    changed = False

    def is_copied(chain: tuple[str, ...]) -> bool:
        """Does this lead to a copied name?"""
        name, *attributes = chain
        if name in found.copied_names:
            return True
        value = vars(found.module).get(name)
        for attribute in attributes:
            if not isinstance(value, ModuleType) or modules.get(value.__name__) is not value:
                return False
            there = sources.get(value.__name__)
            if there is not None and attribute in there.copied_names:
                return True
            value = vars(value).get(attribute)
        return (
            isinstance(value, ModuleType) and value.__name__ in sources and bool(sources[value.__name__].copied_names)
        )

    for statement in found.statements:
        if statement.reexecuted:
            continue
        assigned = statement.assigns - statement.targets
        if (
            assigned & found.copied_names
            or any(map(is_copied, statement.reads))
            or _imports_copied_module(statement, found, sources)
        ):
            statement.reexecuted = changed = True
            for name in assigned - found.copied_names:
                found.copied_names.add(name)
                value = vars(found.module).get(name)
                if isinstance(value, type):
                    graph.bind(value, (found.name, name))
            # A name that several statements assign had another value when this one was executed.
            read = {chain[0] for chain in statement.reads} - statement.targets
            found.copied_names |= {name for name in read if len(found.assigners.get(name, ())) > 1}
    return changed


def _imports_copied_module(statement: Statement, found: Source, sources: dict[str, Source]) -> bool:
    """Does it import a module that has copied names? Selecting it keeps the order in which modules are executed."""
    if not isinstance(statement.node, ast.Import | ast.ImportFrom):
        return False
    for name in statement.assigns:
        value: Any = vars(found.module).get(name)
        if isinstance(value, ModuleType) and value.__name__ in sources and sources[value.__name__].copied_names:
            return True
    return False
