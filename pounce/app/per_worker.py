"""`per_worker`: one object for each worker, behind one name.

    engine = pounce.per_worker(lambda: create_async_engine(URL))

At module level of an application that all worker threads share, `engine` is then, wherever it is used, the engine
of the worker that uses it: in its coroutines, and in the helper threads they start with `to_thread`. In a worker
process there is one worker, and so one object.

Must never give a worker the object of another one. Owner: each object belongs to the thread of its worker. The table of
objects is guarded by a lock, which is taken once for each worker and object.
"""

import contextvars
import threading
import weakref
from collections.abc import Callable
from typing import Any


class Token:
    """Stands for a worker."""

    __slots__ = ("__weakref__",)


# Tasks and `to_thread` inherit the context. A request that runs in an empty context still has its thread.
_context: contextvars.ContextVar[Token | None] = contextvars.ContextVar("pounce_worker", default=None)
_thread = threading.local()
_workers: "weakref.WeakSet[Token]" = weakref.WeakSet()
_no_worker = Token()
_lock = threading.Lock()


def enter_worker() -> Token:
    """The calling thread is a worker's from now on. The worker keeps the token."""
    token = Token()
    with _lock:
        _workers.add(token)
    _context.set(token)
    _thread.token = token
    return token


def leave_worker(token: Token) -> None:
    """The worker has ended, and the calling thread is no longer its own. Its objects end with its token."""
    with _lock:
        _workers.discard(token)
    _context.set(None)
    _thread.token = None


def _current() -> Token:
    token = _context.get() or getattr(_thread, "token", None)
    if token is not None:
        return token
    with _lock:
        workers = list(_workers)
    if len(workers) > 1:
        raise RuntimeError(
            f"thread {threading.current_thread().name!r} belongs to no worker, so it has no object of its own: "
            "start it with to_thread, or hand the object over"
        )
    return workers[0] if workers else _no_worker


class PerWorker:
    """Behaves as the object that `factory` makes when a worker first uses it, one for each worker."""

    __slots__ = ("__weakref__", "_pounce_factory", "_pounce_made")

    def __init__(self, factory: Callable[[], Any]) -> None:
        object.__setattr__(self, "_pounce_factory", factory)
        object.__setattr__(self, "_pounce_made", weakref.WeakKeyDictionary())

    def __getattr__(self, name: str) -> Any:
        return getattr(_instance(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_instance(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_instance(self), name)

    @property
    def __class__(self) -> Any:
        return type(_instance(self))

    @__class__.setter
    def __class__(self, value: Any) -> None:
        _instance(self).__class__ = value


def _instance(proxy: PerWorker) -> Any:
    token = _current()
    made = object.__getattribute__(proxy, "_pounce_made")
    try:
        return made[token]
    except KeyError:
        pass
    value = object.__getattribute__(proxy, "_pounce_factory")()
    with _lock:
        return made.setdefault(token, value)


def _forward(name: str) -> Callable[..., Any]:
    def method(self: PerWorker, *args: Any, **kwargs: Any) -> Any:
        return getattr(_instance(self), name)(*args, **kwargs)

    method.__name__ = name
    return method


# Python looks these up in the class and does not call `__getattr__` for them.
for _name in """
    repr str bytes format lt le eq ne gt ge hash bool call len getitem setitem delitem iter next reversed contains dir
    enter exit aenter aexit aiter anext await add sub mul truediv floordiv mod or and xor neg int float index
""".split():  # noqa: SIM905
    _name = f"__{_name}__"
    setattr(PerWorker, _name, _forward(_name))


def per_worker[T](factory: Callable[[], T]) -> T:
    """Returns an object that behaves as the one that `factory` has made for the worker that uses it.

    `factory` is called without arguments, when a worker first uses the object, on the thread that uses it. If that
    happens on two threads of one worker at once, it may be called twice, and one of the results is dropped. What it
    raises is raised where the object is used.

    The object can be used in the worker's coroutines, on helper threads that they start with `to_thread`, and, where
    threads inherit the context of their starter (free-threaded Python from 3.14 on), on those as well. On any other
    thread it raises RuntimeError while there are several workers in the process; with one worker it is that worker's.
    """
    return PerWorker(factory)  # type: ignore[return-value]  # it behaves as a T
