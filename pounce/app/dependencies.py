"""Dependencies: the names of an application's modules that lead to an object of one event loop.

The application is taken as a graph. Its nodes are objects, and names of its modules. Edges:

    an object    leads to what it refers to, as the garbage collector sees it
    a function   leads to its closure and defaults, and of its module only to the names that its code mentions
    a name       leads to its value
    a text       `shop.main.view`, held by a library, leads to that name: libraries know functions by their names, too
    a module     leads nowhere: code that uses a module finds the copy it belongs to (see `copies`)

A name is *bound* when a loop-bound object can be reached from it. One more rule makes that sound: a name that a
function assigns (`global counter`) and a bound function mentions is bound too. Otherwise a shared function and a copied
one would each have their own value of it.

Must never execute or change anything of the application. Owner: the thread that starts the server, or, for a module
that is first imported during a request, the worker's.
"""

import gc
import opcode
from collections.abc import Container, Iterable, Iterator, Mapping
from contextvars import Context, ContextVar, Token
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    ModuleType,
    TracebackType,
)
from typing import Any

from pounce.app import loop_bound

type Name = tuple[str, str]
"""A module, and a name in it."""
type Node = int | Name

_LEAVES = (ModuleType, CodeType, FrameType, TracebackType, GeneratorType, CoroutineType, AsyncGeneratorType,
           BuiltinFunctionType, Context, ContextVar, Token, str, bytes, bytearray, int, float, complex, type(None),
           type(Ellipsis), type(NotImplemented))  # fmt: skip
_OF_IMPORT = frozenset(("__builtins__", "__loader__", "__spec__", "__annotations__", "__annotate__"))
"""Names that every module has from the import system and the compiler."""
_ATOMS = frozenset((int, float, bool, type(None), bytes))
_LOADS = frozenset(opcode.opmap[name] for name in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"))
_STORES = frozenset(opcode.opmap[name] for name in ("STORE_GLOBAL", "DELETE_GLOBAL"))
_LOAD_GLOBAL, _EXTENDED = opcode.opmap["LOAD_GLOBAL"], opcode.opmap["EXTENDED_ARG"]


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those nested in it."""
    yield code
    for constant in code.co_consts:
        if type(constant) is CodeType:
            yield from codes(constant)


def globals_of(code: CodeType) -> tuple[set[str], set[str]]:
    """Global names that code mentions, and those of them that it assigns or deletes, nested functions included."""
    mentioned: set[str] = set()
    assigned: set[str] = set()
    for each in codes(code):
        code_bytes, names, high = each.co_code, each.co_names, 0
        for index in range(0, len(code_bytes), 2):
            operation, argument = code_bytes[index], code_bytes[index + 1] | high
            high = argument << 8 if operation == _EXTENDED else 0
            if operation in _LOADS:
                mentioned.add(names[argument >> 1 if operation == _LOAD_GLOBAL else argument])
            elif operation in _STORES:
                assigned.add(names[argument])
    return mentioned | assigned, assigned


class DependencyGraph:
    """The objects that an application's modules, and the application itself, lead to."""

    def __init__(
        self,
        modules: Mapping[str, ModuleType],
        application: object,
        more: Iterable[object] = (),
        earlier: Container[object] = (),
    ) -> None:
        """`more`: further objects that count as loop-bound. Those in `earlier` do not count."""
        self._earlier = earlier
        self._modules = modules
        self._namespaces = {id(vars(module)): name for name, module in modules.items()}
        self._names_as_text = {
            f"{module}.{name}": (module, name) for module in modules for name in vars(modules[module])
        }
        self._known = loop_bound.classes(loop_bound.RESOURCES, loop_bound.RUNNING)
        self._wanted = tuple(self._known)
        self._parents: dict[Node, list[Node]] = {}
        self._held: list[object] = []  # keeps objects alive, so that no id is used twice
        self._loop_bound: list[object] = []
        self.assigned_names: set[Name] = set()
        """Names that functions assign."""
        self._bound_through: dict[Node, Node | None] = {}
        self.application = id(application)
        todo: list[object] = []
        for module_name, module in modules.items():
            for name, value in list(vars(module).items()):
                if name in _OF_IMPORT:
                    continue
                self._edge((module_name, name), value, todo)
        self._parents.setdefault(self.application, [])
        todo.append(application)
        self._explore(todo)
        self._mark({id(thing): None for thing in (*self._loop_bound, *more)})

    # Building

    def _edge(self, parent: Node, child: object, todo: list[object]) -> None:
        if type(child) in _ATOMS:
            return
        known = self._parents.get(id(child))
        if known is None:
            self._parents[id(child)] = [parent]
            todo.append(child)
        else:
            known.append(parent)

    def _explore(self, todo: list[object]) -> None:
        explored: set[int] = set()
        while todo:
            thing = todo.pop()
            if id(thing) in explored:
                continue
            explored.add(id(thing))
            self._held.append(thing)
            kind = type(thing)
            if issubclass(kind, self._wanted) and thing not in self._earlier:
                self._loop_bound.append(thing)
            elif kind is str:
                if (name := self._names_as_text.get(thing)) is not None:  # type: ignore[call-overload]
                    self._parents.setdefault(name, []).append(id(thing))
            elif not issubclass(kind, _LEAVES):
                for child in self._children(thing, kind):
                    self._edge(id(thing), child, todo)

    def _children(self, thing: Any, kind: type) -> Iterable[object]:
        if kind is FunctionType:
            self._add_mentions(thing)
            return [thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__dict__]
        if issubclass(kind, type):
            if thing.__module__ in self._modules:
                return [*vars(thing).values(), *thing.__bases__]
            return ()  # the class of a library is shared with it
        if kind.__name__ in loop_bound.OPAQUE:
            return ()
        if issubclass(kind, dict):  # the collector does not visit keys that are text
            return [*gc.get_referents(thing), *list(dict.keys(thing))]
        return gc.get_referents(thing)

    def _add_mentions(self, function: FunctionType) -> None:
        module = self._namespaces.get(id(function.__globals__))
        if module is None:
            return
        mentioned, assigned = globals_of(function.__code__)
        for name in mentioned:
            self._parents.setdefault((module, name), []).append(id(function))
        self.assigned_names.update((module, name) for name in assigned)

    # Marking

    def _mark(self, starts: "Mapping[Node, Node | None]") -> None:
        """Marks nodes, each with the node it is bound through, and everything that leads to them."""
        while starts:
            self._bound_through.update(
                (node, through) for node, through in starts.items() if node not in self._bound_through
            )
            frontier: list[Node] = list(starts)
            while frontier:
                following: list[Node] = []
                for node in frontier:
                    for parent in self._parents.get(node, ()):
                        if parent not in self._bound_through:
                            self._bound_through[parent] = node
                            following.append(parent)
                frontier = following
            starts = dict(self._inconsistent_names())

    def _inconsistent_names(self) -> Iterator[tuple[Name, Node]]:
        """Names that are not bound, though functions assign them and a bound function mentions them; each with that
        function."""
        for name in self.assigned_names:
            if name not in self._bound_through:
                for parent in self._parents.get(name, ()):
                    if parent in self._bound_through:
                        yield name, parent
                        break

    def bind(self, thing: object, name: Name) -> None:
        """Marks an object as bound, because the name that holds it is."""
        self._mark({id(thing): name} if id(thing) not in self._bound_through else {})

    def bind_names(self, names: Iterable[Name]) -> None:
        """Marks names as bound, and the functions and classes they hold."""
        for module, name in names:
            self._mark({(module, name): None})
            value = vars(self._modules[module]).get(name) if module in self._modules else None
            if isinstance(value, type) or callable(value):
                self.bind(value, (module, name))

    # Asking

    def is_bound(self, node: Node) -> bool:
        return node in self._bound_through

    def contains(self, thing: object) -> bool:
        """Was this object found in the application?"""
        return id(thing) in self._parents

    @property
    def names(self) -> set[Name]:
        """Every bound name that has a value now."""
        return {
            node for node in self._bound_through
            if isinstance(node, tuple) and node[1] in vars(self._modules[node[0]])
        }  # fmt: skip

    def reason(self) -> str | None:
        """The loop-bound object that is nearest to a name, as text for the log; None if there is none."""
        things = {id(thing): thing for thing in self._loop_bound}
        best: tuple[int, int, str] | None = None
        for node in self._bound_through:
            steps, end = self._distance(node)
            if not isinstance(end, int) or end not in things:
                continue
            kind = loop_bound.public_name(things[end], self._known)
            rank = list(self._known.values()).index(kind) if kind in self._known.values() else 0
            if isinstance(node, tuple):
                where = f"{node[0]}.{node[1]} ({kind})"
            elif node == self.application:
                where, steps = f"an {kind} in the application", steps + 1000
            else:
                continue
            if best is None or (steps, rank, where) < best:
                best = (steps, rank, where)
        return best[2] if best is not None else None

    def _distance(self, node: Node) -> tuple[int, Node]:
        steps = 0
        while (following := self._bound_through[node]) is not None:
            node = following
            steps += 1
        return steps, node
