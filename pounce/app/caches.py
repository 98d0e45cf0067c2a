"""Caches of libraries that keep an old generation of the application alive: `functools.lru_cache`, those of `typing`.

A library's cache may be keyed by a function or a class of the application, and nothing else would ever free it. To
clear a cache changes no result, but a cache may also be the way in which a library has one object of a kind. So only
those are cleared that hold something of the generation that has ended, and never the application's own.

Owner: the supervisor's thread.
"""

import functools
import gc
import typing
from collections.abc import Collection
from types import FunctionType, ModuleType
from typing import Any

DEPTH = 4
"""References from a cache to an object of the application: the cache, its entry, the key, what the key is made of."""

_Cache: Any = type(functools.lru_cache(print))


def clear(namespaces: Collection[dict[str, Any]]) -> None:
    """Clears the caches that hold a function or class of these modules, whose generation has ended."""
    for clear_typing in getattr(typing, "_cleanups", ()):
        clear_typing()
    names = {namespace.get("__name__") for namespace in namespaces}
    ended = {id(value) for namespace in namespaces for value in list(namespace.values())
             if isinstance(value, type | FunctionType) and value.__module__ in names}  # fmt: skip
    for cache in [each for each in gc.get_objects() if type(each) is _Cache]:
        if getattr(cache, "__module__", None) not in names and _holds(cache, ended):
            cache.cache_clear()


def _holds(cache: Any, wanted: set[int]) -> bool:
    frontier: list[Any] = [each for each in gc.get_referents(cache) if each is not cache.__wrapped__]
    seen: set[int] = set()
    for _ in range(DEPTH):
        following: list[Any] = []
        for thing in frontier:
            if id(thing) in wanted:
                return True
            if id(thing) not in seen and not issubclass(type(thing), (type, FunctionType, ModuleType)):
                seen.add(id(thing))
                following.extend(gc.get_referents(thing))
        frontier = following
    return False
