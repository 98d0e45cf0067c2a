"""Which generation of the application the running code belongs to.

Code is recognized, in this order, by the nearest calling function that is defined in a module of the application; by
its context; by its thread; or else it counts as the newest generation's. A module knows its generation from the mark in
its spec (`ModuleSpec.loader_state`).

A mark and a context hold no more than a number, so that neither keeps the modules of an old generation alive.

Owner: the table of living generations is changed under `lock`. Any thread may ask.
"""

import contextvars
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import FrameType
from typing import Any

from pounce.app.loop_bound import Earlier


class Mark:
    """Stands for a generation in the specs of its modules and in contexts."""

    __slots__ = ("family", "number")

    def __init__(self, family: object) -> None:
        self.number = next(_numbers)
        """Of this process: no two servers have the same."""
        self.family = family
        """The same object for all generations of one application."""


class Life:
    """A generation whose workers run, or which is being loaded."""

    names: Collection[str] = ()
    """Its modules, as far as they have to be known."""

    def __init__(self, mark: Mark, *, complete: bool) -> None:
        self.mark = mark
        self.complete = complete
        """Has it been loaded?"""
        self.earlier = Earlier()
        """Loop-bound objects that existed before it was loaded."""
        self.on_end: list[Callable[[], object]] = []

    def namespaces(self) -> list[dict[str, Any]]:
        """Of its modules, as far as they are known."""
        return []

    def end(self) -> None:
        """Its workers have ended, or it could not be loaded."""
        for function in self.on_end:
            function()
        self.on_end.clear()
        self.earlier.clear()
        with lock:
            _living.pop(self.mark.number, None)


lock = threading.RLock()
"""Held while generations begin and end, and while the classes of module objects change."""
_ASKING = frozenset(f"pounce.app.{name}" for name in ("running", "generation_modules", "own_files", "copies"))
"""Modules of the server that are called by the application's imports."""
_numbers = itertools.count(1)
_living: "dict[int, weakref.ref[Life]]" = {}
_context: contextvars.ContextVar[int] = contextvars.ContextVar("pounce_generation", default=0)
_thread = threading.local()


def begin(generation: Life) -> None:
    with lock:
        _living[generation.mark.number] = weakref.ref(generation)


def _find(number: int, family: object) -> Life | None:
    reference = _living.get(number)
    found = reference() if reference is not None else None
    return found if found is None or family in (None, found.mark.family) else None


def find(mark: Mark) -> Life | None:
    """None if the generation has ended."""
    return _find(mark.number, mark.family)


def living(family: object) -> list[Life]:
    """All generations of an application, the oldest first."""
    for number, reference in list(_living.items()):
        if reference() is None:  # its server is gone
            _living.pop(number, None)
    return [found for number in sorted(_living) if (found := _find(number, family)) is not None]


def enter(mark: Mark) -> None:
    """Code that runs on this thread, or in this context, belongs to the generation from now on."""
    _context.set(mark.number)
    _thread.number = mark.number


@contextmanager
def entered(mark: Mark) -> Iterator[None]:
    """Code that runs inside belongs to the generation."""
    token = _context.set(mark.number)
    try:
        yield
    finally:
        _context.reset(token)


def set_in(context: contextvars.Context, mark: Mark) -> None:
    """Code that runs in this context belongs to the generation."""
    context.run(_context.set, mark.number)


def of(context: contextvars.Context) -> Life | None:
    """The generation of this context."""
    return _find(context.get(_context, 0), None)


def mark_of(spec: object) -> Mark | None:
    """The mark in the spec of a module; None for a module that is not the application's."""
    found = spec.loader_state if isinstance(spec, ModuleSpec) else None
    return found if type(found) is Mark else None


def generation(family: object) -> Life | None:
    """The generation that the running code belongs to, among those of an application, or of any if that is None. None
    if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        namespace = frame.f_globals
        mark = mark_of(namespace.get("__spec__"))
        if mark is not None and (found := _find(mark.number, family)) is not None:
            return found
        if str(namespace.get("__name__")).startswith("pounce.") and namespace["__name__"] not in _ASKING:
            break  # further out is whoever has started the server, perhaps the application itself
        frame = frame.f_back
    for number in (_context.get(), getattr(_thread, "number", 0)):
        if (found := _find(number, family)) is not None:
            return found
    return next((each for each in reversed(living(family)) if each.complete), None)


def mark() -> Mark | None:
    """The mark of that generation, among those of any application."""
    found = generation(None)
    return found.mark if found is not None else None
