"""What an import changes in the process beside `sys.modules`, and the import of another generation would change again:
handlers of loggers, `sys.path`, and registers of libraries that refuse a name which they know.

A statement that adds a handler to a logger is executed for each generation, and each record would be logged once more.
So a handler of the new generation takes the place of the one that the same statement has added before: one of the same
class, on the same logger. Registers are treated alike, by the public ways of their libraries.

Must never take away what a library has added for itself. Owner: whoever loads or releases generations.
"""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

logger = logging.getLogger("pounce.error")

type Namespace = dict[str, Any]
_Handlers = list[tuple[logging.Logger, logging.Handler]]


def _handlers() -> _Handlers:
    loggers = [logging.root, *list(logging.root.manager.loggerDict.values())]
    return [(each, handler) for each in loggers if isinstance(each, logging.Logger) for handler in list(each.handlers)]


class ProcessState:
    """The state before a generation is loaded, and what its import has changed."""

    def __init__(self) -> None:
        self._path = list(sys.path)
        self._handlers = _handlers()
        self._added: _Handlers = []
        self._older: _Handlers = []  # of generations before, and still in use
        self._replaced: _Handlers = []
        self._undo: list[Callable[[], object]] = []
        self._threads = set(threading.enumerate())

    def set_aside(self, namespaces: list[Namespace]) -> None:
        """Has registers forget what an older generation, with these modules, has in them. It goes on using it."""
        self._undo = list(_registers(namespaces))

    def loaded(self, older: "ProcessState | None" = None) -> None:
        """The generation has been imported. Takes away the handlers of the older one that it has added anew."""
        before = set(self._handlers)
        self._added = [each for each in _handlers() if each not in before]
        sys.path[:] = dict.fromkeys(sys.path)
        self._threads = set(threading.enumerate()) - self._threads
        if older is None:
            return
        self._older = older._added + older._older
        for where, handler in self._added:
            for each in self._older:
                if each[0] is where and type(each[1]).__qualname__ == type(handler).__qualname__:
                    self._older.remove(each)
                    self._replaced.append(each)
                    where.removeHandler(each[1])
                    break

    def started_thread(self, namespaces: list[Namespace]) -> str:
        """The name of a thread that the import has started and that runs code of these modules; empty if there is
        none. It cannot be ended, and another import would start a second one."""
        own = {id(namespace) for namespace in namespaces}
        running = sys._current_frames() if self._threads else {}
        for thread in self._threads:
            frame = running.get(thread.ident or 0)
            while frame is not None:
                if id(frame.f_globals) in own:
                    return thread.name
                frame = frame.f_back
        return ""

    def failed(self, namespaces: list[Namespace]) -> None:
        """The generation, with these modules, could not be imported: everything is as before."""
        sys.path[:] = self._path
        before = set(self._handlers)
        self._take_back([each for each in _handlers() if each not in before], self._handlers, namespaces)

    def ended(self, namespaces: list[Namespace], *, newest: bool) -> None:
        """The generation has ended. `newest`: its predecessor is in its place again."""
        if newest:
            self._take_back(self._added, self._replaced, namespaces)
        else:
            for where, handler in self._added:
                if handler not in where.handlers:
                    _close(handler)

    def _take_back(self, added: _Handlers, missing: _Handlers, namespaces: list[Namespace]) -> None:
        for where, handler in added:
            where.removeHandler(handler)
            _close(handler)
        for where, handler in missing:
            where.addHandler(handler)  # it does nothing where the logger has it
        if self._undo:
            list(_registers(namespaces))
            for undo in self._undo:
                undo()


def _close(handler: logging.Handler) -> None:
    try:
        handler.close()
    except Exception:  # of a class of the application's or a library's
        logger.debug("A log handler could not be closed:", exc_info=True)


def _registers(namespaces: list[Namespace]) -> Iterator[Callable[[], object]]:
    """Sets aside what the registers of known libraries have. Yields what takes that back."""
    if (client := sys.modules.get("prometheus_client")) is not None:
        yield from _prometheus(client, namespaces)
    if (sqlmodel := sys.modules.get("sqlmodel")) is not None:
        yield from _sqlmodel(sqlmodel)


def _prometheus(client: Any, namespaces: list[Namespace]) -> Iterator[Callable[[], object]]:
    """Metrics are in the registry of the process; they count again from zero, as after a restart."""
    found = {id(value): value for value in _values(namespaces) if isinstance(value, client.metrics.MetricWrapperBase)}
    for metric in found.values():
        try:
            client.REGISTRY.unregister(metric)
        except KeyError:  # it is in a registry of the application's own
            continue
        yield partial(client.REGISTRY.register, metric)


def _values(namespaces: list[Namespace]) -> Iterator[object]:
    """The values of names, and of what a class of the application has."""
    names = {namespace.get("__name__") for namespace in namespaces}
    for namespace in namespaces:
        for value in list(namespace.values()):
            yield value
            if isinstance(value, type) and value.__module__ in names:
                yield from list(vars(value).values())
            elif type(value) is dict:
                yield from list(value.values())
            elif type(value) in (list, tuple, set):
                yield from list(value)


def _sqlmodel(sqlmodel: Any) -> Iterator[Callable[[], object]]:
    """SQLModel has one `MetaData` for the tables of a process, and one registry of classes. Those of the older
    generation stay with its classes."""
    base, orm = sqlmodel.SQLModel, sys.modules["sqlalchemy.orm"]
    before = base.metadata, base._sa_registry
    registry = orm.registry()
    base.metadata, base._sa_registry = registry.metadata, registry

    def take_back() -> None:
        base.metadata, base._sa_registry = before

    yield take_back
