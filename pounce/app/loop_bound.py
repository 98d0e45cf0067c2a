"""Loop-bound objects: which classes have them, and whether a library holds one.

Such an object fails or hangs when several worker threads share it. The classes are public: those of asyncio and of
well-known libraries. Only modules that have been imported count, and the objects are searched once or twice, at start.

Must never import a module to find its classes. Owner: the supervisor's thread.
"""

import gc
import sys
import weakref
from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

# Module, and the names of its classes. A pool tells an operator more than the lock inside it, so it comes first.
RESOURCES = {
    "aiohttp": "ClientSession BaseConnector",
    "aiokafka": "AIOKafkaProducer AIOKafkaConsumer",
    "aiomysql": "Pool",
    "aiopg": "Pool",
    "aioredis": "Redis ConnectionPool",
    "aiosqlite": "Connection",
    "aio_pika": "RobustConnection Connection",
    "async_lru": "_LRUCacheWrapper",
    "asyncpg": "Pool Connection",
    "asyncpg.pool": "Pool",
    "channels_redis.core": "RedisChannelLayer",
    "elasticsearch": "AsyncElasticsearch",
    "grpc.aio": "Channel",
    "httpx": "AsyncClient",
    "motor.motor_asyncio": "AsyncIOMotorClient",
    "nats": "NATS",
    "neo4j": "AsyncDriver",
    "psycopg": "AsyncConnection",
    "psycopg_pool": "AsyncConnectionPool",
    "pymongo": "AsyncMongoClient",
    "redis.asyncio": "Redis ConnectionPool",
    "sqlalchemy.ext.asyncio": "AsyncEngine",
    "tortoise": "Tortoise",
    "websockets": "ClientConnection",
    "anyio._core._synchronization": "LockAdapter EventAdapter SemaphoreAdapter CapacityLimiterAdapter",
    "anyio": "Lock Event Condition Semaphore CapacityLimiter",
    "asyncio": "Queue Condition Semaphore Barrier Lock Event",
}
RUNNING = {"asyncio": "AbstractEventLoop Future TaskGroup Runner StreamReader StreamWriter"}
"""Classes whose objects belong to a loop from the beginning. Libraries keep such objects by loop, so only those that
an application holds count."""

DEPTH = 8  # references from a library's module to an object it holds


def classes(*tables: dict[str, str]) -> dict[type, str]:
    """The classes of the tables that are imported, each with its public name."""
    found: dict[type, str] = {}
    for table in tables:
        for module, names in table.items():
            for name in names.split() if module in sys.modules else ():
                each = getattr(sys.modules[module], name, None)
                if isinstance(each, type):
                    found.setdefault(each, f"{module.partition('._')[0]}.{name.removesuffix('Adapter')}")
    return found


def public_name(thing: object, known: dict[type, str]) -> str:
    """The public name of the class of a loop-bound object."""
    return next((known[base] for base in type(thing).__mro__ if base in known), type(thing).__qualname__)


class Earlier:
    """The loop-bound objects that exist before a generation is loaded. They are none of its own: those that a library
    holds for its predecessor are not the library's either."""

    def __init__(self) -> None:
        self._things: dict[int, Callable[[], object]] = {}

    def record(self) -> None:
        for thing in _existing():
            try:
                self._things[id(thing)] = weakref.ref(thing)
            except TypeError:  # it is kept until the generation has been inspected
                self._things[id(thing)] = partial(_same, thing)

    def __contains__(self, thing: object) -> bool:
        found = self._things.get(id(thing))
        return found is not None and found() is thing

    def clear(self) -> None:
        self._things.clear()


def _same(thing: object) -> object:
    return thing


def _existing() -> Iterator[object]:
    wanted = tuple(classes(RESOURCES, RUNNING))
    # Not isinstance: it would believe mocks and proxies, which answer with another class.
    return (thing for thing in gc.get_objects() if issubclass(type(thing), wanted)) if wanted else iter(())


def any_exists(earlier: Container[object] = ()) -> bool:
    """Is there any such object in this process, but for the earlier ones? A quick test, because most applications have
    none."""
    return any(thing not in earlier for thing in _existing())


def held_by_library(
    is_application_module: Callable[[str], bool],
    belongs_to_application: Callable[[object], bool],
    earlier: Container[object] = (),
) -> tuple[str, str] | None:
    """The attribute of a library's module that leads to a loop-bound object, and the object's class; None if there is
    none. `is_application_module` is asked for the name of a module, `belongs_to_application` for an object: what such
    an object leads to is not the library's. Objects in `earlier` do not count."""
    known = classes(RESOURCES)
    wanted = tuple(known)
    loop_class = getattr(sys.modules.get("asyncio"), "AbstractEventLoop", None)
    if not wanted or loop_class is None:
        return None
    seen: set[int] = set()
    for module_name, module in list(sys.modules.items()):
        top = module_name.partition(".")[0]
        if (
            top in sys.stdlib_module_names
            or top in _NO_LIBRARIES
            or is_application_module(module_name)
            or type(module) is not ModuleType
        ):
            continue
        for name, value in list(vars(module).items()) if type(module) is ModuleType else ():
            found = _search(value, module_name, wanted, loop_class, seen, belongs_to_application, earlier)
            if found is not None:
                return f"{module_name}.{name}", public_name(found, known)
    return None


_NO_LIBRARIES = frozenset(("pounce", "__main__", "pytest", "_pytest"))


def _search(
    value: object, module_name: str, wanted: tuple[type, ...], loop_class: type, seen: set[int],
    belongs_to_application: Callable[[object], bool], earlier: Container[object],
) -> object | None:  # fmt: skip
    frontier: list[object] = [value]
    for _ in range(DEPTH):
        following: list[object] = []
        for thing in frontier:
            if issubclass(type(thing), wanted) and thing not in earlier:
                return thing
            if id(thing) in seen or belongs_to_application(thing):
                continue
            seen.add(id(thing))
            following.extend(_state(thing, module_name, loop_class))
        if not following:
            return None
        frontier = following
    return None


def _state(thing: Any, module_name: str, loop_class: type) -> Iterable[object]:
    """The objects that a library's object holds itself."""
    kind = type(thing)
    if kind in _PLAIN or kind.__name__ in OPAQUE or kind.__name__ == "_lru_cache_wrapper":
        return ()
    if issubclass(kind, type):
        if getattr(thing, "__module__", None) != module_name:
            return ()  # the search reaches it in its own module
        return [value for value in vars(thing).values() if type(value) not in _CALLABLES]
    if issubclass(kind, dict):
        if any(issubclass(type(key), loop_class) for key in list(thing)):
            return ()  # one value for each loop: the library handles several loops
        return list(thing.values())
    if kind in (list, tuple, set, frozenset):
        return list(thing)
    if kind.__module__.partition(".")[0] in sys.stdlib_module_names and not hasattr(thing, "__dict__"):
        return ()
    return _instance_state(thing)


def _instance_state(thing: object) -> Iterator[object]:
    try:
        yield from list(object.__getattribute__(thing, "__dict__").values())
    except Exception:
        return


_CALLABLES = frozenset((type(_state), staticmethod, classmethod, property))
_PLAIN = frozenset((int, float, complex, str, bytes, bytearray, bool, type(None), ModuleType, type(len), *_CALLABLES))
OPAQUE = frozenset(("WeakKeyDictionary", "WeakValueDictionary", "WeakSet", "ReferenceType", "weakref", "ContextVar",
                    "local", "_local", "Logger", "Thread"))  # fmt: skip
"""Names of classes whose objects lead nowhere: they hold weakly, or hold what is meant to exist once per process."""
