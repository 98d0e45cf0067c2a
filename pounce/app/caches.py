"""Caches of libraries that keep an old generation of the application alive: `functools.lru_cache`, those of `typing`.

A library's cache may be keyed by a function or a class of the application, and nothing else would ever free it. To
clear a cache changes no result, but a cache may also be the way in which a library has one object of a kind. So only
those are cleared that hold something of the generation that has ended, and never the application's own.

Owner: the supervisor's thread.
"""

import functools
import gc
import typing
from collections.abc import Collection, Container
from types import FunctionType, ModuleType
from typing import Any

DEPTH = 12
"""References from a cache to an object of the application: the cache, its entry, the key, what the key is made of, the
closure of a function that a library has made around the application's."""
MAX_OBJECTS = 2000  # that are searched for each cache

_Cache: Any = type(functools.lru_cache(print))


def clear(namespaces: Collection[dict[str, Any]]) -> None:
    """Clears the caches that hold something of these modules, whose generation has ended."""
    for clear_typing in getattr(typing, "_cleanups", ()):
        clear_typing()
    names = {namespace.get("__name__") for namespace in namespaces}
    ended = _Ended(namespaces, names)
    for cache in [each for each in gc.get_objects() if type(each) is _Cache]:
        if getattr(cache, "__module__", None) not in names and cache.cache_info().currsize and ended.is_held_by(cache):
            cache.cache_clear()


class _Ended:
    """What belongs to the modules of a generation that has ended."""

    def __init__(self, namespaces: Collection[dict[str, Any]], names: Container[object]) -> None:
        self._namespaces = {id(namespace) for namespace in namespaces}
        self._classes = {
            id(value) for namespace in namespaces for value in list(namespace.values())
            if isinstance(value, type) and value.__module__ in names
        }  # fmt: skip

    def _is_ended(self, thing: Any) -> bool:
        if type(thing) is FunctionType:
            return id(thing.__globals__) in self._namespaces
        return id(thing if isinstance(thing, type) else type(thing)) in self._classes

    def is_held_by(self, cache: Any) -> bool:
        frontier: list[Any] = [each for each in gc.get_referents(cache) if each is not cache.__wrapped__]
        seen: set[int] = set()
        for _ in range(DEPTH):
            following: list[Any] = []
            for thing in frontier:
                if id(thing) in seen:
                    continue
                seen.add(id(thing))
                if self._is_ended(thing):
                    return True
                following.extend(_leads_to(thing))
            if len(seen) > MAX_OBJECTS:
                return False
            frontier = following
        return False


def _leads_to(thing: Any) -> Collection[Any]:
    if type(thing) is FunctionType:  # not to its module, which leads everywhere
        return thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__dict__
    return () if issubclass(type(thing), (type, ModuleType)) else gc.get_referents(thing)
